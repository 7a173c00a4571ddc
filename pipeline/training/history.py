"""What a training run left behind step by step, and what in it means that the run failed. Pure.

A history is a list of rows. `{"step", "stage", "epoch", "loss", "learning_rate", "gradient_norm"}` is an
optimiser step, counted from 1 through all stages; `{"step", "stage", "epoch", "ndcg@10", "mrr@10"}` is a
validation, the first of them at step 0, before anything was trained, in no stage. With a guide, a step has
"doubted" too, the documents it took out; a validation has the same metrics by origin, as "by_origin", and
the loss of the validation pairs, as "validation_loss".
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


def check_falling(history: Sequence[Row], max_rise: float) -> None:
    """Raises HoneloopError if the loss rose and the validation pairs are ranked no better for it.

    The loss is the last quarter's mean against the first quarter's. Of a few batches it says little, since
    they hold other pairs, of other origins and weights, while the validation pairs are the same each time; so
    a rise has to be beyond what the batches of each quarter differ by among themselves: more than two
    standard errors of the difference of two means of unequal variances (Welch 1947).

    Args:
        history: of a finished run; one too short to tell (fewer than 8 steps) passes.
        max_rise: the last quarter may have at most this many times the loss of the first.
    """
    change = validation_change(history)
    if change is not None and change[1] > change[0]:
        return
    # Each stage by itself: the pairs of another are easier or harder.
    stages = by_stage(history)
    for stage, rows in stages.items():
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
                hint="Lower HONELOOP_LEARNING_RATE; no model was written.",
            )


def by_stage(history: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each stage by its name, in order; what was measured before the first is left out."""
    stages: dict[str, list[Row]] = {}
    for row in history:
        if row["step"] > 0:
            stages.setdefault(row.get("stage", ""), []).append(row)
    return stages


def validation_change(history: Sequence[Row]) -> tuple[float, float] | None:
    """The validation metric before training and the best after it; None if there were no validation pairs."""
    rows = validations(history)
    if len(rows) < 2:
        return None
    return float(rows[0][METRIC]), max(float(row[METRIC]) for row in rows[1:])
