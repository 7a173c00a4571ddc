"""The clock goes back, and nights are of some time zone: nothing stands still for it, nothing is done twice.

The daemon's side is tried with the daemon's own functions, on the real definitions.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import launch_scheduled_runs
from dagster._utils.schedules import schedule_execution_time_iterator

from assets_tests.defs.test_new_commits import read
from assets_tests.defs.ticking import serve, tick, with_settings
from assets_tests.index.ageing import measured_before
from pipeline.checks import CHECKS, Subject
from pipeline.config import PROJECT_ROOT, Settings
from pipeline.corpus.repositories import Repository
from pipeline.defs import sensors
from pipeline.defs.clock import forget_the_future
from pipeline.defs.examining import examine_runs
from pipeline.defs.instance import open_instance
from pipeline.defs.schedules import NIGHTLY
from pipeline.doctor.findings import Examination, mended
from pipeline.encoders.encoder import Encoder
from pipeline.workbench import Workbench

DAY = 86_400.0
YEAR = 365 * DAY
SENSORS = {sensor.name for sensor in sensors.sensors}
_log = logging.getLogger(__name__)


@pytest.fixture
def daemon(
    instance: dg.DagsterInstance, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WorkspaceProcessContext]:
    """What the daemon works on: the definitions in a code server of their own, with this test's database."""
    monkeypatch.setenv("HONELOOP_HOME", str(settings.home))
    monkeypatch.setenv("HONELOOP_DATABASE_URL", str(settings.database_url))
    target = WorkspaceFileTarget([str(PROJECT_ROOT / "workspace.yaml")])
    with create_test_daemon_workspace_context(target, instance) as context:
        yield context


def ask_sensors(daemon: WorkspaceProcessContext) -> set[str]:
    """A round of the daemon; which sensors have been asked in all."""
    list(execute_sensor_iteration(daemon, _log, None, None))
    instance = daemon.instance
    return {
        tick.instigator_name
        for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id)
    }


def keep_time(daemon: WorkspaceProcessContext, until: datetime) -> list[tuple[str, datetime]]:
    """A round of the daemon's scheduler; which ticks there are in all."""
    list(launch_scheduled_runs(daemon, _log, until, {}))
    instance = daemon.instance
    return sorted(
        (tick.instigator_name, datetime.fromtimestamp(tick.timestamp, UTC))
        for state in schedules_of(instance)
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id)
    )


def schedules_of(instance: dg.DagsterInstance) -> list[InstigatorState]:
    return list(instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE))


def add_tick(instance: dg.DagsterInstance, name: str, at: datetime) -> None:
    """As the scheduler writes down that a schedule had its turn."""
    (state,) = (state for state in schedules_of(instance) if state.name == name)
    instance.create_tick(
        TickData(
            instigator_origin_id=state.instigator_origin_id,
            instigator_name=state.name,
            instigator_type=InstigatorType.SCHEDULE,
            status=TickStatus.SKIPPED,
            timestamp=at.timestamp(),
            selector_id=state.selector_id,
        )
    )


@pytest.mark.slow  # a code server is started
def test_sensors_that_were_asked_in_a_year_are_asked_now(daemon: WorkspaceProcessContext):
    instance = daemon.instance
    assert ask_sensors(daemon) == SENSORS
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        data = state.instigator_data
        assert isinstance(data, SensorInstigatorData)
        instance.purge_ticks(state.instigator_origin_id, state.selector_id, before=time.time() + DAY)
        ahead = data._replace(last_tick_timestamp=time.time() + YEAR)
        instance.update_instigator_state(state.with_data(ahead))
    assert ask_sensors(daemon) == set()  # this is how Dagster would go on for a year
    said = forget_the_future(instance, time.time())
    assert len(said) == len(SENSORS)
    # Those that are asked every five minutes wait for that.
    quick = {sensor.name for sensor in sensors.sensors if (sensor.minimum_interval_seconds or 0) <= 30}
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        data = state.instigator_data
        assert isinstance(data, SensorInstigatorData)
        before = time.time() - 31
        assert (data.last_tick_timestamp or 0) <= time.time()
        instance.update_instigator_state(
            state.with_data(data._replace(last_tick_timestamp=before, last_tick_start_timestamp=before))
        )
    assert ask_sensors(daemon) == quick
    assert forget_the_future(instance, time.time()) == []


