"""Launches runs as Dagster does by itself, and tells run monitoring which of them are dead.

Dagster's own launcher leaves that to the code server that started the process: if that dies too, as with the
machine, the run would be shown as running for ever and keep its place in its pools.
"""

from __future__ import annotations

import socket

import dagster as dg
import psutil
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus

HOST_TAG = "honeloop/host"


def this_host() -> str:
    """The name under which runs of this machine, or container, are known."""
    return socket.gethostname()


class WatchedRunLauncher(dg.DefaultRunLauncher):
    """Says of a run whose process is gone that it is dead; also of one that began outside the queue."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring asks only then."""
        return True

    def launch_run(self, context: LaunchRunContext) -> None:
        """As Dagster does it, and notes where."""
        self._instance.add_run_tags(context.dagster_run.run_id, {HOST_TAG: this_host()})
        super().launch_run(context)

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """FAILED if its process is gone. What cannot be told, as of another machine, counts as running."""
        found = _process_of(self._instance, run.run_id) if run.tags.get(HOST_TAG) == this_host() else None
        if found is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        pid, began = found
        if _is_alive(pid, began):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"Its process {pid} is gone: killed, or out of memory."
        )


def _process_of(instance: dg.DagsterInstance, run_id: str) -> tuple[int, float] | None:
    """The process that works on a run, and when it said so, in seconds since 1970; None before it did."""
    records = instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.ENGINE_EVENT, limit=20, ascending=True
    ).records
    for record in records:
        event = record.event_log_entry.dagster_event
        pid = None if event is None else event.engine_event_data.metadata.get("pid")
        if pid is not None:
            return int(str(pid.value)), record.event_log_entry.timestamp
    return None


def _is_alive(pid: int, began: float) -> bool:
    """Whether that very process is there: a later one may have been given its number."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= began + 1
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # it is there, and somebody else's
        return True
