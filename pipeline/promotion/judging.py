"""The gate applied to what is stored: measurements from the database, sanity from the candidate's weights."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from pipeline.encoders.sanity import SanityResult, check_sanity
from pipeline.errors import HoneloopError
from pipeline.evaluation.store import find_evaluation
from pipeline.promotion import registry
from pipeline.promotion.gate import GateThresholds, Verdict, decide
from pipeline.promotion.registry import ModelRecord
from pipeline.training.recipe import library_versions

if TYPE_CHECKING:
    from pipeline.workbench import Workbench


def judge(bench: Workbench, candidate: ModelRecord, test_set: str) -> Verdict:
    """The gate's verdict on `candidate` against the model that serves now, by their stored measurements.

    Raises:
        HoneloopError: one of the two was not measured on `test_set`, or the candidate cannot be loaded.
    """
    serving = bench.serving_model()
    found = {
        model.version: find_evaluation(bench.db, model.version, test_set) for model in (candidate, serving)
    }
    measured, against = found[candidate.version], found[serving.version]
    if measured is None or against is None:
        model = candidate if measured is None else serving
        raise HoneloopError(
            f"{model.name} ({model.version[:12]}) was not measured on the test set in question.",
            hint="Evaluate again: `honeloop train` or `honeloop run`.",
        )
    sanity = [] if candidate.version == serving.version else sanity_of(bench, candidate)
    return decide(measured, against, GateThresholds.from_settings(bench.settings), sanity)


def sanity_of(bench: Workbench, model: ModelRecord, *, again: bool = False) -> list[SanityResult]:
    """What the sanity checks found for `model`.

    The same weights on the same libraries and device give the same results, so these are kept in the
    registry. That the weights on disk still are those of the version is checked whenever they are loaded.

    Args:
        bench: Loads the encoder.
        model: Which.
        again: Check again, whatever is kept.

    Raises:
        HoneloopError: its weights are missing or damaged.
    """
    kept = bench.model(model.version).metrics.get("sanity", {})
    if kept.get("environment") == environment(bench) and not again:
        return [SanityResult(**result) for result in kept["results"]]
    with bench.progress.stage(f"Checking the sanity of {model.name}"):
        results = check_sanity(bench.encoder(model))
    found = {"environment": environment(bench), "results": [asdict(result) for result in results]}
    registry.record_metrics(bench.db, model.version, {"sanity": found})
    return results


def environment(bench: Workbench) -> dict[str, str | None]:
    """What may change a model's vectors beside its weights: the libraries that compute, and where."""
    return {**library_versions(), "device": bench.settings.device}
