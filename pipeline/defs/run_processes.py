"""The processes that work on runs: which one it is, and whether it is still there.

What does not belong here: what is done about one that is gone (launcher.py, dead_runs.py).
"""

from dataclasses import dataclass

import dagster as dg
import psutil


@dataclass(frozen=True)
class RunProcess:
    """A process of this machine.

    Attributes:
        pid: Its number.
        said_at: When it said that it works on the run, in seconds since 1970.
    """

    pid: int
    said_at: float

    def is_alive(self) -> bool:
        """Whether that very process is there: a later one may have been given its number."""
        try:
            process = psutil.Process(self.pid)
            return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= self.said_at + 1
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:  # it is there, and somebody else's
            return True


def process_of(instance: dg.DagsterInstance, run_id: str) -> RunProcess | None:
    """The process that works on a run; None before it said so."""
    records = instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.ENGINE_EVENT, limit=20, ascending=True
    ).records
    for record in records:
        event = record.event_log_entry.dagster_event
        pid = None if event is None else event.engine_event_data.metadata.get("pid")
        if pid is not None:
            return RunProcess(int(str(pid.value)), record.event_log_entry.timestamp)
    return None
