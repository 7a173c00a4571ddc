"""Whether a checkpoint is whole and the gate's verdict on it holds, found out anew from files and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.checking import NothingToCheckError, Outcome
from pipeline.encoders.manifest import check_files, is_checkpoint, read_manifest
from pipeline.errors import HoneloopError
from pipeline.promotion import registry
from pipeline.promotion.judging import judge_again
from pipeline.promotion.registry import ModelRecord, list_events
from pipeline.promotion.sanity import environment
from pipeline.promotion.verdict import Verdict
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
    by_person = any(
        event.actor not in ("gate", "index", "registry") for event in list_events(bench.db, model.version)
    )
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
