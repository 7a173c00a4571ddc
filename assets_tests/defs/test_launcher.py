"""Run monitoring is told which runs are dead: of real processes, killed."""

from __future__ import annotations

import subprocess
import sys

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._core.launcher.base import WorkerStatus

from assets_tests.defs.old_runs import begun_long_ago
from pipeline.defs.launcher import HOST_TAG, WatchedRunLauncher, this_host


def started_in(instance: dg.DagsterInstance, pid: int, host: str) -> dg.DagsterRun:
    """A run that a process says it works on, as Dagster's own do."""
    run = instance.add_run(
        dg.DagsterRun(job_name="index_repository", status=dg.DagsterRunStatus.STARTED, tags={HOST_TAG: host})
    )
    instance.report_engine_event(
        f"Started process for run (pid: {pid}).", run, EngineEventData.in_process(pid)
    )
    return run


def status_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> WorkerStatus:
    launcher = WatchedRunLauncher()
    launcher.register_instance(instance)
    assert launcher.supports_check_run_worker_health
    return launcher.check_run_worker_health(run).status


def test_a_killed_process_is_found_dead_and_a_living_one_alive(instance: dg.DagsterInstance):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    run = started_in(instance, process.pid, this_host())
    assert status_of(instance, run) == WorkerStatus.RUNNING
    process.kill()
    process.wait()
    assert status_of(instance, run) == WorkerStatus.FAILED


def test_a_later_process_with_the_same_number_is_not_taken_for_it(instance: dg.DagsterInstance):
    run = begun_long_ago(instance, {HOST_TAG: this_host()})
    assert status_of(instance, run) == WorkerStatus.FAILED


def test_what_cannot_be_known_counts_as_running(instance: dg.DagsterInstance):
    elsewhere = started_in(instance, 2**22 + 1, "another-machine")
    assert status_of(instance, elsewhere) == WorkerStatus.RUNNING
    unsaid = instance.add_run(
        dg.DagsterRun(job_name="fine_tune", status=dg.DagsterRunStatus.STARTED, tags={HOST_TAG: this_host()})
    )
    assert status_of(instance, unsaid) == WorkerStatus.RUNNING
