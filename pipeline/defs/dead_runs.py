"""Runs that Dagster shows as under way though their process is dead, and the pool slots that ended runs hold.

What does not belong here: what a killed run leaves beyond Dagster's storage (doctor/).

A process that is killed cannot say so, and nobody asks after it while no daemon runs (launcher.py says what
one would be told), or where the loop runs in a process of its own: what waits for such a run, or for its
slot, would never go on.
"""

from collections.abc import Sequence

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from pipeline.defs.launcher import HOST_TAG, this_host
from pipeline.defs.run_processes import process_of
from pipeline.defs.storage import is_on_this_machine

IN_PROCESS_TAG = "honeloop/in_process"
LOOKED_AT = 1000
# A run that waits has no process yet, and needs none.
_HAS_PROCESS = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)


def dead_runs(instance: dg.DagsterInstance, *, others_in_process: bool) -> list[dg.DagsterRun]:
    """The runs that are shown as under way, and whose process has ended. It has to have been on this machine.

    Args:
        instance: Whose runs.
        others_in_process: Whether another process may be at the loop (in_process.py): then what it runs is
            left out, whatever became of it.
    """
    unfinished = instance.get_runs(filters=dg.RunsFilter(statuses=NOT_FINISHED_STATUSES), limit=LOOKED_AT)
    return [
        run
        for run in unfinished
        if (not others_in_process if is_in_process(run) else _process_has_ended(instance, run))
    ]


def close_dead_runs(instance: dg.DagsterInstance, *, others_in_process: bool) -> list[dg.DagsterRun]:
    """Ends them in Dagster's storage, frees their slots, and returns them."""
    closed = dead_runs(instance, others_in_process=others_in_process)
    for run in closed:
        close_run(instance, run)
    return closed


def close_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Ends a run whose process is dead: as failed, so that it may be retried; as cancelled if of the loop."""
    said = "Its process was killed before it could end."
    if is_in_process(run):
        instance.report_run_canceled(run, message=said)
    else:
        instance.report_run_failed(run, message=said)
    free_slots(instance, run.run_id)


def runs_with_slots(instance: dg.DagsterInstance) -> list[str]:
    """The ids of runs that hold or wait for a slot of a pool although they have ended, or are gone."""
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return []
    found: set[str] = set()
    for key in storage.get_concurrency_keys():
        info = storage.get_concurrency_info(key)
        found |= {each.run_id for each in (*info.claimed_slots, *info.pending_steps)}
    runs = {run_id: instance.get_run_by_id(run_id) for run_id in sorted(found)}
    return [run_id for run_id, run in runs.items() if run is None or run.is_finished]


def free_slots(instance: dg.DagsterInstance, run_id: str) -> None:
    """Frees all slots of a run."""
    if instance.event_log_storage.supports_global_concurrency_limits:
        instance.event_log_storage.free_concurrency_slots_for_run(run_id)


def named(run: dg.DagsterRun) -> str:
    """A run as people know it: what it materializes, of which repository, and the beginning of its id."""
    what: Sequence[str] = sorted(key.to_user_string() for key in run.asset_selection or ())
    partition = run.tags.get("dagster/partition")
    return (
        f"{', '.join(what) or run.job_name}{f' ({partition})' if partition else ''}, run {run.run_id[:8]},"
        f" {run.status.value.lower()}"
    )


def is_in_process(run: dg.DagsterRun) -> bool:
    """Whether it is a step of the loop in one process, which a lock stands for.

    The tag names the run: Dagster gives a run that is executed again, by a launcher, all tags of the first.
    """
    return run.tags.get(IN_PROCESS_TAG) == run.run_id


def _process_has_ended(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """What runs elsewhere, or may, or has no process yet, has not."""
    if run.status not in _HAS_PROCESS or not _was_here(instance, run):
        return False
    process = process_of(instance, run.run_id)
    return process is not None and not process.is_alive()


def _was_here(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether it is certain that a run's process is, or was, of this machine.

    Only WatchedRunLauncher and the loop say where they are. K8sRunLauncher's runs are in a pod each, where
    the process is number 1, as another is in every other pod. Where nobody else can reach the storage, also
    what says no place was here, as `dagster job execute`.
    """
    host = run.tags.get(HOST_TAG)
    return is_on_this_machine(instance) if host is None else host == this_host()
