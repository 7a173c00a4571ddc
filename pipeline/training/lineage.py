"""Where a model came from, as its manifest and the registry tell it: everything needed to make it again."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pipeline.config import PROJECT_ROOT
from pipeline.training.account import Account
from pipeline.training.history import losses, validations
from pipeline.training.recipe_key import RECIPE_VERSION, library_versions
from pipeline.training.validation import BY_ORIGIN, METRICS, VALIDATION_LOSS

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder
    from pipeline.training.pairs import TrainingSet


def lineage_of(account: Account, base: Encoder, training_set: TrainingSet) -> dict[str, Any]:
    """The account of one training run, with base, data, code, libraries and machine; JSON-able."""
    return {
        "base_name": base.spec.name,
        "training_set": {
            "id": training_set.id,
            "fingerprint": training_set.fingerprint,
            "pairs_fingerprint": training_set.pairs_fingerprint,
            "counts": training_set.counts,
        },
        **account.to_json(),
        "seconds": round(account.seconds, 1),
        "recipe_version": RECIPE_VERSION,
        "code_version": code_version(),
        "libraries": library_versions(),
        "python": platform.python_version(),
        "machine": {"processor": platform.machine(), "processors": os.cpu_count()},
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def metrics_of(account: Account) -> dict[str, Any]:
    """What the run measured of itself: validation before it and of what was kept, first and last loss."""
    rows = {row["step"]: row for row in validations(account.history)}
    kept = rows.get(account.best_step)
    if account.merging:
        kept = account.merging[-1]
    if account.averaging:
        share = account.averaging["share"]
        kept = next(row for row in account.averaging["curve"] if row["share"] == share)
    measured = {
        name: {key: row[key] for key in (*METRICS, VALIDATION_LOSS, BY_ORIGIN) if key in row}
        for name, row in (("before", rows.get(0)), ("best", kept))
        if row is not None
    }
    values = losses(account.history)
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
