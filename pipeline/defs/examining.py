"""What a crash can leave in Dagster's storage, as findings of the doctor.

What does not belong here: how a dead run is told from one that lives (dead_runs.py).
"""

import time
from functools import partial

from dagster import DagsterInstance

from pipeline.config import Settings
from pipeline.defs.alone import only_one, run_under_way
from pipeline.defs.clock import ahead, forget_the_future
from pipeline.defs.dead_runs import (
    close_run,
    dead_runs,
    free_slots,
    is_in_process,
    named,
    runs_with_slots,
)
from pipeline.defs.instance import open_instance
from pipeline.doctor.findings import Examination, Finding
from pipeline.store.connections import Database
from pipeline.store.server import dagster_database


def examine_runs(settings: Settings, db: Database, found: Examination) -> None:
    """Looks for runs without a process and for slots without a run; nothing if Dagster has no database yet.

    Args:
        settings: Their database URL is the one of `db`.
        db: Honeloop's own.
        found: What is found is added to it.
    """
    with db.connect() as connection:
        known = connection.execute(
            "SELECT FROM pg_database WHERE datname = %s", [dagster_database(settings)]
        ).fetchone()
    if known is None:
        return
    busy = run_under_way(db)
    if busy:
        found.notes.append("A run of the loop is under way; it is left alone.")
    with open_instance(settings) as instance:
        dead = dead_runs(instance, others_in_process=busy)
        holding = runs_with_slots(instance)
        waiting = ahead(instance, time.time())
    found.add(
        Finding(
            "run without a process",
            f"Dagster shows {named(run)}; its process has ended.",
            partial(_close, settings, db, run.run_id, in_process=is_in_process(run)),
        )
        for run in dead
    )
    found.add(
        Finding(
            "slot without a run",
            f"The run {run_id[:8]} has ended, and holds slots of a pool.",
            partial(_free, settings, run_id),
        )
        for run_id in holding
    )
    if waiting:
        names = ", ".join(sorted(state.name for state in waiting))
        found.add(
            [
                Finding(
                    "times that are still to come",
                    f"Dagster would ask {names} again only when the clock, which was put back, is there.",
                    partial(_forget_the_future, settings),
                )
            ]
        )


def _close(settings: Settings, db: Database, run_id: str, *, in_process: bool) -> None:
    with open_instance(settings) as instance:
        if in_process:
            with only_one(db):
                _close_if_dead(instance, run_id, others_in_process=False)
        else:
            _close_if_dead(instance, run_id, others_in_process=True)


def _close_if_dead(instance: DagsterInstance, run_id: str, *, others_in_process: bool) -> None:
    for run in dead_runs(instance, others_in_process=others_in_process):
        if run.run_id == run_id:
            close_run(instance, run)


def _forget_the_future(settings: Settings) -> None:
    with open_instance(settings) as instance:
        forget_the_future(instance, time.time())


def _free(settings: Settings, run_id: str) -> None:
    with open_instance(settings) as instance:
        if run_id in runs_with_slots(instance):
            free_slots(instance, run_id)
