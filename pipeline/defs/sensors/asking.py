"""How a sensor asks for a run: once for each thing, and not again against a person's will."""

import time
from collections.abc import Iterable, Sequence

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from pipeline.defs.clock import SLACK_SECONDS

RUNNING = dg.DefaultSensorStatus.RUNNING
# How often the same thing is tried when it fails, and how many runs one tick asks for.
ATTEMPTS = 3
RUNS_PER_TICK = 20
UNDER_WAY = dg.SkipReason("A run of the whole loop is under way; it may be doing this.")
# Jobs that do what another one does, and more.
ALSO_DONE_BY = {"embed_repository": ["index_repository"]}
KEY_TAG = "honeloop/for"


def is_over(since: float, seconds: float) -> bool:
    """Whether so many seconds have passed since then.

    A time well ahead of the clock counts as long past: the clock was put back, and what waits for it would
    wait for as long.
    """
    return not -SLACK_SECONDS <= time.time() - since < seconds


def once(
    instance: dg.DagsterInstance,
    job: str,
    key: str,
    *,
    partition: str | None = None,
) -> dg.RunRequest | dg.SkipReason:
    """A request for one run of `job` for `key`, unless one is under way, was cancelled, or ATTEMPTS failed.

    Under way for anything: what it is about now may be what it will have done. Only people cancel runs: what
    they cancelled is not started again for the same thing. Dagster never asks twice for one run key, so each
    attempt has its own.
    """
    of_partition = {"dagster/partition": partition} if partition is not None else {}
    named = f"{job}{f' of {partition}' if partition else ''}"
    for same in (job, *ALSO_DONE_BY.get(job, ())):
        unfinished = dg.RunsFilter(job_name=same, tags=of_partition, statuses=NOT_FINISHED_STATUSES)
        if instance.get_runs(filters=unfinished, limit=1):
            return dg.SkipReason(f"{same} is under way{f' for {partition}' if partition else ''}.")
    runs = instance.get_runs(filters=dg.RunsFilter(job_name=job, tags={KEY_TAG: key}), limit=ATTEMPTS)
    if runs and runs[0].status == dg.DagsterRunStatus.CANCELED:
        return dg.SkipReason(f"{named} was cancelled; launch it by hand when it is wanted after all.")
    failed = sum(not run.is_success for run in runs)
    if failed >= ATTEMPTS:
        return dg.SkipReason(
            f"{named} failed {failed} times for the same reason to run ({key}); see its last run, and launch "
            "it by hand to try again."
        )
    return dg.RunRequest(
        run_key=f"{job} {key} after {runs[0].run_id if runs else 'none'}",
        job_name=job,
        partition_key=partition,
        tags={KEY_TAG: key},
    )


def wanted_of(asked: Iterable[dg.RunRequest | dg.SkipReason]) -> list[dg.RunRequest]:
    """The requests among them, as many as one tick may make."""
    return [each for each in asked if isinstance(each, dg.RunRequest)][:RUNS_PER_TICK]


def reasons_of(asked: Sequence[dg.RunRequest | dg.SkipReason]) -> str:
    """The reasons among them, in one sentence after the other."""
    said = [str(each.skip_message) for each in asked if isinstance(each, dg.SkipReason)]
    return " ".join(dict.fromkeys(said))
