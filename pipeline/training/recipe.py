"""What decides a training run's result, as one key: what was trained with it need not be trained again."""

from __future__ import annotations

import hashlib
import json
import os
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pipeline.config import Settings

if TYPE_CHECKING:
    from pipeline.training.pairs import TrainingSet

# Raise it whenever a change of the code makes other weights out of the same data and settings.
RECIPE_VERSION = 1

_FIELDS = (
    "device",
    "early_stopping_pairs",
    "early_stopping_patience",
    "learning_rate",
    "loss",
    "max_grad_norm",
    "seed",
    "train_batch_size",
    "train_epochs",
    "train_max_tokens",
    "validations_per_epoch",
    "warmup_share",
)
_LIBRARIES = ("torch", "sentence-transformers", "transformers", "tokenizers", "accelerate", "numpy")


def recipe_settings(settings: Settings) -> dict[str, Any]:
    """Those settings that decide what comes out of training, by name."""
    return {name: getattr(settings, name) for name in _FIELDS}


def library_versions() -> dict[str, str]:
    """The installed versions of the libraries that do the computing."""
    return {name: metadata.version(name) for name in _LIBRARIES}


def recipe_key(training_set: TrainingSet, base_version: str, settings: Settings) -> str:
    """64 hex digits over all that decides the result of fine-tuning on this machine. Loads no torch.

    The number of processors is part of it: it is torch's number of threads, and sums split in another way
    round in another way.
    """
    content = {
        "recipe": RECIPE_VERSION,
        "base": base_version,
        "training_set": training_set.fingerprint,
        "settings": recipe_settings(settings),
        "libraries": library_versions(),
        "processors": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
