"""Training runs by their recipe: where their state is saved, where a model is handed over, its history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.config import Settings
from pipeline.training.checkpoints import find_checkpoint
from pipeline.training.handover import ACCOUNT
from pipeline.training.training_state import SUFFIX


def run_directory(settings: Settings, recipe: str) -> Path:
    """Where the model of this recipe waits for its checkpoint to be written."""
    return settings.home_path / "training" / recipe


def work_directory(settings: Settings, recipe: str) -> Path:
    """Where the state of a training by this recipe is saved while it is under way."""
    return run_directory(settings, recipe).with_name(f"{recipe}{SUFFIX}")


def history_of(settings: Settings, recipe: str) -> tuple[dict[str, Any], ...] | None:
    """The history of the run with this recipe, from what it handed over or its checkpoint, or None."""
    account = run_directory(settings, recipe) / ACCOUNT
    if account.is_file():
        return tuple(json.loads(account.read_text(encoding="utf-8"))["history"])
    checkpoint = find_checkpoint(settings, recipe)
    return None if checkpoint is None else tuple(checkpoint.manifest["lineage"]["history"])
