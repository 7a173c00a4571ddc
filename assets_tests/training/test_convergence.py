"""Overfitting is said when what is trained on goes better and what is held out goes worse; and only then."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.training.convergence import convergence_of, overfitting_in
from pipeline.training.history import Row

LIMITS: dict[str, Any] = {"loss_rise": 0.05, "metric_drop": 0.01}


def run(
    losses: list[float],
    validation_losses: list[float],
    metrics: list[float] | None = None,
    stage: str = "all pairs",
) -> list[Row]:
    """A history of equally many steps between validations, the first of them before any step."""
    every = len(losses) // (len(validation_losses) - 1)
    metrics = metrics or [0.5] * len(validation_losses)
    rows: list[Row] = []
    place = {"epoch": 0.0, "stage": stage}
    for number, (loss, metric) in enumerate(zip(validation_losses, metrics, strict=True)):
        rows += [
            {"step": step + 1, **place, "loss": losses[step]}
            for step in range((number - 1) * every, number * every)
            if number
        ]
        at = {"step": number * every, **(place if number else {"epoch": 0.0})}
        rows.append({**at, "ndcg@10": metric, "validation_loss": loss})
    return rows


FALLING = [2.0, 1.8, 1.5, 1.3, 1.0, 0.8, 0.5, 0.3]


def test_a_validation_loss_that_rises_while_the_training_loss_falls_is_overfitting() -> None:
    found = overfitting_in(run(FALLING, [1.5, 1.2, 1.0, 1.1, 1.4]), **LIMITS)
    assert found is not None
    assert (found.since_step, found.what, found.best, found.last) == (4, "validation loss", 1.0, 1.4)
    # As many steps before the turning point as after it.
    assert (found.training_loss_before, found.training_loss_after) == pytest.approx((1.65, 0.65))
    assert found.sentence == (
        "Overfitting since step 4: the validation loss rose from 1.0000 to 1.4000 while the training loss "
        "fell from 1.6500 to 0.6500."
    )


def test_a_metric_that_falls_while_the_training_loss_falls_is_overfitting() -> None:
    found = overfitting_in(run(FALLING, [1.0] * 5, [0.5, 0.6, 0.7, 0.7, 0.65]), **LIMITS)
    assert found is not None
    # Of equal metrics the later is the one whose weights are kept.
    assert (found.since_step, found.what, found.best, found.last) == (6, "validation ndcg@10", 0.7, 0.65)
    assert "fell from 0.7000 to 0.6500" in found.sentence


def test_the_earlier_of_two_turning_points_is_told() -> None:
    found = overfitting_in(run(FALLING, [1.5, 1.0, 1.1, 1.2, 1.4], [0.5, 0.6, 0.7, 0.6, 0.5]), **LIMITS)
    assert found is not None
    assert (found.since_step, found.what) == (2, "validation loss")


@pytest.mark.parametrize(
    ("losses", "validation_losses", "metrics"),
    [
        (FALLING, [1.5, 1.2, 1.0, 0.9, 0.8], None),  # it converges
        (FALLING, [1.5, 1.2, 1.0, 1.0, 1.04], None),  # within the margin
        (FALLING, [1.5, 1.2, 1.0, 1.0, 1.0], [0.5, 0.6, 0.6, 0.6, 0.595]),  # likewise
        (FALLING[::-1], [1.5, 1.2, 1.0, 1.1, 1.4], None),  # it diverges: the training loss rises as well
        (FALLING, [1.5, 1.2, 2.0, 1.1, 1.0], None),  # it recovered
    ],
)
def test_anything_else_is_not(
    losses: list[float], validation_losses: list[float], metrics: list[float] | None
) -> None:
    assert overfitting_in(run(losses, validation_losses, metrics), **LIMITS) is None


def test_the_margins_are_settings() -> None:
    rows = run(FALLING, [1.5, 1.2, 1.0, 1.0, 1.04])
    assert overfitting_in(rows, loss_rise=0.03, metric_drop=0.01) is not None


def test_a_training_that_was_wrong_from_the_start_is_compared_by_its_halves() -> None:
    found = overfitting_in(run(FALLING, [1.0, 1.2, 1.3, 1.4, 1.5]), **LIMITS)
    assert found is not None
    assert found.since_step == 0
    assert (found.training_loss_before, found.training_loss_after) == pytest.approx((1.65, 0.65))


def test_without_validations_or_with_one_step_there_is_nothing_to_say() -> None:
    steps: list[Row] = [{"step": i, "epoch": 0.0, "loss": 1.0 / i} for i in range(1, 9)]
    assert overfitting_in(steps, **LIMITS) is None
    assert overfitting_in(run([1.0], [1.0, 2.0]), **LIMITS) is None
    assert overfitting_in([], **LIMITS) is None


def test_histories_of_earlier_releases_have_no_validation_loss() -> None:
    rows = [{k: v for k, v in row.items() if k != "validation_loss"} for row in run(FALLING, [1.0] * 5)]
    assert overfitting_in(rows, **LIMITS) is None
    (found,) = convergence_of(rows, **LIMITS).stages
    assert found.validation_loss is None
    assert found.lowest_step is None


def test_stages_are_looked_at_one_by_one() -> None:
    first = run(FALLING, [1.5, 1.2, 1.0, 1.1, 1.4], stage="documentation")
    # Feedback's losses are higher: across the stages, the training loss would seem to rise.
    second = run([x + 3 for x in FALLING], [0.0, 1.3, 1.2, 1.1, 1.0], stage="feedback")[1:]
    for row in second:
        row["step"] += 8
    found = convergence_of([*first, *second], **LIMITS)
    assert [finding.since_step for finding in found.overfitting] == [4]


def test_a_stage_begins_with_the_best_weights_so_far() -> None:
    first = run(FALLING, [1.5, 1.2, 1.0, 1.0, 1.0], [0.5, 0.6, 0.8, 0.8, 0.8], stage="documentation")
    second = run(FALLING, [1.5, 1.0, 1.0], [0.5, 0.7, 0.7], stage="feedback")[1:]
    for row in second:
        row["step"] += 8
    found = convergence_of([*first, *second], **LIMITS)
    # It never came back to where it began.
    assert [(finding.since_step, finding.best) for finding in found.overfitting] == [(8, 0.8)]


def test_what_began_at_the_base_is_not_compared_with_what_ended_before_it() -> None:
    first = run(FALLING, [1.5, 1.2, 1.0, 1.0, 1.0], [0.5, 0.6, 0.8, 0.8, 0.8])
    # Another training: its validation loss starts at the base's, falls, and stays above the first's last.
    second = run(FALLING, [1.5, 1.3, 1.2], [0.5, 0.6, 0.7], stage="feedback alone")[1:]
    for row in second:
        row["step"] += 8
    following = convergence_of([*first, *second], **LIMITS)
    assert [finding.since_step for finding in following.overfitting] == [8]
    apart = convergence_of([*first, *second], **LIMITS, apart=True)
    assert apart.overfitting == []
    assert [each.validation_loss for each in apart.stages] == [(1.5, 1.0, 1.0), (1.5, 1.2, 1.2)]
    assert [(each.stage, each.steps) for each in apart.stages] == [("all pairs", 8), ("feedback alone", 8)]


def test_what_was_wrong_from_where_it_began_is_told_from_that_step() -> None:
    first = run(FALLING, [1.5, 1.2, 1.0, 1.0, 1.0])
    second = run(FALLING, [1.5, 1.7, 1.9, 2.0, 2.1], stage="feedback alone")[1:]
    for row in second:
        row["step"] += 8
    (finding,) = convergence_of([*first, *second], **LIMITS, apart=True).overfitting
    assert (finding.since_step, finding.best, finding.last) == (8, 1.5, 2.1)


def test_a_convergence_tells_the_run_in_numbers() -> None:
    found = convergence_of(run(FALLING, [1.5, 1.2, 1.0, 1.1, 1.4]), **LIMITS)
    (stage,) = found.stages
    assert (stage.stage, stage.steps) == ("all pairs", 8)
    assert stage.loss == (pytest.approx(1.9), pytest.approx(0.4))
    assert stage.validation_loss == (1.5, 1.0, 1.4)
    assert stage.lowest_step == 4
    said = found.to_json()
    assert json.loads(json.dumps(said)) == said
    assert said["overfitting"][0]["sentence"].startswith("Overfitting since step 4")
    with pytest.raises(ValueError, match="without a step"):
        convergence_of([], **LIMITS)
