"""Comparisons: differences by slice, and the queries that moved."""

from __future__ import annotations

import pytest

from assets_tests.evaluation.made import CANDIDATE, SERVING, Slice, evaluation
from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.evaluation.compare import compare

SETTINGS = Settings(bootstrap_resamples=300)
SERVED = evaluation(SERVING, Slice([2, 50, 1, 7], "feedback"), Slice([3, 3], language="go"))
TRIED = evaluation(CANDIDATE, Slice([1, 20, 4, 7], "feedback"), Slice([1, 3], language="go"))


def test_differences_are_candidate_minus_serving_in_each_slice() -> None:
    comparison = compare(TRIED, SERVED, SETTINGS)
    assert comparison.overall["mrr@10"].mean == pytest.approx((0.5 + 0 - 0.75 + 0 + 2 / 3 + 0) / 6)
    assert comparison.by_origin["feedback"]["mrr@10"].mean == pytest.approx((0.5 - 0.75) / 4)
    assert comparison.by_language["go"]["recall@1"].mean == pytest.approx(0.5)
    assert comparison.by_language["go"]["recall@1"].count == 2
    assert "triplet_accuracy" not in comparison.overall
    assert set(comparison.by_origin) == {"feedback", "docstring"}


def test_the_queries_that_moved_most_come_first_with_their_ranks() -> None:
    comparison = compare(TRIED, SERVED, SETTINGS)
    assert [(c.before, c.after) for c in comparison.improved] == [(3, 1), (2, 1), (50, 20)]
    assert [(c.before, c.after) for c in comparison.harmed] == [(1, 4)]
    assert comparison.harmed[0].origin == "feedback"
    assert comparison.harmed[0].change < 0


def test_other_test_sets_are_refused() -> None:
    other = evaluation(SERVING, Slice([1]), test_set="cd" * 32)
    with pytest.raises(HoneloopError, match="different test sets"):
        compare(TRIED, other, SETTINGS)
