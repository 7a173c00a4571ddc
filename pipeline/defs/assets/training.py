"""From feedback to a checkpoint: the training set, the fine-tuned model, its files."""

import shutil
from typing import Any

import dagster as dg
from pydantic import Field

from pipeline.config import load_settings
from pipeline.defs.assets.corpus import OWNERS, snippets
from pipeline.defs.by_command import command_of, is_only_looked_at
from pipeline.defs.freshness import model_is_fresh
from pipeline.defs.pools import TRAINING
from pipeline.defs.reporting import picture, reported, table
from pipeline.defs.upstream import feedback_in_training_set, feedback_learned, fine_tuned, training_set_of
from pipeline.errors import HoneloopError
from pipeline.evaluation.plots import training_curve
from pipeline.feedback.news import newest_feedback_id
from pipeline.promotion.registry import ModelRecord, ensure_registered, list_models
from pipeline.promotion.weights import weights_in_use
from pipeline.store.locks import learning
from pipeline.training.account import Account
from pipeline.training.checkpoints import Checkpoint, find_checkpoint, write_checkpoint
from pipeline.training.handover import take_over
from pipeline.training.history import doubted
from pipeline.training.pairs import Negative, TrainingSet
from pipeline.training.runs import account_of, plan_run, run_directory
from pipeline.training.set_tables import tables_of
from pipeline.training.training_set import build_training_set, load_training_set
from pipeline.training.triplets import why_negative, why_positive
from pipeline.training.validation import METRICS
from pipeline.workbench import Workbench

GROUP = "training"
SPLITS = ("train", "validation", "test")

search_feedback = dg.AssetSpec(
    "search_feedback",
    description="What people did with the snippets they were shown. It arrives outside Dagster; the sensor "
    "`new_feedback` reports it, with the highest id as its data version.",
    group_name="feedback",
    owners=OWNERS,
    kinds={"postgres"},
)


class FineTuning(dg.Config):
    """What can be chosen for one training run."""

    base: str = Field(default="base", description="base, serving, or the beginning of a model version.")


@dg.asset(
    deps=[snippets, search_feedback],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "postgres"},
    pool=TRAINING,
    description="Pairs from feedback, documentation and commits; hard negatives mined with the model that "
    "serves; split into training, validation and test by the query, the same way night after night. Too few "
    "real pairs fail it.",
)
def training_set(
    context: dg.AssetExecutionContext, workbench: dg.ResourceParam[Workbench]
) -> dg.MaterializeResult[Any]:
    """Builds the set, or finds it built."""
    with reported(context.log, workbench.progress) as progress, learning(workbench.db):
        # Before it is built: what arrives meanwhile counts as new.
        through = newest_feedback_id(workbench.db)
        built = build_training_set(
            workbench.db, workbench.encoder(workbench.serving_model()), workbench.settings, progress
        )
        counted = {split: len(built.of(split)) for split in SPLITS}
        return dg.MaterializeResult(
            metadata={
                "training_set_id": built.id,
                "dagster/row_count": len(built.pairs),
                "fingerprint": built.fingerprint,
                "reused": built.reused,
                "feedback_through": through,
                **{f"{split} pairs": count for split, count in counted.items()},
                "counts": dg.MetadataValue.json(built.counts),
                **{each.title: table(each.headings, each.rows) for each in tables_of(built)},
                "sample triplets": _sample_triplets(built),
            },
            data_version=dg.DataVersion(built.fingerprint),
        )


@dg.asset(
    deps=[training_set],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch"},
    pool=TRAINING,
    freshness_policy=model_is_fresh(load_settings()),
    description="The base encoder fine-tuned on the training set. The same data, settings and base give the "
    "same model, so what was trained before is not trained again.",
)
def fine_tuned_model(
    context: dg.AssetExecutionContext, config: FineTuning, workbench: dg.ResourceParam[Workbench]
) -> dg.MaterializeResult[Any]:
    """Trains, unless the result of this very recipe is there already."""
    with reported(context.log, workbench.progress) as progress, learning(workbench.db):
        settings = workbench.settings
        base = workbench.named_model(config.base)
        # Now, and before the set is read: one that is built meanwhile, or while this trains, knows more.
        through = feedback_in_training_set(context.instance)
        run = plan_run(workbench, training_set_of(context.instance, workbench), base, settings)
        with weights_in_use(workbench.db, base.version):
            made = run.make(progress)
        account = account_of(settings, run.key)
        if account is None:
            raise HoneloopError(
                "What was trained is no longer there.", hint=f"Look after the disk of {run.directory.parent}."
            )
        return dg.MaterializeResult(
            metadata={
                "recipe": account.recipe["name"],
                "recipe_key": run.key,
                "base_version": base.version,
                "base": base.name,
                "training_set_id": run.training_set.id,
                "feedback_through": through,
                "reused": made == "checkpoint",
                "recipe in full": dg.MetadataValue.json(account.recipe),
                "stages": _stages(account),
                "replayed pairs": sum(int(stage["replayed"]) for stage in account.stages),
                "seconds": round(account.seconds, 1),
                "peak memory (MB)": account.peak_memory_bytes // 1_000_000,
                **_merging(account),
                **_averaging(account),
                **_doubted(account),
                **_convergence(account),
            },
            data_version=dg.DataVersion(run.key),
        )