@pytest.mark.slow
def test_a_schedule_that_had_its_turn_in_a_year_has_it_tonight(daemon: WorkspaceProcessContext):
    instance, now = daemon.instance, datetime.now(UTC)
    assert keep_time(daemon, now) == []
    for name in ("nightly_fine_tuning", "daily_expiry"):
        add_tick(instance, name, now + timedelta(days=400))
    tomorrow = now + timedelta(days=1, minutes=1)
    assert all(at > tomorrow for _, at in keep_time(daemon, tomorrow))
    assert len(forget_the_future(instance, now.timestamp())) == 2
    ticks = [(name, at) for name, at in keep_time(daemon, tomorrow) if at.second == 0 and at > now]
    assert [name for name, _ in ticks] == ["daily_expiry", "nightly_fine_tuning"]
    assert forget_the_future(instance, tomorrow.timestamp()) == []


@pytest.mark.slow
def test_an_hour_put_back_does_not_bring_the_same_night_again(daemon: WorkspaceProcessContext):
    instance, now = daemon.instance, datetime.now(UTC)
    keep_time(daemon, now)
    night = (now + timedelta(days=1)).replace(hour=2, minute=0, second=0, microsecond=0)
    add_tick(instance, "nightly_fine_tuning", night)
    put_back = night - timedelta(minutes=30)
    assert forget_the_future(instance, put_back.timestamp()) == []
    ticks = keep_time(daemon, night + timedelta(minutes=10))
    assert [at for name, at in ticks if name == "nightly_fine_tuning"] == [night]
    ticks = keep_time(daemon, night + timedelta(days=1, minutes=10))
    assert [at for name, at in ticks if name == "nightly_fine_tuning"] == [night, night + timedelta(days=1)]


def test_the_doctor_names_what_is_ahead_and_puts_it_back(settings: Settings, workbench: Workbench):
    code = RegisteredCodeLocationOrigin("honeloop")
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(code, "__repository__"), "new_commits")
    asked = SensorInstigatorData(last_tick_timestamp=time.time() + YEAR, cursor="kept")
    with open_instance(settings) as instance:
        state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, asked)
        instance.add_instigator_state(state)
    found = Examination()
    examine_runs(settings, workbench.db, found)
    (finding,) = found.findings
    assert finding.kind == "times that are still to come"
    assert "new_commits" in finding.what
    assert mended(finding).mended
    examine_runs(settings, workbench.db, again := Examination())
    assert again.findings == []
    with open_instance(settings) as instance:
        (state,) = instance.all_instigator_state()
    data = state.instigator_data
    assert isinstance(data, SensorInstigatorData)
    assert (data.last_tick_timestamp or 0) <= time.time()
    assert data.cursor == "kept"


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"])
def test_there_is_one_night_a_day_in_every_zone(zone: str):
    """Also where an hour is left out or comes twice: each day of a year has one, and at two or just after."""
    begin = datetime(2026, 1, 1, tzinfo=ZoneInfo(zone))
    nights = schedule_execution_time_iterator(begin.timestamp(), NIGHTLY, zone, ascending=True)
    times = [next(nights).astimezone(ZoneInfo(zone)) for _ in range(365)]
    days = [at.date() for at in times]
    assert days == [begin.date() + timedelta(days=number) for number in range(365)]
    assert {at.hour for at in times} <= {2, 3}
    assert sum(at.hour == 3 for at in times) <= 1


@pytest.mark.usefixtures("extracted")
def test_each_night_is_asked_for_under_its_own_date(
    workbench: Workbench, instance: dg.DagsterInstance, tmp_path: Path
):
    """The key by which Dagster knows that a night was run is the same, however often that is asked."""
    from assets_tests.defs.test_automation import accept
    from pipeline.defs.schedules import nightly_fine_tuning

    accept(workbench.db, tmp_path, "rolling mean")
    eager = with_settings(workbench, nightly_min_pairs=1)
    keys: list[str | None] = []
    zone = ZoneInfo("Europe/Berlin")
    for at in (
        datetime(2026, 10, 24, 2, tzinfo=zone),
        datetime(2026, 10, 25, 2, fold=0, tzinfo=zone),
        datetime(2026, 10, 25, 2, fold=1, tzinfo=zone),  # two o'clock once more
        datetime(2026, 10, 26, 2, tzinfo=zone),
    ):
        context = dg.build_schedule_context(
            instance=instance, scheduled_execution_time=at, resources={"workbench": eager}
        )
        asked = nightly_fine_tuning.evaluate_tick(context).run_requests or []
        keys += [request.run_key for request in asked]
    assert keys == ["night 2026-10-24", "night 2026-10-25", "night 2026-10-25", "night 2026-10-26"]


