"""The account of a training run: all there is to tell about it besides its weights. JSON throughout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from pipeline.training.history import Row


@dataclass(frozen=True)
class Account:
    """How a model came to be.

    Attributes:
        recipe_key: see `recipe_key`.
        base_version: the model version it was trained from.
        recipe: the recipe in full.
        stages: what each of its stages was trained on; see `PlannedStage.to_json`.
        validation: which queries decided ("decides"), how many there were of each origin ("queries"), and the
            metric of each that decided under the weights that were kept ("values").
        history: see `history`.
        best_step: the optimiser step its weights are from, or what was averaged; of merged ones that of the
            last part.
        merging: the validation of each "part" that was trained from the base by itself, and last that of the
            average, "merged", which was kept; empty if nothing was merged.
        averaging: the "share" of the trained weights that was chosen, and the "curve" of all that were tried;
            empty if nothing was averaged.
        convergence: how it went, and whether it overfitted; see `Convergence.to_json`.
        lora_rank: the rank of the adapters that were trained, and are merged into the weights; 0 without any.
        processes: how many trained together.
        resumed_at: the steps at which it was taken up again after it had been killed.
        device: where it was trained.
        seconds: how long it took, validations included.
        peak_memory_bytes: the most memory it had; see `memory`.
    """

    recipe_key: str
    base_version: str
    recipe: dict[str, Any]
    stages: list[dict[str, Any]]
    validation: dict[str, Any]
    history: list[Row]
    best_step: int
    merging: list[dict[str, Any]]
    averaging: dict[str, Any]
    convergence: dict[str, Any]
    lora_rank: int
    processes: int
    resumed_at: list[int]
    device: str
    seconds: float
    peak_memory_bytes: int

    @property
    def apart(self) -> bool:
        """Whether each stage began at the base; see `Recipe.apart`."""
        return bool(self.recipe.get("apart", False))

    def to_json(self) -> dict[str, Any]:
        """The account, and nothing that a subclass adds."""
        return {field.name: getattr(self, field.name) for field in fields(Account)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Out of anything that holds what `to_json` gave; raises KeyError if it does not."""
        return cls(**{field.name: content[field.name] for field in fields(Account)})

    @classmethod
    def found_in(cls, content: Mapping[str, Any]) -> Self | None:
        """`from_json`, or None where there is none, or one of an earlier release that told less."""
        try:
            return cls.from_json(content)
        except KeyError:
            return None
