"""How a training went, out of its history: what fell, what rose, and whether it learned by heart. Pure.

Overfitting is said of a training (or a stage of it) when, since a turning point, all that was trained on went
better and what was held out went worse:

- the validation loss ends more than a share above its lowest, which is what Prechelt calls the generalisation
  loss ("Early stopping – but when?", 1998), or the validation metric ends more than a margin below its best,
- and the training loss after that turning point is lower, on average, than in as many steps before it.

Which weights are kept is decided elsewhere (`choosing`); a finding says that more of the same training would
not help, and how far the run went on in vain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.config import Settings
from pipeline.training.history import Row, losses, stages_of, validations
from pipeline.training.validation import METRIC, VALIDATION_LOSS

# Of fewer steps, the mean says which pairs were in them, and not what was learned.
_FEWEST_STEPS = 2


@dataclass(frozen=True)
class Overfitting:
    """A finding: from which step on the model learned by heart.

    Attributes:
        since_step: the turning point.
        what: which held-out figure went worse: "validation loss" or the metric's name.
        best, last: that figure at the turning point and at the end.
        training_loss_before, training_loss_after: means over equally many steps around the turning point.
    """

    since_step: int
    what: str
    best: float
    last: float
    training_loss_before: float
    training_loss_after: float

    @property
    def sentence(self) -> str:
        """The finding in one sentence."""
        verb = "rose" if self.last > self.best else "fell"
        return (
            f"Overfitting since step {self.since_step}: the {self.what} {verb} from {self.best:.4f} to "
            f"{self.last:.4f} while the training loss fell from {self.training_loss_before:.4f} to "
            f"{self.training_loss_after:.4f}."
        )


@dataclass(frozen=True)
class StageConvergence:
    """One stage in numbers.

    Attributes:
        stage: its name.
        steps: optimiser steps taken.
        loss: means of the first and of the last quarter of the steps.
        validation_loss: of the weights it began with, lowest, and last; None without validation pairs.
        lowest_step: where it was lowest; None likewise.
        overfitting: what was found, if anything.
    """

    stage: str
    steps: int
    loss: tuple[float, float]
    validation_loss: tuple[float, float, float] | None
    lowest_step: int | None
    overfitting: Overfitting | None


@dataclass(frozen=True)
class Convergence:
    """A training in numbers, stage by stage: the losses of one say nothing about those of another."""

    stages: tuple[StageConvergence, ...]

    @property
    def overfitting(self) -> list[Overfitting]:
        """The findings, of each stage one at most."""
        return [each.overfitting for each in self.stages if each.overfitting is not None]

    def to_json(self) -> dict[str, Any]:
        """For manifests and metadata: the stages, and the findings with their sentences."""
        return {
            "stages": [_numbers(each) for each in self.stages],
            "overfitting": [
                {**asdict(finding), "sentence": finding.sentence} for finding in self.overfitting
            ],
        }


def _numbers(stage: StageConvergence) -> dict[str, Any]:
    """All but the finding; in JSON there are no tuples."""
    numbers = {name: value for name, value in asdict(stage).items() if name != "overfitting"}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in numbers.items()}


def convergence_of(
    history: Sequence[Row], *, loss_rise: float, metric_drop: float, apart: bool = False
) -> Convergence:
    """What a history says.

    Args:
        history: see `history`.
        loss_rise: the share by which the validation loss may end above its lowest.
        metric_drop: how far the validation metric may end below its best.
        apart: whether each stage began at the base, and not where the one before it ended.

    Raises:
        ValueError: it has no step.
    """
    if not losses(history):
        raise ValueError("without a step there is no convergence to tell of")
    return Convergence(
        tuple(
            _stage(name, rows, overfitting_in(rows, loss_rise=loss_rise, metric_drop=metric_drop))
            for name, rows in stages_of(history, apart=apart).items()
        )
    )


def _stage(name: str, rows: Sequence[Row], overfitting: Overfitting | None) -> StageConvergence:
    found = losses(rows)
    quarter = max(1, len(found) // 4)
    measured = [row for row in validations(rows) if VALIDATION_LOSS in row]
    lowest = min(measured, key=lambda row: float(row[VALIDATION_LOSS]), default=None)
    return StageConvergence(
        stage=name,
        steps=len(found),
        loss=(_mean(found[:quarter]), _mean(found[-quarter:])),
        validation_loss=None
        if lowest is None
        else (measured[0][VALIDATION_LOSS], lowest[VALIDATION_LOSS], measured[-1][VALIDATION_LOSS]),
        lowest_step=None if lowest is None else lowest["step"],
        overfitting=overfitting,
    )


def convergence_by(settings: Settings, history: Sequence[Row], *, apart: bool) -> Convergence:
    """`convergence_of` with the margins that are set."""
    return convergence_of(
        history,
        loss_rise=settings.overfitting_loss_rise,
        metric_drop=settings.overfitting_metric_drop,
        apart=apart,
    )


def overfitting_in(rows: Sequence[Row], *, loss_rise: float, metric_drop: float) -> Overfitting | None:
    """Whether one stage was learned by heart; see the module. The earlier turning point is the one told."""
    steps = [row for row in rows if "loss" in row]
    validated = validations(rows)
    if not steps or len(validated) < 2:
        return None
    findings: list[Overfitting] = []
    last = validated[-1]
    measured = [row for row in validated if VALIDATION_LOSS in row]
    if measured and VALIDATION_LOSS in last:
        turn = min(measured, key=lambda row: float(row[VALIDATION_LOSS]))
        if last[VALIDATION_LOSS] > turn[VALIDATION_LOSS] * (1 + loss_rise):
            findings += _finding(steps, turn, last, VALIDATION_LOSS, "validation loss")
    # Of equals the later, as the weights that are kept.
    turn = max(validated, key=lambda row: (float(row[METRIC]), row["step"]))
    if last[METRIC] < turn[METRIC] - metric_drop:
        findings += _finding(steps, turn, last, METRIC, f"validation {METRIC}")
    return min(findings, key=lambda finding: finding.since_step, default=None)


def _finding(steps: Sequence[Row], turn: Row, last: Row, key: str, what: str) -> list[Overfitting]:
    """The finding, if the training loss fell meanwhile."""
    at = int(turn["step"])
    before = [float(row["loss"]) for row in steps if row["step"] <= at]
    after = [float(row["loss"]) for row in steps if at < row["step"] <= last["step"]]
    if len(before) < _FEWEST_STEPS:
        # It went wrong from the start: then the halves of what followed are compared.
        before, after = after[: len(after) // 2], after[len(after) // 2 :]
    if min(len(before), len(after)) < _FEWEST_STEPS:
        return []
    window = min(len(before), len(after))
    fell_from, fell_to = _mean(before[-window:]), _mean(after[-window:])
    if fell_to >= fell_from:
        return []
    return [Overfitting(at, what, float(turn[key]), float(last[key]), fell_from, fell_to)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
