"""Comparisons: differences by slice, and the queries that moved."""

from __future__ import annotations

from dataclasses import replace

import pytest

from assets_tests.evaluation.made import CANDIDATE, SERVING, Slice, evaluation
from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.evaluation.compare import compare, hashes_in, with_places
from pipeline.evaluation.metrics import query_metrics
from pipeline.evaluation.results import Evaluation

SETTINGS = Settings(bootstrap_resamples=300)
SERVED = evaluation(SERVING, Slice([2, 50, 1, 7], "feedback"), Slice([3, 3], language="go"))
TRIED = evaluation(CANDIDATE, Slice([1, 20, 4, 7], "feedback"), Slice([1, 3], language="go"))


def test_differences_are_candidate_minus_serving_in_each_slice() -> None:
    comparison = compare(TRIED, SERVED, SETTINGS)
    assert comparison.overall["mrr@10"].mean == pytest.approx((0.5 + 0 - 0.75 + 0 + 2 / 3 + 0) / 6)
    assert comparison.slices["origin"]["feedback"]["mrr@10"].mean == pytest.approx((0.5 - 0.75) / 4)
    assert comparison.slices["language"]["go"]["recall@1"].mean == pytest.approx(0.5)
    assert comparison.slices["language"]["go"]["recall@1"].count == 2
    assert "triplet_accuracy" not in comparison.overall
    assert set(comparison.slices["origin"]) == {"feedback", "docstring"}


def test_the_queries_that_moved_most_come_first_with_their_ranks() -> None:
    comparison = compare(TRIED, SERVED, SETTINGS)
    assert [(c.before, c.after) for c in comparison.improved] == [(3, 1), (2, 1), (50, 20)]
    assert [(c.before, c.after) for c in comparison.harmed] == [(1, 4)]
    assert comparison.harmed[0].origin == "feedback"
    assert comparison.harmed[0].change < 0


def test_a_query_is_improved_or_harmed_by_the_gates_metric_with_all_its_answers() -> None:
    """Its first answer may stay where it is, or rise, while the others fall."""
    ranks = {SERVING: ([1, 2, 3], [2, 3], [4, 90]), CANDIDATE: ([1, 40, 60], [1, 30], [4, 5])}

    def several(version: str) -> Evaluation:
        made = evaluation(version, Slice([1, 1, 1]))
        results = [
            replace(result, rank=found[0], metrics=query_metrics(found, len(found)))
            for result, found in zip(made.per_query, ranks[version], strict=True)
        ]
        return replace(made, per_query=tuple(results))

    comparison = compare(several(CANDIDATE), several(SERVING), SETTINGS)
    assert [(c.before, c.after) for c in comparison.improved] == [(4, 4)]
    assert [(c.before, c.after) for c in comparison.harmed] == [(1, 1), (2, 1)]
    assert all(c.change < 0 for c in comparison.harmed)


def test_ten_are_shown_of_each_kind() -> None:
    before, after = Slice([*range(2, 14), *[1] * 15]), Slice([*[1] * 12, *range(2, 17)])
    comparison = compare(evaluation(CANDIDATE, after), evaluation(SERVING, before), SETTINGS)
    # Whoever moved within the first ten moved the metric; the further down from, the more.
    assert [c.before for c in comparison.improved] == [*range(13, 3, -1)]
    assert {c.after for c in comparison.harmed[:6]} == {16, 15, 14, 13, 12, 11}
    assert [c.after for c in comparison.harmed[6:]] == [10, 9, 8, 7]


def test_other_test_sets_are_refused() -> None:
    other = evaluation(SERVING, Slice([1]), test_set="cd" * 32)
    with pytest.raises(HoneloopError, match="different test sets"):
        compare(TRIED, other, SETTINGS)


def test_changes_show_what_stood_above_and_say_where_it_stands() -> None:
    comparison = compare(TRIED, SERVED, SETTINGS)
    (harmed,) = comparison.harmed
    assert (len(harmed.above_before), len(harmed.above_after)) == (0, 3)
    assert harmed.top_after[3] == harmed.answer == harmed.top_before[0]
    far = comparison.improved[-1]  # from rank 50 to 20: the ten that were kept all stood above
    assert (len(far.above_before), len(far.above_after)) == (10, 10)
    assert far.answer not in far.top_before
    hashes = hashes_in(comparison)
    assert bytes.fromhex(harmed.answer) in hashes
    places = {each: f"place {each.hex()[:4]}" for each in hashes if each.hex() != harmed.answer}
    shown = with_places(comparison, places).harmed[0]
    assert shown.above_after == tuple(f"place {each[:4]}" for each in harmed.above_after)
    assert shown.answer == f"deleted code {harmed.answer[:8]}"


def test_the_gates_metric_has_a_permutation_p_everywhere() -> None:
    comparison = compare(TRIED, SERVED, SETTINGS)
    assert all(each.permutation_p is not None for each in comparison.overall.values())
    of_go = comparison.slices["language"]["go"]
    assert of_go["ndcg@10"].permutation_p == 1  # of two queries one moved
    assert of_go["mrr@10"].permutation_p is None
    assert set(comparison.to_json()) >= {"overall", "by_origin", "by_language", "by_repository", "by_length"}
