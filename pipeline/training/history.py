"""What a training run left behind step by step, and what in it means that the run failed. Pure.

A history is a list of rows. `{"step", "stage", "epoch", "loss", "learning_rate", "gradient_norm"}` is an
optimiser step, counted from 1 through all stages; `{"step", "stage", "epoch", "ndcg@10", "mrr@10"}` is a
validation, the first of them at step 0, before anything was trained, in no stage. With a guide, a step has
"doubted" too, the documents it took out; a validation has the same metrics by origin, as "by_origin", and
the loss of the validation pairs, as "validation_loss".

Stages follow one another, each going on with the best weights so far, or are `apart`: each begins at the base
(see `Recipe.apart`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, variance
from typing import Any

from pipeline.errors import HoneloopError
from pipeline.training.validation import METRIC

Row = dict[str, Any]

# A quarter of the run is averaged; with fewer than two steps in it, the average says nothing.
_FEWEST_STEPS = 8
# Standard errors that a rise of the loss has to exceed.
_ERRORS = 2.0


def losses(history: Sequence[Row]) -> list[float]:
    """The loss of each optimiser step, in order."""
    return [float(row["loss"]) for row in history if "loss" in row]


def validations(history: Sequence[Row]) -> list[Row]:
    """The validation rows, in order; the first is the base model's."""
    return [row for row in history if METRIC in row]


def doubted(history: Sequence[Row]) -> int:
    """How many documents a guide took out of the negatives, in all steps together."""
    return sum(int(row.get("doubted", 0)) for row in history)


def check_finite(value: float, what: str, step: int) -> None:
    """Raises HoneloopError if `value` is NaN or infinite: nothing that follows could be used."""
    if not math.isfinite(value):
        raise HoneloopError(
            f"Fine-tuning failed: the {what} became {value} at step {step}.",
            hint="Lower HONELOOP_LEARNING_RATE or HONELOOP_MAX_GRAD_NORM; no model was written.",
        )


def stages_of(history: Sequence[Row], *, apart: bool) -> dict[str, list[Row]]:
    """The rows of each stage by its name, in order. Losses on other pairs are not compared with one another.

    In front of them stands the validation of the weights that the stage began with, at the step before its
    first: the base's if the stages are `apart`, else the best so far; none without validation pairs.
    """
    stages: dict[str, list[Row]] = {}
    base: Row | None = None
    best: Row | None = None
    for row in history:
        if row["step"] > 0:
            name, begun = row.get("stage", ""), base if apart else best
            if name not in stages:
                stages[name] = [] if begun is None else [{**begun, "step": row["step"] - 1}]
            stages[name].append(row)
        elif METRIC in row:
            base = row
        # What was trained is chosen even if it ranks no better than the base.
        if METRIC in row and (best is None or best is base or row[METRIC] >= best[METRIC]):
            best = row
    return stages


def check_falling(history: Sequence[Row], max_rise: float, *, apart: bool = False) -> None:
    """Raises HoneloopError if the loss rose and the validation pairs are ranked no better for it.

    The loss is the last quarter's mean against the first quarter's. Of a few batches it says little, since
    they hold other pairs, of other origins and weights, while the validation pairs are the same each time; so
    a rise has to be beyond what the batches of each quarter differ by among themselves: more than two
    standard errors of the difference of two means of unequal variances (Welch 1947).

    Args:
        history: of a finished run; one too short to tell (fewer than 8 steps) passes.
        max_rise: the last quarter may have at most this many times the loss of the first.
        apart: whether each stage began at the base, and so has to rank better by itself.
    """
    stages = stages_of(history, apart=apart)
    for stage, rows in stages.items():
        change = validation_change(rows if apart else history)
        if change is not None and change[1] > change[0]:
            continue
        values = losses(rows)
        quarter = len(values) // 4
        if len(values) < _FEWEST_STEPS:
            continue
        first, last = mean(values[:quarter]), mean(values[-quarter:])
        error = ((variance(values[:quarter]) + variance(values[-quarter:])) / quarter) ** 0.5
        if last > max_rise * first and last - first > _ERRORS * error:
            raise HoneloopError(
                f"Fine-tuning failed: the loss rose from {first:.4f} (first {quarter} steps) to {last:.4f} "
                f"(last {quarter} steps)" + (f" in the stage {stage!r}." if len(stages) > 1 else "."),
                hint="Lower HONELOOP_LEARNING_RATE, or HONELOOP_FEEDBACK_LEARNING_RATE if it was of feedback "
                "alone; no model was written.",
            )


def validation_change(rows: Sequence[Row]) -> tuple[float, float] | None:
    """The first validation metric and the best after it; None without validation pairs.

    Args:
        rows: a history, whose first is the base's, or those of one stage as `stages_of` gives them.
    """
    found = validations(rows)
    if len(found) < 2:
        return None
    return float(found[0][METRIC]), max(float(row[METRIC]) for row in found[1:])
