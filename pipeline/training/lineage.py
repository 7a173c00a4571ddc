"""Where a model came from, as its manifest and the registry tell it: everything needed to make it again."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pipeline.config import PROJECT_ROOT, Settings
from pipeline.training.convergence import convergence_by
from pipeline.training.history import losses, validations
from pipeline.training.recipe_key import RECIPE_VERSION, library_versions, recipe_key
from pipeline.training.validation import METRICS, VALIDATION_LOSS

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder
    from pipeline.training.fine_tuning import FineTuned
    from pipeline.training.pairs import TrainingSet


def lineage_of(
    fine_tuned: FineTuned, base: Encoder, training_set: TrainingSet, settings: Settings
) -> dict[str, Any]:
    """The account of one training run, JSON-able: base, data, code, recipe, libraries, device, history."""
    convergence = convergence_by(settings, fine_tuned.history)
    return {
        "base_version": base.version,
        "base_name": base.spec.name,
        "training_set": {
            "id": training_set.id,
            "fingerprint": training_set.fingerprint,
            "pairs_fingerprint": training_set.pairs_fingerprint,
            "counts": training_set.counts,
        },
        "recipe_key": recipe_key(training_set, base.version, settings),
        "recipe": fine_tuned.recipe,
        "recipe_version": RECIPE_VERSION,
        "code_version": code_version(),
        "stages": fine_tuned.stages,
        "libraries": library_versions(),
        "python": platform.python_version(),
        "machine": {"processor": platform.machine(), "processors": os.cpu_count()},
        "device": fine_tuned.device,
        "seconds": round(fine_tuned.seconds, 1),
        "processes": fine_tuned.processes,
        "lora_rank": fine_tuned.lora_rank,
        "resumed_at": fine_tuned.resumed_at,
        "best_step": fine_tuned.best_step,
        "convergence": None if convergence is None else convergence.to_json(),
        "history": fine_tuned.history,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def metrics_of(fine_tuned: FineTuned) -> dict[str, Any]:
    """What the run measured of itself: validation before it and at its best step, first and last loss."""
    rows = validations(fine_tuned.history)
    measured: dict[str, Any] = {}
    for name, step in (("before", 0), ("best", fine_tuned.best_step)):
        row = next((row for row in rows if row["step"] == step), None)
        if row is not None:
            measured[name] = {key: row[key] for key in (*METRICS, VALIDATION_LOSS) if key in row}
    values = losses(fine_tuned.history)
    return {"validation": measured, "loss": {"first": values[0], "last": values[-1]} if values else {}}


def code_version() -> str:
    """The commit this code is at (`git describe`, `-dirty` if changed), else the package's version."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--tags", "--abbrev=12"],
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return metadata.version("honeloop")
    return described.stdout.strip()
