"""A model that no training made, in the form in which one leaves it: to be written as a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config import Settings
from pipeline.training.fine_tuning import FineTuned
from pipeline.training.recipe import recipe_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def as_trained(model: SentenceTransformer, base_version: str, settings: Settings) -> FineTuned:
    """`model` with the account of a training of one step."""
    return FineTuned(
        model=model,
        recipe_key="0" * 64,
        base_version=base_version,
        history=[{"step": 1, "loss": 1.0}],
        best_step=1,
        device="cpu",
        seconds=0.0,
        recipe=recipe_of(settings).to_json(),
        stages=[],
        validation={},
        merging=[],
        averaging={},
        peak_memory_bytes=0,
        convergence={"overfitting": []},
        lora_rank=0,
        processes=1,
        resumed_at=[],
    )
