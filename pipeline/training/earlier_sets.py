"""The training sets that a model, and the models it was trained from, have learned from."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.promotion.registry import ModelRecord, list_models
from pipeline.store.connections import Database
from pipeline.training.pairs import TrainingSet
from pipeline.training.training_set import load_training_set


def training_sets_of(db: Database, model: ModelRecord) -> tuple[int, ...]:
    """Their ids, each once, the model's own first."""
    models = {each.version: each for each in list_models(db)}
    sets: dict[int, None] = {}
    line: ModelRecord | None = model
    while line is not None:
        if line.training_set_id is not None:
            sets[line.training_set_id] = None
        line = models.get(line.base_version or "")
    return tuple(sets)


def earlier_sets(db: Database, model: ModelRecord, present: int | None) -> Iterator[TrainingSet]:
    """Those sets but the `present` one, one after another, as each is large."""
    return (load_training_set(db, each) for each in training_sets_of(db, model) if each != present)
