"""The sanity checks of model versions, without which none may serve: run once, and kept in the registry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from pipeline.encoders.sanity import SanityResult, check_sanity
from pipeline.errors import HoneloopError
from pipeline.promotion import registry
from pipeline.promotion.registry import ModelRecord
from pipeline.training.recipe_key import library_versions

if TYPE_CHECKING:
    from pipeline.config import Settings
    from pipeline.encoders.encoder import Encoder
    from pipeline.store.connections import Database
    from pipeline.workbench import Workbench

# What this process found, by version and environment: another database need not have it found out again.
_found: dict[tuple[str, str], list[SanityResult]] = {}


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
    here = environment(bench.settings)
    if kept.get("environment") == here and not again:
        return [SanityResult(**result) for result in kept["results"]]
    key = (model.version, json.dumps(here, sort_keys=True))
    if again or key not in _found:
        with bench.progress.stage(f"Checking the sanity of {model.name}"):
            _found[key] = check_sanity(bench.encoder(model))
    _keep(bench.db, bench.settings, model.version, _found[key])
    return _found[key]


def check_anew(db: Database, settings: Settings, encoder: Encoder) -> list[SanityResult]:
    """What the checks find now for an encoder that was just loaded; kept for `sanity_of`."""
    results = check_sanity(encoder)
    _keep(db, settings, encoder.version, results)
    return results


def require_sane(model: ModelRecord, results: Sequence[SanityResult]) -> None:
    """Raises HoneloopError, naming each of them, if a sanity check failed."""
    failed = [f"{result.name}: {result.message}" for result in results if not result.passed]
    if failed:
        raise HoneloopError(
            f"{model.name} ({model.version[:12]}) failed its sanity checks: {'; '.join(failed)}.",
            hint="Such a model must not serve, whoever asks."
            + (" Name another with HONELOOP_ENCODER." if model.state == "base" else ""),
        )


def environment(settings: Settings) -> dict[str, str | None]:
    """What may change a model's vectors beside its weights: the libraries that compute, and where."""
    return {**library_versions(), "device": settings.device}


def _keep(db: Database, settings: Settings, version: str, results: Sequence[SanityResult]) -> None:
    found = {"environment": environment(settings), "results": [asdict(result) for result in results]}
    registry.record_metrics(db, version, {"sanity": found})
