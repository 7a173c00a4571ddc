"""Which runs count as dead: only those whose process is certain to have been on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from psycopg.conninfo import conninfo_to_dict

from assets_tests.defs.old_runs import begun_long_ago
from pipeline.config import Settings
from pipeline.defs.dead_runs import close_dead_runs, is_in_process
from pipeline.defs.in_process import Loop
from pipeline.defs.instance import open_instance
from pipeline.defs.launcher import HOST_TAG, this_host
from pipeline.progress import Silent


@pytest.fixture
def through_a_proxy(settings: Settings, tmp_path: Path) -> Settings:
    """The same server at a socket without a server's files beside it, as the proxy of a cloud's has it."""
    assert settings.database_url is not None
    directory = str(conninfo_to_dict(settings.database_url)["host"])
    (tmp_path / "proxy").mkdir()
    (tmp_path / "proxy" / ".s.PGSQL.5432").symlink_to(Path(directory) / ".s.PGSQL.5432")
    url = settings.database_url.replace(directory, str(tmp_path / "proxy"))
    assert url != settings.database_url
    return settings.model_copy(update={"database_url": url})


def test_a_run_that_says_no_place_may_be_in_another_pod(through_a_proxy: Settings) -> None:
    """K8sRunLauncher does not say where: a pod's process 1 is not this pod's, and the run is alive."""
    with open_instance(through_a_proxy) as instance:
        in_a_pod = begun_long_ago(instance, {}).run_id
        elsewhere = begun_long_ago(instance, {HOST_TAG: "another-machine"}).run_id
        here = begun_long_ago(instance, {HOST_TAG: this_host()}).run_id
        closed = close_dead_runs(instance, others_in_process=False)
        assert [run.run_id for run in closed] == [here]
        states = {run.run_id: run.status for run in instance.get_runs()}
    assert states == {
        in_a_pod: dg.DagsterRunStatus.STARTED,
        elsewhere: dg.DagsterRunStatus.STARTED,
        here: dg.DagsterRunStatus.FAILURE,
    }


def test_on_the_embedded_server_every_run_is_of_this_machine(settings: Settings) -> None:
    """`dagster job execute` says no place either, and nobody elsewhere can reach this server."""
    with open_instance(settings) as instance:
        run_id = begun_long_ago(instance, {}).run_id
        assert [run.run_id for run in close_dead_runs(instance, others_in_process=False)] == [run_id]


def test_a_step_of_the_loop_that_is_executed_again_is_a_run_of_its_own(settings: Settings) -> None:
    """As from the web page: a launcher's process does it, and Dagster gives it all tags of the first."""
    with Loop.running(settings, Silent()) as loop:
        assert not loop.refresh_index()  # there is nothing to index, which fails it
        run_id = loop.result.run_ids[0]
    with open_instance(settings) as instance:
        first = instance.get_run_by_id(run_id)
        assert first is not None
        assert is_in_process(first)
        again = instance.add_run(
            dg.DagsterRun(job_name=first.job_name, status=dg.DagsterRunStatus.STARTED, tags=first.tags)
        )
        instance.report_engine_event("Started", again, EngineEventData.in_process(os.getpid()))
        assert close_dead_runs(instance, others_in_process=False) == []
