"""Sensors of what people did with search results."""

import json

import dagster as dg

from pipeline.defs import jobs
from pipeline.defs.alone import run_under_way
from pipeline.defs.sensors.asking import RUNNING, UNDER_WAY, once
from pipeline.defs.upstream import feedback_learned
from pipeline.feedback.news import count_new_pairs, newest_feedback_id
from pipeline.workbench import Workbench


@dg.sensor(
    name="new_feedback",
    minimum_interval_seconds=30,
    default_status=RUNNING,
    description="Reports new feedback as a materialization of search_feedback, the highest id its data "
    "version.",
)
def new_feedback(
    context: dg.SensorEvaluationContext, workbench: dg.ResourceParam[Workbench]
) -> dg.SensorResult | dg.SkipReason:
    """The cursor is the highest id reported. It is lower again when the newest were forgotten, or after an
    older state of the database was brought back.
    """
    newest = newest_feedback_id(workbench.db)
    reported = int(context.cursor or 0)
    if newest == reported:
        return dg.SkipReason(f"No feedback after number {reported}.")
    return dg.SensorResult(
        asset_events=[
            dg.AssetMaterialization(
                asset_key="search_feedback",
                metadata={"highest_id": newest, "new": max(0, newest - reported)},
                tags={"dagster/data_version": str(newest)},
            )
        ],
        cursor=str(newest),
    )


@dg.sensor(
    name="enough_new_feedback",
    job=jobs.fine_tune,
    minimum_interval_seconds=300,
    default_status=RUNNING,
    description="Fine-tunes early, without waiting for the night, when there is much new feedback "
    "(HONELOOP_EARLY_FINETUNE_PAIRS).",
)
def enough_new_feedback(
    context: dg.SensorEvaluationContext, workbench: dg.ResourceParam[Workbench]
) -> dg.SensorResult | dg.RunRequest | dg.SkipReason:
    """Once for each state of the feedback that is enough.

    The cursor keeps the last count, which is not cheap, and what it was a count of.
    """
    if run_under_way(workbench.db):
        return UNDER_WAY
    settings = workbench.settings
    if settings.finetune_disabled:
        return dg.SkipReason("HONELOOP_FINETUNE_DISABLED is set.")
    counted = {"through": newest_feedback_id(workbench.db), "since": feedback_learned(context.instance)}
    known = json.loads(context.cursor or "{}")
    new = known.pop("new", None)
    if new is None or known != counted:
        new = count_new_pairs(workbench.db, settings, counted["since"])
    cursor = json.dumps({**counted, "new": new})
    if new < settings.early_finetune_pairs:
        return dg.SensorResult(
            skip_reason=f"{new} new pairs from feedback; {settings.early_finetune_pairs} start fine-tuning "
            "early.",
            cursor=cursor,
        )
    asked = once(context.instance, "fine_tune", f"feedback up to {counted['through']}")
    if isinstance(asked, dg.SkipReason):
        return asked
    return dg.SensorResult(run_requests=[asked], cursor=cursor)
