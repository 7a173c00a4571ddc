"""Launches runs as Dagster does by itself, and tells run monitoring which of them are dead.

Dagster's own launcher leaves that to the code server that started the process: if that dies too, as with the
machine, the run would be shown as running for ever and keep its place in its pools.
"""

from __future__ import annotations

import socket

import dagster as dg
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus

from pipeline.defs.run_processes import process_of

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
        process = process_of(self._instance, run.run_id) if run.tags.get(HOST_TAG) == this_host() else None
        if process is None or process.is_alive():
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"Its process {process.pid} is gone: killed, or out of memory."
        )
