"""A run of long ago, whose process had the number that this one has now."""

from __future__ import annotations

import os

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData


def begun_long_ago(instance: dg.DagsterInstance, tags: dict[str, str]) -> dg.DagsterRun:
    """A run of the process with this one's number, before this one was: as number 1 is in every pod."""
    run = instance.add_run(dg.DagsterRun(job_name="fine_tune", status=dg.DagsterRunStatus.STARTED, tags=tags))
    said = DagsterEvent(
        DagsterEventType.ENGINE_EVENT.value,
        job_name=run.job_name,
        message="Started process for run",
        event_specific_data=EngineEventData.in_process(os.getpid()),
    )
    instance.handle_new_event(
        dg.EventLogEntry(
            error_info=None,
            level=10,
            user_message="",
            run_id=run.run_id,
            timestamp=1.0,
            job_name=run.job_name,
            dagster_event=said,
        )
    )
    return run
