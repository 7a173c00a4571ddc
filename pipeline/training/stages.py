"""Which pairs a training sees in which of its stages, and in which batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.errors import HoneloopError
from pipeline.training.batches import plan_batches, spared_groups
from pipeline.training.pairs import Pair, TrainingSet
from pipeline.training.recipe import Recipe, Stage


@dataclass(frozen=True)
class PlannedStage:
    """A stage with its pairs and batches.

    Attributes:
        stage: the recipe's.
        pairs: in an order of their own, replayed ones among them.
        replayed: how many of them are earlier ones.
        batches: rows of `pairs`, for all epochs.
    """

    stage: Stage
    pairs: tuple[Pair, ...]
    replayed: int
    batches: list[list[int]]

    @property
    def announcement(self) -> str:
        """What there is to say as it begins."""
        replayed = f", {self.replayed} of them replayed" if self.replayed else ""
        return (
            f"Stage {self.stage.name}: {len(self.pairs)} pairs{replayed}, epochs: {self.stage.epochs}, "
            f"steps: {len(self.batches)}."
        )

    def to_json(self) -> dict[str, Any]:
        """What there is to say about it afterwards."""
        return {
            "name": self.stage.name,
            "pairs": len(self.pairs),
            "origins": dict(sorted(Counter(pair.origin for pair in self.pairs).items())),
            "replayed": self.replayed,
            "steps": len(self.batches),
            **self._batch(),
        }

    def _batch(self) -> dict[str, int]:
        """The effective batch, on average: its pairs, and the documents each query is compared with."""
        pairs = [[self.pairs[row] for row in batch] for batch in self.batches]
        documents = [
            {text for pair in batch for text in (pair.positive_text, *(n.text for n in pair.negatives))}
            for batch in pairs
        ]
        return {
            "batch_pairs": round(float(np.mean([len(each) for each in pairs]))),
            "batch_documents": round(float(np.mean([len(each) for each in documents]))),
        }


def plan_stages(
    training_set: TrainingSet,
    recipe: Recipe,
    note: Callable[[str], None],
    earlier_sets: Sequence[Pair] = (),
) -> list[PlannedStage]:
    """The stages of a recipe that have pairs in this training set.

    Args:
        training_set: its pairs of split "train" are used.
        recipe: see there.
        note: told what is left out.
        earlier_sets: pairs of earlier training sets, to be replayed with those of earlier stages.

    Raises:
        HoneloopError: there is nothing to train on.
    """
    usable = _usable(training_set.of("train"), recipe, note)
    planned: list[PlannedStage] = []
    earlier = in_order(earlier_sets)
    for stage in recipe.stages:
        own = [pair for pair in usable if pair.origin in stage.origins]
        if not own:
            note(f"The training set has no pairs of {' or '.join(stage.origins)}: that stage is left out.")
            continue
        if len(own) < stage.fewest:
            note(
                f"{len(own)} training pairs of feedback are too few to learn from alone, {stage.fewest} are"
                " needed (HONELOOP_FEEDBACK_MIN_PAIRS): they are learned with all others."
            )
            continue
        replayed = _drawn(earlier, stage.replay_share, len(own), recipe.seed)
        pairs = in_order([*own, *replayed])
        if not stage.mined:
            pairs = list(map(_without_mined, pairs))
        batches = plan_batches(len(pairs), stage.batch_size, stage.epochs, recipe.seed)
        planned.append(PlannedStage(stage, tuple(pairs), len(replayed), batches))
        if not recipe.apart:
            earlier += own
    return planned


def in_order(pairs: Sequence[Pair]) -> list[Pair]:
    """By content, not by their ids in the database: the same pairs train the same model anywhere."""
    return sorted(pairs, key=lambda pair: (pair.query, pair.positive_hash, pair.positive_text, pair.origin))


def _without_mined(pair: Pair) -> Pair:
    return replace(pair, negatives=tuple(each for each in pair.negatives if each.reason != "mined"))


def _usable(pairs: Sequence[Pair], recipe: Recipe, note: Callable[[str], None]) -> list[Pair]:
    """The pairs that the recipe's loss can learn from, in an order of their own."""
    usable = list(pairs)
    if recipe.loss == "triplet":
        spared = spared_groups(usable)
        usable = [
            pair
            for pair in pairs
            if any(negative.group not in spared[pair.group_key] for negative in pair.negatives)
        ]
        if len(usable) < len(pairs):
            note(
                f"{len(pairs) - len(usable)} of {len(pairs)} training pairs have no negative, and the "
                "triplet loss needs one: they are left out."
            )
    if not usable:
        raise HoneloopError(
            f"The training set has no pairs that the {recipe.loss} loss could train on.",
            hint="Import feedback (honeloop feedback import) or register sources with documented code.",
        )
    return in_order(usable)


def _drawn(earlier: Sequence[Pair], share: float, own: int, seed: int) -> list[Pair]:
    """So many of the earlier pairs that they are `share` of the stage; all of them if there are fewer."""
    count = min(len(earlier), round(own * share / (1 - share)))
    chosen = np.random.default_rng(seed).choice(len(earlier), count, replace=False) if count else []
    return [earlier[int(row)] for row in chosen]