@dg.asset(
    deps=[fine_tuned_model],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch", "file"},
    pool=TRAINING,
    description="The model's files: safetensors and a manifest with lineage, hashes, dimensions and metrics, "
    "put in place by one rename; and its entry in the registry, as a candidate.",
)
def model_checkpoint(
    context: dg.AssetExecutionContext, workbench: dg.ResourceParam[Workbench]
) -> dg.MaterializeResult[Any]:
    """Writes the checkpoint, or finds it written, and registers it."""
    with reported(context.log, workbench.progress) as progress, learning(workbench.db):
        settings = workbench.settings
        trained = fine_tuned(context.instance)
        pairs = load_training_set(workbench.db, int(trained["training_set_id"]))
        base = workbench.model(str(trained["base_version"]))
        key = str(trained["recipe_key"])
        checkpoint = find_checkpoint(settings, key)
        reused = checkpoint is not None
        if checkpoint is None:
            directory = run_directory(settings, key)
            encoder = workbench.encoder(base)
            checkpoint = write_checkpoint(
                take_over(directory, encoder.device), encoder, pairs, settings.checkpoints_path
            )
            shutil.rmtree(directory)
        record = _registered(workbench, checkpoint) or ensure_registered(
            workbench.db,
            workbench.encoder_at(str(checkpoint.path)),
            str(checkpoint.path),
            state="candidate",
            base_version=base.version,
            training_set_id=pairs.id,
            lineage=checkpoint.manifest["lineage"],
        )
        progress.note(f"Checkpoint of {record.name}: {checkpoint.path}")
        command = command_of(context)
        through = int(trained.get("feedback_through", 0))
        if is_only_looked_at(command):
            through = feedback_learned(context.instance)  # the night that follows asks the gate about it
        return dg.MaterializeResult(
            metadata={
                "model_version": record.version,
                "model": record.name,
                "state": record.state,
                "dims": record.dims,
                "path": dg.MetadataValue.path(str(checkpoint.path)),
                "reused": reused,
                "base_version": base.version,
                "training_set_id": pairs.id,
                # Only here does it count as learned: see `feedback_learned`.
                "feedback_through": through,
                **command,
                "manifest": dg.MetadataValue.json(checkpoint.manifest),
            },
            data_version=dg.DataVersion(record.version),
        )


def _registered(workbench: Workbench, checkpoint: Checkpoint) -> ModelRecord | None:
    """Its record, if it is registered with this very place: then it need not be loaded."""
    for record in list_models(workbench.db):
        if (record.version, record.location) == (checkpoint.version, str(checkpoint.path)):
            return record
    return None


def _sample_triplets(built: TrainingSet, count: int = 5) -> dg.MarkdownMetadataValue:
    """A few training triplets: what was asked, what answers it, what does not and how near that is."""
    chosen = [pair for pair in built.of("train") if pair.negatives][:count]
    return table(
        ["query", "relevant", "why", "not relevant", "why not"],
        [
            [
                pair.query,
                _head(pair.positive_text),
                why_positive(pair),
                _head(pair.negatives[0].text),
                f"{why_negative(pair.negatives[0])}{_scores(pair.negatives[0])}",
            ]
            for pair in chosen
        ],
    )


def _scores(negative: Negative) -> str:
    """How near a negative is to its query, and how far below its positive."""
    if negative.negative_score is None or negative.positive_score is None:
        return ""
    return (
        f" Cosine {negative.negative_score:.3f}, "
        f"margin {negative.positive_score - negative.negative_score:+.3f}."
    )


def _head(code: str) -> str:
    """The first line of code."""
    return code.strip().splitlines()[0][:100]


def _stages(account: Account) -> dg.MarkdownMetadataValue:
    """What was trained on when."""
    return table(
        ["stage", "pairs", "of", "replayed", "steps planned"],
        [
            [
                stage["name"],
                stage["pairs"],
                ", ".join(f"{count} {origin}" for origin, count in stage["origins"].items()),
                stage["replayed"],
                stage["steps"],
            ]
            for stage in account.stages
        ],
    )


def _merging(account: Account) -> dict[str, Any]:
    """How what was learned apart validates, and its average, which was kept."""
    rows = [
        [row["part"], *(f"{row[metric]:.4f}" for metric in METRICS)]
        for row in account.merging
        if METRICS[0] in row
    ]
    return {"merging": table(["learned from", *METRICS], rows)} if rows else {}


def _averaging(account: Account) -> dict[str, Any]:
    """The share of the trained weights that was kept, and what others would have given."""
    if not account.averaging:
        return {}
    rows = [
        [f"{row['share']:g}", *(f"{row[metric]:.4f}" for metric in METRICS)]
        for row in account.averaging["curve"]
    ]
    return {
        "share of the trained weights": account.averaging["share"],
        "averaging": table(["share", *METRICS], rows),
    }


def _doubted(account: Account) -> dict[str, int]:
    """How many negatives the guide took out, if there was one."""
    return {"negatives taken out by the guide": doubted(account.history)} if account.recipe["guided"] else {}


def _convergence(account: Account) -> dict[str, Any]:
    """How the training went: in numbers, what was found, how it was done, and as a picture."""
    findings = account.convergence["overfitting"]
    since = [finding["since_step"] for finding in findings]
    return {
        "convergence": dg.MetadataValue.json(account.convergence),
        "overfitting": " ".join(finding["sentence"] for finding in findings) or "none",
        "training curve": picture(training_curve(account.history, since), "loss and validation"),
        "LoRA rank": account.lora_rank,
        "processes": account.processes,
        **({"resumed at step": ", ".join(map(str, account.resumed_at))} if account.resumed_at else {}),
    }
