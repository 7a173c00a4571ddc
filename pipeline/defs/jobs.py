"""Jobs: what is run together from the web page, by schedules and by sensors.

What does not belong here: when they run (schedules.py, sensors.py), and how the whole loop runs in one
process (in_process.py), which is what the job `whole_loop` calls.

A run has one partition or none, so the loop is cut where it passes from one repository to all of them, and
back.
"""

import dagster as dg

from pipeline.defs.in_process import run_loop
from pipeline.defs.reporting import reported
from pipeline.feedback.expiring import expire_searches
from pipeline.workbench import Workbench

EMBED_TAG = "honeloop/embed"
FINE_TUNE_TAG = "honeloop/fine_tune"

index_repository = dg.define_asset_job(
    "index_repository",
    selection=dg.AssetSelection.assets("snippets", "snippet_embeddings"),
    tags={EMBED_TAG: "true"},
    description="Reads one repository and embeds what is new in it. Then launch refresh_index, or let its "
    "sensor.",
)

embed_repository = dg.define_asset_job(
    "embed_repository",
    selection=dg.AssetSelection.assets("snippet_embeddings"),
    tags={EMBED_TAG: "true"},
    description="Embeds one repository's snippets with the model that is to serve, without reading it again.",
)

refresh_index = dg.define_asset_job(
    "refresh_index",
    selection=dg.AssetSelection.assets("search_index"),
    description="Builds or extends the index of the model that is to serve, verifies it, and lets it serve.",
)

fine_tune = dg.define_asset_job(
    "fine_tune",
    selection=dg.AssetSelection.assets(
        "training_set", "fine_tuned_model", "model_checkpoint", "model_evaluation"
    ),
    tags={FINE_TUNE_TAG: "true"},
    description="Training set, fine-tuning, checkpoint, evaluation. If the candidate passes, the sensor "
    "passed_evaluation launches promote.",
)

promote = dg.define_asset_job(
    "promote",
    selection=dg.AssetSelection.assets("promoted_model"),
    description="The gate's verdict on the candidate that was evaluated last.",
)


@dg.op(description="The same as `honeloop run`.")
def the_whole_loop(context: dg.OpExecutionContext, workbench: dg.ResourceParam[Workbench]) -> None:
    """Each step is a run of its own, seen in the list of runs."""
    with reported(context.log, workbench.progress) as progress:
        run_loop(workbench.settings, progress).raise_for_failure()


@dg.job(
    description="The whole loop once: every repository, the index, fine-tuning, the gate, and what it "
    "approves. Each step is a run of its own.",
    tags={FINE_TUNE_TAG: "true"},
    executor_def=dg.in_process_executor,
)
def whole_loop() -> None:
    """One op: a run has one partition or none, and the loop has them all."""
    the_whole_loop()


@dg.op(description="The same as `honeloop feedback expire`.")
def expire_old_searches(context: dg.OpExecutionContext, workbench: dg.ResourceParam[Workbench]) -> None:
    """Old searches are deleted, or lose their names; the counts are in the run's log."""
    with reported(context.log, workbench.progress) as progress:
        done = expire_searches(workbench.db, workbench.settings, progress=progress)
        progress.note(
            f"Searches before {done.before}: {done.deleted:,} deleted, {done.stripped:,} without names now."
        )


@dg.job(
    description="Deletes searches older than HONELOOP_SEARCH_RETENTION_DAYS that nobody judged, and takes "
    "the names from the others.",
    executor_def=dg.in_process_executor,
)
def expire() -> None:
    """One op: it concerns no asset."""
    expire_old_searches()


jobs = [index_repository, embed_repository, refresh_index, fine_tune, promote, whole_loop, expire]
