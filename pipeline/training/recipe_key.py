"""What decides a training run's result, as one key: what was trained with it need not be trained again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING

from pipeline.config import Settings
from pipeline.training.recipe import recipe_of

if TYPE_CHECKING:
    from pipeline.training.pairs import Pair, TrainingSet

# Raise it whenever a change of the code makes other weights out of the same data and settings.
RECIPE_VERSION = 6

_LIBRARIES = ("torch", "sentence-transformers", "transformers", "tokenizers", "accelerate", "peft", "numpy")


def library_versions() -> dict[str, str]:
    """The installed versions of the libraries that do the computing."""
    return {name: metadata.version(name) for name in _LIBRARIES}


def recipe_key(
    training_set: TrainingSet,
    base_version: str,
    settings: Settings,
    *,
    guide_version: str | None = None,
    earlier: Sequence[Pair] = (),
) -> str:
    """64 hex digits over all that decides the result of fine-tuning on this machine. Loads no torch.

    The number of processors is part of it: it is torch's number of threads, and sums split in another way
    round in another way.

    Args:
        training_set: what is trained on.
        base_version: the model version that is trained from.
        settings: they name the recipe.
        guide_version: the guide's model version; None if it is the base or there is no guide.
        earlier: pairs of earlier training sets that may be replayed.

    Raises:
        BadInputError: an unknown recipe.
    """
    content = {
        "version": RECIPE_VERSION,
        "base": base_version,
        "training_set": training_set.fingerprint,
        "recipe": recipe_of(settings).to_json(),
        "guide": guide_version,
        "earlier": sorted(f"{pair.group_key.hex()} {pair.positive_hash.hex()}" for pair in earlier),
        "device": settings.device,
        "libraries": library_versions(),
        "processors": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
