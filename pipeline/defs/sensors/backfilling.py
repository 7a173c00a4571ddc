"""The backfill of snippet_embeddings after a promotion: a real one, seen under "Backfills"."""

import time
from collections.abc import Sequence

import dagster as dg

# The web page makes backfills of the same class; Dagster has no public name for it.
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster._core.storage.tags import BACKFILL_ID_TAG, SENSOR_NAME_TAG
from dagster._core.utils import make_new_backfill_id

from pipeline.corpus.repositories import Repository
from pipeline.defs.partitions import repository_partitions
from pipeline.defs.sensors.asking import ATTEMPTS, KEY_TAG
from pipeline.promotion.registry import ModelRecord, list_events
from pipeline.workbench import Workbench

EMBEDDINGS = dg.AssetKey("snippet_embeddings")
ENDED_WELL = {BulkActionStatus.COMPLETED, BulkActionStatus.COMPLETED_SUCCESS}
ENDED_BADLY = {BulkActionStatus.FAILED, BulkActionStatus.COMPLETED_FAILED}


def embed_everything(
    instance: dg.DagsterInstance,
    workbench: Workbench,
    model: ModelRecord,
    repositories: Sequence[Repository],
    lacking: Sequence[Repository],
) -> dg.SkipReason | None:
    """Launches the backfill of an approved model unless it is under way, or says what became of it.

    Every repository takes part in the first; those that failed in it are tried again, ATTEMPTS times in all.
    A backfill that a person cancelled, or one of whose runs was, is left alone: until they re-execute it,
    launch another or promote the model again. None: it ended well, and what lacks vectors now came later.
    """
    known = backfills_of(instance, workbench, model)
    left = f"{len(lacking)} of {len(repositories)} repositories are not embedded with {model.name} yet"
    if known:
        newest = known[0]
        if newest.status in ENDED_WELL:
            return None
        why = given_up(instance, known)
        if why is not None:
            return dg.SkipReason(f"{why} {left[0].upper()}{left[1:]}.")
        if newest.status not in ENDED_BADLY:
            return dg.SkipReason(f"The backfill {newest.backfill_id} is under way; {left}.")
    chosen = lacking if known else repositories
    backfill_id = make_new_backfill_id()
    names = repository_partitions.subset_with_partition_keys(sorted(each.name for each in chosen))
    instance.add_backfill(
        PartitionBackfill.from_asset_graph_subset(
            backfill_id=backfill_id,
            backfill_timestamp=time.time(),
            tags={KEY_TAG: approval_of(workbench, model), SENSOR_NAME_TAG: "index_upkeep"},
            dynamic_partitions_store=instance,
            asset_graph_subset=AssetGraphSubset(partitions_subsets_by_asset_key={EMBEDDINGS: names}),
            title=f"Embed everything with {model.name}",
            description=f"{model.name} ({model.version[:12]}) was approved. When every repository is "
            "embedded with it, its index is built and verified, and serves.",
            run_config=None,
        )
    )
    return dg.SkipReason(f"The backfill {backfill_id} was launched now; {left}.")


def backfills_of(
    instance: dg.DagsterInstance, workbench: Workbench, model: ModelRecord
) -> Sequence[PartitionBackfill]:
    """Those of its last approval, the newest first; also those that somebody re-executed."""
    return instance.get_backfills(filters=BulkActionsFilter(tags={KEY_TAG: approval_of(workbench, model)}))


def given_up(instance: dg.DagsterInstance, known: Sequence[PartitionBackfill]) -> str | None:
    """Why no other backfill is launched by itself, and what to do; None if one may be, or is under way."""
    newest = known[0]
    badly = newest.status in ENDED_BADLY
    if newest.status == BulkActionStatus.CANCELED or (
        badly and _a_run_was_cancelled(instance, newest.backfill_id)
    ):
        return (
            f"The backfill {newest.backfill_id} was cancelled: re-execute it under Backfills, or promote the "
            "model again."
        )
    if badly and len(known) >= ATTEMPTS:
        return (
            f"The backfill {newest.backfill_id} failed, like {len(known) - 1} before it: see its runs under "
            "Backfills, and retry it there."
        )
    return None


def approved_at(workbench: Workbench, model: ModelRecord) -> str:
    """When it was approved last: each approval is a promotion of its own."""
    events = list_events(workbench.db, model.version)
    return next((event.at.isoformat() for event in events if event.to_state == "approved"), "")


def approval_of(workbench: Workbench, model: ModelRecord) -> str:
    """Which approval of which version: what is done for one is begun anew for the next."""
    return f"{model.version} approved {approved_at(workbench, model)}"


def _a_run_was_cancelled(instance: dg.DagsterInstance, backfill_id: str) -> bool:
    filters = dg.RunsFilter(tags={BACKFILL_ID_TAG: backfill_id}, statuses=[dg.DagsterRunStatus.CANCELED])
    return bool(instance.get_runs(filters=filters, limit=1))
