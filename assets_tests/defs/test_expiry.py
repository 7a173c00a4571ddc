"""The daily job: what a tick of the schedule starts really lets old searches expire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg

from pipeline.definitions import defs
from pipeline.workbench import Workbench


def test_the_daily_job_expires_old_searches(workbench: Workbench, instance: dg.DagsterInstance) -> None:
    now = datetime.now(UTC)
    with workbench.db.connect() as connection:
        for days in (10, 200):
            connection.execute(
                "INSERT INTO searches (query, source, user_name, at) VALUES (%s, 'search', 'ann', %s)",
                [f"{days} days old", now - timedelta(days=days)],
            )
    schedule = next(each for each in defs.schedules or [] if each.name == "daily_expiry")
    assert isinstance(schedule, dg.ScheduleDefinition)
    job = defs.resolve_job_def(schedule.job_name)
    assert job.execute_in_process(instance=instance, resources={"workbench": workbench}).success
    with workbench.db.connect() as connection:
        assert connection.execute("SELECT query FROM searches").fetchall() == [("10 days old",)]
        assert connection.execute("SELECT searches FROM search_days").fetchall() == [(1,)]