def test_new_commits_are_asked_for_whatever_the_cursor_says(
    workbench: Workbench, instance: dg.DagsterInstance, extracted: Repository
):
    read(workbench, instance, extracted)
    first = tick(sensors.new_commits, workbench, instance)
    (due,) = json.loads(first.cursor).values()
    assert "asked lately" in tick(sensors.new_commits, workbench, instance, first.cursor).skip_message
    for ahead in (3600.0, YEAR):
        cursor = json.dumps({str(extracted.id): due + ahead})
        again = tick(sensors.new_commits, workbench, instance, cursor)
        assert "have nothing new" in again.skip_message
        assert json.loads(again.cursor)[str(extracted.id)] < due + 60


def test_a_reading_in_a_year_does_not_put_off_the_daily_one(
    workbench: Workbench, instance: dg.DagsterInstance, extracted: Repository
):
    read(workbench, instance, extracted)
    assert tick(sensors.new_commits, workbench, instance).run_requests == []
    with workbench.db.connect() as connection:
        connection.execute("UPDATE repositories SET extracted_at = now() + interval '1 year'")
    (request,) = tick(sensors.new_commits, workbench, instance).run_requests
    assert "read last at" in str(request.run_key)


def test_an_index_that_is_well_in_a_year_is_looked_at_now(
    workbench: Workbench, instance: dg.DagsterInstance, extracted: Repository, minilm: Encoder
):
    instance.add_dynamic_partitions("repository", [extracted.name])
    serve(workbench.db, minilm, workbench.settings)
    rests = tick(sensors.index_upkeep, workbench, instance)
    known = json.loads(rests.cursor)
    with workbench.db.connect() as connection:
        connection.execute("DELETE FROM embedding_tables")  # nothing is embedded any more
    assert "has every snippet" in tick(sensors.index_upkeep, workbench, instance, rests.cursor).skip_message
    cursor = json.dumps({**known, "at": known["at"] + YEAR})
    (request,) = tick(sensors.index_upkeep, workbench, instance, cursor).run_requests
    assert request.job_name == "embed_repository"


def test_an_index_verified_in_a_year_is_verified_now(
    workbench: Workbench,
    instance: dg.DagsterInstance,
    extracted: Repository,
    minilm: Encoder,
    monkeypatch: pytest.MonkeyPatch,
):
    instance.add_dynamic_partitions("repository", [extracted.name])
    serve(workbench.db, minilm, workbench.settings)
    present = time.time
    with monkeypatch.context() as wrong:
        wrong.setattr(time, "time", lambda: present() + YEAR)
        instance.report_runless_asset_event(dg.AssetMaterialization("search_index"))
    (request,) = tick(sensors.index_upkeep, workbench, instance).run_requests
    assert request.job_name == "refresh_index"
    instance.report_runless_asset_event(dg.AssetMaterialization("search_index"))  # that run's
    assert tick(sensors.index_upkeep, workbench, instance).run_requests == []
    measured_before(workbench.db, hours=-YEAR / 3600)
    (request,) = tick(sensors.index_upkeep, workbench, instance).run_requests
    assert request.job_name == "refresh_index"
    (check,) = [check for check in CHECKS if check.name == "recall_is_enough"]
    assert check.body(Subject(workbench)).passed  # that run's, which does not believe it either
    assert tick(sensors.index_upkeep, workbench, instance).run_requests == []


def test_feedback_that_was_reported_and_is_gone_keeps_no_new_one_back(
    workbench: Workbench, instance: dg.DagsterInstance
):
    """As after an older state of the database was brought back: numbers begin lower again."""
    result = tick(sensors.new_feedback, workbench, instance, cursor="1000")
    assert result.asset_events[0].tags["dagster/data_version"] == "0"
    assert result.cursor == "0"
    assert "No feedback" in tick(sensors.new_feedback, workbench, instance, cursor="0").skip_message
