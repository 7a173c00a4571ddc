"""Training recipes: how a model is fine-tuned, as one value, chosen by name and resolved from the settings.

A name is one or more words joined by `+`, in any order: at most one says which loss, and each further one
changes one thing about the training: `triplet`, `multiple-negatives+two-stage`. What a word leaves open,
such as epochs or temperature, is a setting of its own. So there is one way to set each thing, and any of them
can be changed for any recipe.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from pipeline.config import Settings
from pipeline.errors import BadInputError
from pipeline.training.pairs import Origin

LossName = Literal["multiple-negatives", "triplet"]
LOSSES: tuple[LossName, ...] = get_args(LossName)

# What each word of a recipe's name is for, in the order in which names are written.
WORDS: dict[str, str] = {
    "multiple-negatives": "every query against all snippets of its batch, and hard negatives; the default",
    "triplet": "every query against its own negatives only, by a margin",
    "two-stage": "documentation and commits first, then feedback",
}

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
            the stages before it.
    """

    name: str
    origins: tuple[Origin, ...]
    epochs: int
    batch_size: int
    learning_rate: float
    replay_share: float


@dataclass(frozen=True)
class Recipe:
    """All that decides a training's result besides base, data and machine.

    Attributes:
        name: its words, in the order of `WORDS`.
        loss: which loss.
        temperature: what cosines are divided by in the multiple-negatives loss.
        triplet_margin: in cosine: how much nearer to its query a positive has to be than a negative.
        stages: at least one.
        max_tokens: texts are cut off there.
        dropout: the share of activations that are dropped.
        weight_decay: AdamW's, per step and learning rate.
        warmup_share: the share of a stage's steps during which the learning rate rises.
        max_grad_norm: longer gradients are cut down to it.
        validations_per_epoch: how often.
        patience: validations without improvement that end a stage.
        validation_pairs: pairs ranked in each validation, at the most.
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
    stages: tuple[Stage, ...]
    max_tokens: int
    dropout: float
    weight_decay: float
    warmup_share: float
    max_grad_norm: float
    validations_per_epoch: int
    patience: int
    validation_pairs: int
    seed: int
    lora_rank: int | None
    lora_rate_factor: float
    large_parameters: int
    processes: int

    def to_json(self) -> dict[str, Any]:
        """The recipe in full, for keys, manifests and reports."""
        return asdict(self)


def recipe_of(settings: Settings) -> Recipe:
    """The recipe that the settings name, with what they set about it.

    Raises:
        BadInputError: the name has a word that is unknown or stands there twice, or two losses.
    """
    words = words_of(settings.recipe)
    loss: LossName = "triplet" if "triplet" in words else "multiple-negatives"
    return Recipe(
        name="+".join(words),
        loss=loss,
        temperature=settings.temperature,
        triplet_margin=settings.triplet_margin,
        stages=_stages(words, settings),
        max_tokens=settings.train_max_tokens,
        dropout=settings.dropout,
        weight_decay=settings.weight_decay,
        warmup_share=settings.warmup_share,
        max_grad_norm=settings.max_grad_norm,
        validations_per_epoch=settings.validations_per_epoch,
        patience=settings.early_stopping_patience,
        validation_pairs=settings.early_stopping_pairs,
        seed=settings.seed,
        lora_rank=settings.lora_rank,
        lora_rate_factor=settings.lora_rate_factor,
        large_parameters=settings.large_encoder_parameters,
        processes=settings.train_processes,
    )


def words_of(name: str) -> tuple[str, ...]:
    """The words of a recipe's name in the order of `WORDS`, so that one recipe has one name.

    The loss is left out if it is the default one and something else is named.

    Raises:
        BadInputError: as `recipe_of`.
    """
    words = [word.strip() for word in name.split("+")]
    unknown = [word for word in words if word not in WORDS]
    twice = [word for word in WORDS if words.count(word) > 1]
    losses = [word for word in LOSSES if word in words]
    if unknown or twice or len(losses) > 1:
        wrong = (
            f"{unknown[0]!r} is not known"
            if unknown
            else f"{twice[0]!r} stands there twice"
            if twice
            else f"{' and '.join(losses)} are two losses"
        )
        raise BadInputError(f"{name!r} is not a recipe: {wrong}.", hint=f"{known_words()} Join them by +.")
    ordered = tuple(word for word in WORDS if word in words)
    return ordered[1:] if ordered[0] == LOSSES[0] and len(ordered) > 1 else ordered


def known_words() -> str:
    """Every word with what it is for, as a sentence."""
    return "Known: " + "; ".join(f"{word} ({purpose})" for word, purpose in WORDS.items()) + "."


def _stages(words: tuple[str, ...], settings: Settings) -> tuple[Stage, ...]:
    last = Stage(
        name="all pairs",
        origins=ORIGINS,
        epochs=settings.train_epochs,
        batch_size=settings.train_batch_size,
        learning_rate=settings.learning_rate,
        replay_share=settings.replay_share,
    )
    if "two-stage" not in words:
        return (last,)
    first = Stage(
        name="documentation and commits",
        origins=("docstring", "commit"),
        epochs=settings.first_stage_epochs or last.epochs,
        batch_size=settings.first_stage_batch_size or last.batch_size,
        learning_rate=settings.first_stage_learning_rate or last.learning_rate,
        replay_share=settings.replay_share,
    )
    return (
        first,
        Stage("feedback", ("feedback",), last.epochs, last.batch_size, last.learning_rate, last.replay_share),
    )
