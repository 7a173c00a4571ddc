"""Training recipes: how a model is fine-tuned, as one value, chosen by name and resolved from the settings.

A name is one or more words joined by `+`, in any order: at most one says which loss, and each further one
changes one thing about the training: `triplet`, `multiple-negatives+two-stage`. What a word leaves open,
such as epochs or temperature, is a setting of its own. So there is one way to set each thing, and any of them
can be changed for any recipe.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from pipeline.config import Settings
from pipeline.training.pairs import Origin
from pipeline.training.recipe_words import words_of

LossName = Literal["multiple-negatives", "triplet"]
ORIGINS: tuple[Origin, ...] = get_args(Origin)


@dataclass(frozen=True)
class Stage:
    """One part of a training: some pairs, for some epochs.

    Attributes:
        name: what it is called in histories and reports.
        origins: of which pairs.
        epochs: how often each of them is seen.
        batch_size: pairs per optimiser step.
        learning_rate: at its highest, after the warm-up.
        replay_share: the share of its pairs that are earlier ones, so that they are not forgotten: pairs of
            the stages before it, and of earlier training sets if the model has learned from some.
        cached: whether a batch's activations are computed twice instead of kept.
        mined: whether its pairs have their mined negatives; those that people gave they have in any case.
        fewest: with fewer pairs of its own, replayed ones aside, it is left out.
    """

    name: str
    origins: tuple[Origin, ...]
    epochs: int
    batch_size: int
    learning_rate: float
    replay_share: float
    cached: bool
    mined: bool = True
    fewest: int = 1


@dataclass(frozen=True)
class Recipe:
    """All that decides a training's result besides base, data and machine.

    Attributes:
        name: its words, in the order of `recipe_words.WORDS`.
        loss: which loss.
        temperature: what cosines are divided by in the multiple-negatives loss.
        triplet_margin: in cosine: how much nearer to its query a positive has to be than a negative.
        guided: whether a guide takes likely answers out of a batch's negatives.
        guide: what it is; None for the model that is trained from.
        guide_margin: in its cosine; see `guide`.
        matryoshka_halvings: how often the vectors are halved in the loss; 0 for whole vectors only.
        stages: at least one.
        apart: whether each stage begins at the base, and the average of all is what is kept; see `merging`.
        averaging_shares: the shares of the trained weights that are tried; none for no averaging.
        averaging_max_loss: see `averaging`.
        max_tokens: texts are cut off there.
        dropout: the share of activations that are dropped.
        weight_decay: AdamW's, per step and learning rate.
        warmup_share: the share of a stage's steps during which the learning rate rises.
        max_grad_norm: longer gradients are cut down to it.
        validations_per_epoch: how often.
        patience: validations without improvement that end a stage.
        validation_tolerance: in standard errors; see `choosing`.
        validation_pairs: pairs ranked in each validation, at the most.
        validation_min_feedback: with so many validation pairs of feedback, those alone decide; None: all do.
        seed: of everything drawn at random.
        lora_rank: of the adapters that are trained instead of the weights; 0 for none; None leaves it to the
            encoder's size.
        lora_rate_factor: learning rates are multiplied by it if adapters are trained.
        large_parameters: an encoder with so many parameters is a large one.
        processes: how many train together; sums over several round in another way.
    """

    name: str
    loss: LossName
    temperature: float
    triplet_margin: float
    guided: bool
    guide: str | None
    guide_margin: float
    matryoshka_halvings: int
    stages: tuple[Stage, ...]
    apart: bool
    averaging_shares: tuple[float, ...]
    averaging_max_loss: float
    max_tokens: int
    dropout: float
    weight_decay: float
    warmup_share: float
    max_grad_norm: float
    validations_per_epoch: int
    patience: int
    validation_tolerance: float
    validation_pairs: int
    validation_min_feedback: int | None
    seed: int
    lora_rank: int | None
    lora_rate_factor: float
    large_parameters: int
    processes: int

    def to_json(self) -> dict[str, Any]:
        """The recipe in full, for keys, manifests and reports."""
        return json.loads(json.dumps(asdict(self)))


def recipe_of(settings: Settings) -> Recipe:
    """The recipe that the settings name, with what they set about it.

    Raises:
        BadInputError: it is no name of a recipe; see `words_of`.
    """
    words = words_of(settings.recipe)
    loss: LossName = "triplet" if "triplet" in words else "multiple-negatives"
    return Recipe(
        name="+".join(words),
        loss=loss,
        temperature=settings.temperature,
        triplet_margin=settings.triplet_margin,
        guided="guided" in words,
        guide=settings.guide if "guided" in words else None,
        guide_margin=settings.guide_margin if "guided" in words else 0.0,
        matryoshka_halvings=settings.matryoshka_halvings if "matryoshka" in words else 0,
        stages=_stages(words, settings),
        apart="merged" in words,
        averaging_shares=tuple(sorted(set(settings.averaging_shares))) if "averaged" in words else (),
        averaging_max_loss=settings.averaging_max_loss if "averaged" in words else 0.0,
        max_tokens=settings.train_max_tokens,
        dropout=settings.dropout,
        weight_decay=settings.weight_decay,
        warmup_share=settings.warmup_share,
        max_grad_norm=settings.max_grad_norm,
        validations_per_epoch=settings.validations_per_epoch,
        patience=settings.early_stopping_patience,
        validation_tolerance=settings.early_stopping_tolerance,
        validation_pairs=settings.early_stopping_pairs,
        validation_min_feedback=settings.early_stopping_min_feedback,
        seed=settings.seed,
        lora_rank=settings.lora_rank,
        lora_rate_factor=settings.lora_rate_factor,
        large_parameters=settings.large_encoder_parameters,
        processes=settings.train_processes,
    )


def _stages(words: tuple[str, ...], settings: Settings) -> tuple[Stage, ...]:
    whole = Stage(
        name="all pairs",
        origins=ORIGINS,
        epochs=settings.train_epochs,
        batch_size=settings.cached_batch_size if "cached" in words else settings.train_batch_size,
        learning_rate=settings.learning_rate,
        replay_share=settings.replay_share,
        cached="cached" in words,
    )
    if "merged" in words:
        alone = replace(
            whole,
            name="feedback alone",
            origins=("feedback",),
            epochs=settings.feedback_epochs,
            batch_size=settings.cached_batch_size,
            learning_rate=settings.feedback_learning_rate,
            replay_share=0.0,  # earlier pairs are never of feedback
            cached=True,
            # Of some hundred documents the hardest is as hard; the triplet loss has no others.
            mined="triplet" in words,
            fewest=settings.feedback_min_pairs,
        )
        return (whole, alone)
    if "two-stage" in words:
        first = replace(
            whole,
            name="documentation and commits",
            origins=("docstring", "commit"),
            epochs=settings.first_stage_epochs or whole.epochs,
            batch_size=settings.first_stage_batch_size or whole.batch_size,
            learning_rate=settings.first_stage_learning_rate or whole.learning_rate,
        )
        return (first, replace(whole, name="feedback", origins=("feedback",)))
    return (whole,)
