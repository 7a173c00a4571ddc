"""Jobs: what is run together from the web page, by schedules and by sensors.

What does not belong here: when they run (schedules.py, sensors.py), and how the whole loop runs in one
process (in_process.py), which is what the job `whole_loop` calls.

A run has one partition or none, so the loop is cut where it passes from one repository to all of them, and
back.
"""

from typing import Any

import dagster as dg
from pydantic import Field

from pipeline.defs.in_process import run_part
from pipeline.defs.pools import EMBEDDING, TRAINING
from pipeline.defs.reporting import reported
from pipeline.defs.results import RESULT
from pipeline.defs.retention import give_up_old_runs
from pipeline.defs.sent_settings import with_sent_settings
from pipeline.feedback.expiring import expire_searches
from pipeline.workbench import Workbench

# How often a stage says how far it is, in seconds: somebody may be following it.
FOLLOWED_EVERY = 2.0

index_repository = dg.define_asset_job(
    "index_repository",
    selection=dg.AssetSelection.assets("snippets", "snippet_embeddings"),
    description="Reads one repository and embeds what is new in it. Then launch refresh_index, or let its "
    "sensor.",
)

embed_repository = dg.define_asset_job(
    "embed_repository",
    selection=dg.AssetSelection.assets("snippet_embeddings"),
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
    description="Training set, fine-tuning, checkpoint, evaluation. If the candidate passes, the sensor "
    "passed_evaluation launches promote.",
)

promote = dg.define_asset_job(
    "promote",
    selection=dg.AssetSelection.assets("promoted_model"),
    description="The gate's verdict on the candidate that was evaluated last.",
)


class LoopRequest(dg.Config):
    """What is asked of the loop; as it stands: all of it, with the settings in force."""

    part: str = Field(default="run", description="run, index or train: what the commands of the name do.")
    source: str | None = Field(default=None, description="index: read only this source anew.")
    base: str | None = Field(
        default=None, description="What to fine-tune: base, serving, or the beginning of a version."
    )
    settings: dict[str, Any] | None = Field(
        default=None,
        description="Settings that differ from the defaults, by their names in small letters, instead of "
        "those in force here. The command line sends its own.",
    )


@dg.op(
    description="Nothing is embedded beside the loop: a run holds the pools of all its ops, an op has one.",
    pool=EMBEDDING,
    out=dg.Out(dg.Nothing),
)
def alone() -> None:
    """Does nothing; what it belongs to waits its turn."""


@dg.op(
    description="The same as `honeloop run`, `index` or `train`.",
    pool=TRAINING,
    ins={"turn": dg.In(dg.Nothing)},
)
def the_whole_loop(
    context: dg.OpExecutionContext, config: LoopRequest, workbench: dg.ResourceParam[Workbench]
) -> None:
    """Each step is a run of its own, seen in the list of runs. What it did is in the output's metadata."""
    settings = workbench.settings
    if config.settings is not None:
        settings = with_sent_settings(settings, config.settings)
    with reported(context.log, workbench.progress, FOLLOWED_EVERY) as progress:
        result = run_part(settings, progress, config.part, source=config.source, base=config.base)
        account = dg.MetadataValue.json(result.to_json())
        if result.failures:
            first = result.failures[0]
            raise dg.Failure(
                description=str(first.error()),
                metadata={
                    "message": first.message,
                    "hint": first.hint,
                    "exit_code": first.exit_code,
                    RESULT: account,
                },
                allow_retries=False,
            )
        context.add_output_metadata({RESULT: account})


@dg.job(
    description="The whole loop once: every repository, the index, fine-tuning, the gate, and what it "
    "approves; or a part of it. Each step is a run of its own. `honeloop run`, `index` and `train` launch it "
    "while `honeloop up` runs.",
)
def whole_loop() -> None:
    """One op does it all: a run has one partition or none, and the loop has them all."""
    the_whole_loop(turn=alone())


@dg.op(description="The same as `honeloop feedback expire`.", out=dg.Out(dg.Nothing))
def expire_old_searches(context: dg.OpExecutionContext, workbench: dg.ResourceParam[Workbench]) -> None:
    """Old searches are deleted, or lose their names; the counts are in the run's log."""
    with reported(context.log, workbench.progress) as progress:
        done = expire_searches(workbench.db, workbench.settings, progress=progress)
        progress.note(
            f"Searches before {done.before}: {done.deleted:,} deleted, {done.stripped:,} without names now."
        )


@dg.op(description="Deletes old runs of Dagster with their events.", ins={"after": dg.In(dg.Nothing)})
def give_up_runs(context: dg.OpExecutionContext, workbench: dg.ResourceParam[Workbench]) -> None:
    """Except those that an asset was last made by; the count is in the run's log."""
    deleted = give_up_old_runs(context.instance, workbench.settings.run_retention_days)
    context.log.info(
        f"{deleted:,} runs older than {workbench.settings.run_retention_days} days were deleted."
    )


@dg.job(
    description="Deletes searches older than HONELOOP_SEARCH_RETENTION_DAYS that nobody judged, and takes "
    "the names from the others; then Dagster's runs older than HONELOOP_RUN_RETENTION_DAYS.",
)
def expire() -> None:
    """Two ops: neither concerns an asset."""
    give_up_runs(after=expire_old_searches())


jobs = [index_repository, embed_repository, refresh_index, fine_tune, promote, whole_loop, expire]
