"""A promotion that a running Dagster finishes: the backfill of the embeddings, the index, the flip."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import dagster as dg

from pipeline.corpus.repositories import Repository, list_repositories
from pipeline.defs.failing import failure_sentences
from pipeline.defs.instance import open_instance
from pipeline.defs.reporting import materialized
from pipeline.defs.sensors.asking import ATTEMPTS
from pipeline.defs.sensors.backfilling import approved_at, backfills_of, given_up
from pipeline.errors import HoneloopError
from pipeline.index.embeddings import count_missing
from pipeline.promotion.registry import ModelRecord
from pipeline.workbench import Workbench

POLL_SECONDS = 3.0  # each look counts what is missing


def wait_until_it_serves(
    bench: Workbench, model: ModelRecord, *, address: str, alive: Callable[[], bool]
) -> tuple[ModelRecord, dict[str, Any]]:
    """Waits until `model`, which was approved, serves; shows how many repositories are embedded with it.

    Ctrl-C ends the waiting, and not the work: a backfill is cancelled in the web page.

    Args:
        bench: Its progress is told.
        model: Approved.
        address: Of Dagster's web server.
        alive: Whether the services there still run.

    Returns:
        Its record, and the metadata of the index that serves.

    Raises:
        HoneloopError: the backfill was cancelled or given up, the index could not be built or somebody
            cancelled that, another model was approved meanwhile, or Dagster went away.
    """
    with open_instance(bench.settings) as instance:
        bench.progress.note(f"Dagster finishes it: {address}/overview/backfills")
        total = len(_read(bench))
        done = 0
        with bench.progress.stage(f"Embedding repositories with {model.name}", total) as advance:
            while (left := _lacking(bench, model)) and _goes_on(bench, instance, model, alive):
                advance(total - left - done)
                done = total - left
                time.sleep(POLL_SECONDS)
            advance(total - done)
        with bench.progress.stage(f"Building the index of {model.name}"):
            while bench.model(model.version).state != "serving" and _goes_on(bench, instance, model, alive):
                time.sleep(POLL_SECONDS)
        built: dict[str, Any] = {}
        while built.get("model_version") != model.version and alive():
            time.sleep(POLL_SECONDS)  # its materialization is recorded right after the flip
            built = materialized(instance, "search_index") or {}
        return bench.model(model.version), built


def _read(bench: Workbench) -> list[Repository]:
    return [each for each in list_repositories(bench.db) if each.extracted_at is not None]


def _lacking(bench: Workbench, model: ModelRecord) -> int:
    """How many repositories are not embedded with the model yet."""
    return sum(count_missing(bench.db, model.version, each) > 0 for each in _read(bench))


def _goes_on(
    bench: Workbench, instance: dg.DagsterInstance, model: ModelRecord, alive: Callable[[], bool]
) -> bool:
    """True; raises HoneloopError when nothing will come of waiting."""
    hint = "The model stays approved: promote it again to begin anew."
    if not alive():
        raise HoneloopError(
            "`honeloop up` ended before the model could serve.", hint="Start it again: it goes on by itself."
        )
    state = bench.model(model.version).state
    if state not in ("approved", "serving"):
        raise HoneloopError(f"{model.name} is {state} by now.", hint="Another model took its place.")
    known = backfills_of(instance, bench, model)
    why = given_up(instance, known) if known else None
    if why is not None:
        raise HoneloopError(why, hint=hint)
    approved = datetime.fromisoformat(approved_at(bench, model))
    builds = instance.get_runs(
        filters=dg.RunsFilter(job_name="refresh_index", created_after=approved), limit=ATTEMPTS
    )
    if builds and builds[0].status == dg.DagsterRunStatus.CANCELED:
        raise HoneloopError(f"Building the index of {model.name} was cancelled.", hint=hint)
    if len(builds) == ATTEMPTS and all(run.status == dg.DagsterRunStatus.FAILURE for run in builds):
        said = " ".join(failure_sentences(instance, builds[0].run_id))
        raise HoneloopError(f"The index of {model.name} could not be built: {said}", hint=hint)
    return True
