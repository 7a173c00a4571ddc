"""Whether a checkpoint is whole, and what the gate says of it: found out anew from files and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.checking import NothingToCheckError, Outcome
from pipeline.config import Settings
from pipeline.encoders.manifest import check_files, is_checkpoint, read_manifest
from pipeline.errors import HoneloopError
from pipeline.evaluation.results import Evaluation
from pipeline.promotion import registry
from pipeline.promotion.gate import losses
from pipeline.promotion.judging import judge_again
from pipeline.promotion.registry import BY_RULE, ModelRecord, list_events
from pipeline.promotion.sanity import environment
from pipeline.promotion.verdict import GateThresholds, Verdict
from pipeline.training.checkpoints import verify_checkpoint

if TYPE_CHECKING:
    from pipeline.workbench import Workbench


def files_match(model: ModelRecord) -> Outcome:
    """Every file of the checkpoint has the hash its manifest gives, and together they are this version."""
    directory = _directory(model)
    problems: list[str] = []
    try:
        manifest = read_manifest(directory)
        check_files(directory, manifest)
        if manifest.version != model.version:
            problems = [f"{directory} holds {manifest.version[:12]}, not {model.version[:12]}."]
    except HoneloopError as error:
        problems = [str(error)]
    return Outcome(
        not problems,
        " ".join(problems) or f"All files of {directory} are as they were written.",
        hint="Restore the checkpoint from a copy, or train again." if problems else "",
    )


def same_vectors_again(bench: Workbench, model: ModelRecord, *, again: bool) -> Outcome:
    """The checkpoint, loaded anew, gives the vectors that were noted when it was written.

    Args:
        bench: The workbench.
        model: The model version.
        again: Also if they were compared before with the same libraries on the same device.
    """
    directory = _directory(model)
    here = environment(bench.settings)
    if not again and bench.model(model.version).metrics.get("same_vectors") == here:
        return Outcome(True, "They were compared before, with the same libraries on the same device.")
    problems = verify_checkpoint(directory)
    if not problems:
        registry.record_metrics(bench.db, model.version, {"same_vectors": here})
    return Outcome(
        not problems,
        " ".join(problems) or "The vectors of the probe are the same.",
        hint="Restore the checkpoint from a copy, or train again." if problems else "",
    )


def no_significant_regression(
    candidate: Evaluation, serving: Evaluation, learned_from: frozenset[bytes], settings: Settings
) -> Outcome:
    """The candidate loses no more than the gate allows against what serves, in what decides and every slice.

    By the gate's own rule, so that what it approves passes here too, and goes on to while it serves.

    Args:
        candidate: Measured on its test set.
        serving: What served then, on the same.
        learned_from: The queries that are no test of the candidate.
        settings: The gate's.

    Raises:
        HoneloopError: they were not measured on the same test set.
        NothingToCheckError: none of its queries has the gate's metric.
    """
    if candidate.model_version == serving.model_version:
        return Outcome(True, "The candidate is the model that serves.")
    found = losses(candidate, serving, learned_from, GateThresholds.from_settings(settings))
    if not found:
        raise NothingToCheckError(f"No test query has {settings.gate_metric}.")
    failed = [each.sentence for each in found if not each.passed]
    difference = found[0].difference
    return Outcome(
        not failed,
        " ".join(failed) or found[0].sentence,
        {}
        if difference is None
        else {
            "mean": round(difference.mean, 4),
            "low": round(difference.low, 4),
            "high": round(difference.high, 4),
        },
        hint="The gate turns such a candidate down; more feedback, or other training settings, may make a "
        "better one."
        if failed
        else "",
    )


def gate_agrees(bench: Workbench, model: ModelRecord) -> Outcome:
    """The gate, asked again with the stored measurements, decides as it did; the model's state follows."""
    content = model.metrics.get("verdict")
    if content is None:
        raise NothingToCheckError(f"The gate was not asked about {model.name}.")
    before = Verdict.from_json(content)
    stored = before.decision
    if before.candidate_version == before.serving_version:
        return Outcome(stored == "already serving", f"The gate said: {stored}.")
    verdict = judge_again(bench, model, before)
    by_person = any(event.actor not in BY_RULE for event in list_events(bench.db, model.version))
    follows = verdict.approved or by_person or model.state not in ("approved", "serving")
    return Outcome(
        verdict.decision == stored and follows,
        f"The gate said {stored!r} and says {verdict.decision!r} now; the model is {model.state}. "
        + " ".join(verdict.reasons),
        {"decision": verdict.decision, "state": model.state},
        hint="Settings of the gate changed since, or the registry was edited: evaluate again.",
    )


def _directory(model: ModelRecord) -> Path:
    directory = Path(model.location)
    if model.base_version is None and not is_checkpoint(directory):
        raise NothingToCheckError(f"{model.name} was not fine-tuned here.")
    return directory
