"""The sensor that brings the index to the approved model and the present snippets."""

import json
import time
from collections.abc import Sequence

import dagster as dg

from pipeline.corpus.repositories import Repository, list_repositories
from pipeline.defs import jobs
from pipeline.defs.alone import run_under_way
from pipeline.defs.partitions import REPOSITORIES
from pipeline.defs.reporting import last_version, materialized_at
from pipeline.defs.sensors.asking import RUNNING, UNDER_WAY, is_over, once, reasons_of, wanted_of
from pipeline.defs.sensors.backfilling import approval_of, approved_at, embed_everything
from pipeline.index.checks import is_up_to_date
from pipeline.index.embeddings import count_missing
from pipeline.index.measured import serving_measured_at
from pipeline.promotion.registry import ModelRecord
from pipeline.workbench import Workbench

# So long it is believed, while nothing it rests on has changed, that nothing is missing.
BELIEVED_SECONDS = 600


@dg.sensor(
    name="index_upkeep",
    jobs=[jobs.embed_repository, jobs.refresh_index],
    minimum_interval_seconds=30,
    default_status=RUNNING,
    description="Brings the index to the approved model and the present snippets: after a promotion by a "
    "backfill of snippet_embeddings over all repositories, else by a run for each that lacks vectors. Then "
    "it builds, verifies and flips.",
)
def index_upkeep(
    context: dg.SensorEvaluationContext, workbench: dg.ResourceParam[Workbench]
) -> dg.SensorResult | dg.SkipReason:
    """Embedding first; the index when nothing lacks anything. The cursor is the state in which all was well,
    and when that was found.
    """
    if run_under_way(workbench.db):
        return UNDER_WAY
    repositories = [each for each in list_repositories(workbench.db) if each.extracted_at is not None]
    if not repositories:
        return dg.SkipReason("No repository was read yet.")
    model = workbench.target_model()
    events = _promotion_by_hand(context.instance, workbench, model)
    asked = _asked(context, workbench, model, repositories)
    if isinstance(asked, dg.SensorResult):
        return asked._replace(asset_events=events)
    wanted = wanted_of(asked)
    if wanted:
        return dg.SensorResult(run_requests=wanted, asset_events=events)
    return dg.SensorResult(skip_reason=reasons_of(asked), asset_events=events)


def _asked(
    context: dg.SensorEvaluationContext,
    workbench: Workbench,
    model: ModelRecord,
    repositories: Sequence[Repository],
) -> dg.SensorResult | list[dg.RunRequest | dg.SkipReason]:
    db, instance = workbench.db, context.instance
    newest = max(str(each.extracted_at) for each in repositories)
    # Promoted again, it is tried again, however often its index could not be built before.
    of = approval_of(workbench, model) if model.state == "approved" else f"{model.version} {model.state}"
    state = f"{of} {len(repositories)} {newest}"
    well = dg.SkipReason(f"The index of {model.name} serves and has every snippet.")
    known = json.loads(context.cursor or "{}")
    recheck = _recheck(instance, workbench, state)
    if known.get("state") == state and not is_over(known["at"], BELIEVED_SECONDS):
        return [recheck or well]
    lacking = [each for each in repositories if count_missing(db, model.version, each)]
    if lacking:
        return _embedding(context, workbench, model, repositories, lacking)
    if not is_up_to_date(db, model.version):
        return [once(instance, "refresh_index", state)]
    if recheck is not None:
        return [recheck]
    return dg.SensorResult(skip_reason=well, cursor=json.dumps({"state": state, "at": int(time.time())}))


def _embedding(
    context: dg.SensorEvaluationContext,
    workbench: Workbench,
    model: ModelRecord,
    repositories: Sequence[Repository],
    lacking: Sequence[Repository],
) -> list[dg.RunRequest | dg.SkipReason]:
    partitions = set(context.instance.get_dynamic_partitions(REPOSITORIES))
    unknown = [each.name for each in lacking if each.name not in partitions]
    if unknown:
        said = f"{', '.join(unknown)} has no partition yet: registered_repositories makes it."
        return [dg.SkipReason(said)]
    if model.state == "approved":
        became = embed_everything(context.instance, workbench, model, repositories, lacking)
        if became is not None:
            return [became]
    return [
        once(
            context.instance,
            "embed_repository",
            f"{model.version} {each.name} {each.extracted_at}",
            partition=each.name,
        )
        for each in lacking
    ]


def _recheck(
    instance: dg.DagsterInstance, workbench: Workbench, state: str
) -> dg.RunRequest | dg.SkipReason | None:
    """What serves is verified again after HONELOOP_RECHECK_HOURS, by the asset's checks; None before.

    Its recall too, which a run in between does not measure again.
    """
    made = materialized_at(instance, "search_index")
    if made is None:
        return None
    times = (made, serving_measured_at(workbench.db))
    seconds = workbench.settings.recheck_hours * 3600
    over = [each for each in times if each is not None and is_over(each, seconds)]
    if not over:
        return None
    last = min(over)
    # A run that finds the recall too low leaves `last` as it is, and comes again only that much later.
    periods = int((time.time() - last) // seconds)
    return once(
        instance, "refresh_index", f"{state}, verified last at {round(last)}, {periods} times overdue"
    )


def _promotion_by_hand(
    instance: dg.DagsterInstance, workbench: Workbench, model: ModelRecord
) -> list[dg.AssetMaterialization]:
    """`honeloop promote` and `rollback` change outside Dagster what is to serve; it is told, so that what
    follows from it is stale.
    """
    reported = last_version(instance, "promoted_model")
    if reported == model.version:
        return []
    if reported is None and not approved_at(workbench, model):
        return []  # the first to serve was never promoted
    return [
        dg.AssetMaterialization(
            "promoted_model",
            description=f"{model.name} is {model.state} by a decision outside Dagster.",
            metadata={"model_version": model.version, "model": model.name, "state": model.state},
            tags={"dagster/data_version": model.version},
        )
    ]
