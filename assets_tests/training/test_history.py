"""A run fails when its loss is not a number, or rose."""

from __future__ import annotations

import math

import pytest

from pipeline.errors import HoneloopError
from pipeline.training.history import Row, check_falling, check_finite, losses, validation_change, validations


def steps(*values: float) -> list[Row]:
    return [{"step": i, "epoch": i / len(values), "loss": value} for i, value in enumerate(values, start=1)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_fails_naming_the_step(value: float) -> None:
    with pytest.raises(HoneloopError, match=r"the loss became .* at step 12"):
        check_finite(value, "loss", 12)


def test_a_falling_loss_passes() -> None:
    check_falling(steps(2, 2, 1, 1, 1, 1, 0.5, 0.5), 1.1)


def test_a_rising_loss_fails_with_both_figures() -> None:
    with pytest.raises(HoneloopError, match=r"from 1\.0000 .* to 1\.2000"):
        check_falling(steps(1, 1, 1, 1, 1, 1, 1.2, 1.2), 1.1)


@pytest.mark.parametrize(("best", "fails"), [(0.6, False), (0.5, True), (0.4, True)])
def test_harder_batches_at_the_end_do_not_fail_a_run_that_ranks_better(best: float, fails: bool) -> None:
    history: list[Row] = [
        {"step": 0, "epoch": 0.0, "ndcg@10": 0.5, "mrr@10": 0.4},
        *steps(1, 1, 1, 1, 1, 1, 1.2, 1.2),
        {"step": 8, "epoch": 1.0, "ndcg@10": best, "mrr@10": 0.4},
    ]
    if fails:
        with pytest.raises(HoneloopError, match=r"the loss rose"):
            check_falling(history, 1.1)
    else:
        check_falling(history, 1.1)


def test_batches_that_differ_by_more_than_the_loss_rose_do_not_fail_a_run() -> None:
    # One that did: 440 pairs of feedback, of which some batches are ten times as hard as others.
    middle = (0.19, 0.13, 0.14, 0.15, 0.02, 0.04)
    check_falling(steps(0.125, 0.069, 0.072, *middle, 0.06, 0.11, 0.13), 1.1)
    with pytest.raises(HoneloopError, match=r"the loss rose"):
        check_falling(steps(0.125, 0.069, 0.072, *middle, 0.31, 0.36, 0.38), 1.1)


def test_a_single_bad_batch_does_not_fail_a_run() -> None:
    check_falling(steps(1, 1, 1, 1, 0.4, 0.4, 0.4, 1.5), 1.1)


def test_a_harder_second_stage_is_no_rising_loss_and_a_rise_within_it_is() -> None:
    first = [{**row, "stage": "documentation and commits"} for row in steps(1, 1, 1, 1, 1, 1, 0.9, 0.9)]
    level, rising = (
        [{**row, "step": row["step"] + 8, "stage": "feedback"} for row in steps(*values)]
        for values in ([3.0] * 8, [3, 3, 3, 3, 3, 3, 4, 4])
    )
    check_falling([*first, *level], 1.1)
    with pytest.raises(HoneloopError, match=r"rose from 3\.0000 .* in the stage 'feedback'"):
        check_falling([*first, *rising], 1.1)


def test_a_part_that_began_at_the_base_has_to_rank_better_by_itself() -> None:
    base: Row = {"step": 0, "epoch": 0.0, "ndcg@10": 0.5, "mrr@10": 0.4}
    first = [{**row, "stage": "all pairs"} for row in steps(1, 1, 1, 1, 0.8, 0.8, 0.7, 0.7)]
    better: Row = {"step": 8, "stage": "all pairs", "epoch": 1.0, "ndcg@10": 0.6, "mrr@10": 0.5}
    rising = [
        {**row, "step": row["step"] + 8, "stage": "feedback alone"} for row in steps(1, 1, 1, 1, 1, 1, 2, 2)
    ]
    worse: Row = {"step": 16, "stage": "feedback alone", "epoch": 1.0, "ndcg@10": 0.1, "mrr@10": 0.1}
    history = [base, *first, better, *rising, worse]
    # Going on from the first, the best weights are those of the first.
    check_falling(history, 1.1)
    with pytest.raises(HoneloopError, match=r"rose from 1\.0000 .* in the stage 'feedback alone'"):
        check_falling(history, 1.1, apart=True)
    check_falling([*history[:-1], {**worse, "ndcg@10": 0.55}], 1.1, apart=True)


def test_the_limit_is_a_setting() -> None:
    rising = steps(1, 1, 1, 1, 1, 1, 1.2, 1.2)
    check_falling(rising, 1.3)


def test_a_run_too_short_to_tell_passes() -> None:
    check_falling(steps(1, 1, 1, 1, 1, 1, 9), 1.1)


def test_validations_stand_between_the_steps() -> None:
    history: list[Row] = [
        {"step": 0, "epoch": 0.0, "ndcg@10": 0.5, "mrr@10": 0.4},
        *steps(3, 2),
        {"step": 2, "epoch": 1.0, "ndcg@10": 0.7, "mrr@10": 0.6},
        {"step": 3, "epoch": 1.5, "ndcg@10": 0.6, "mrr@10": 0.6},
    ]
    assert losses(history) == [3, 2]
    assert [row["step"] for row in validations(history)] == [0, 2, 3]
    assert validation_change(history) == (0.5, 0.7)


def test_without_validation_pairs_there_is_no_change_to_tell() -> None:
    assert validation_change(steps(3, 2)) is None
