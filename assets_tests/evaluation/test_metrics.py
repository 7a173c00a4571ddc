"""Metrics: by hand, and against scikit-learn's own implementation on random rankings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score, ndcg_score

from pipeline.evaluation.metrics import RANKING_METRICS, query_metrics

RANDOM_RANKINGS = 300


def test_a_single_answer_at_rank_three() -> None:
    metrics = query_metrics([3], relevant=1)
    assert metrics == {
        "map@10": pytest.approx(1 / 3),
        "mrr@10": pytest.approx(1 / 3),
        "ndcg@10": pytest.approx(1 / math.log2(4)),
        "recall@1": 0,
        "recall@5": 1,
        "recall@10": 1,
        "recall@100": 1,
    }


def test_three_answers_of_which_one_is_never_found() -> None:
    metrics = query_metrics([12, 2], relevant=3)
    assert metrics["map@10"] == pytest.approx((1 / 2) / 3)
    assert metrics["mrr@10"] == pytest.approx(1 / 2)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert metrics["ndcg@10"] == pytest.approx((1 / math.log2(3)) / ideal)
    assert metrics["recall@10"] == pytest.approx(1 / 3)
    assert metrics["recall@100"] == pytest.approx(2 / 3)


def test_more_answers_than_places_can_still_be_perfect() -> None:
    metrics = query_metrics(list(range(1, 16)), relevant=15)
    assert metrics["map@10"] == 1
    assert metrics["ndcg@10"] == 1
    assert metrics["recall@10"] == pytest.approx(10 / 15)


def test_nothing_found() -> None:
    assert set(query_metrics([], relevant=2).values()) == {0.0}


@pytest.mark.parametrize(
    ("rank", "counts"), [(1, 4), (2, 3), (5, 3), (6, 2), (10, 2), (11, 1), (100, 1), (101, 0)]
)
def test_recall_counts_the_cutoff_itself(rank: int, counts: int) -> None:
    metrics = query_metrics([rank], relevant=1)
    assert sum(metrics[f"recall@{k}"] for k in (1, 5, 10, 100)) == counts


@pytest.mark.parametrize(("ranks", "relevant"), [([1], 0), ([1, 2], 1), ([0], 1), ([3, 3], 2)])
def test_what_cannot_be_is_refused(ranks: list[int], relevant: int) -> None:
    with pytest.raises(ValueError):
        query_metrics(ranks, relevant)


def test_agrees_with_scikit_learn_on_random_rankings() -> None:
    random = np.random.default_rng(5)
    for _ in range(RANDOM_RANKINGS):
        size = int(random.integers(11, 60))
        relevant = int(random.integers(1, min(size, 14)))
        truth = np.zeros(size, dtype=int)
        truth[random.choice(size, relevant, replace=False)] = 1
        scores = random.permutation(size).astype(float)  # distinct: scikit-learn averages over ties
        order = np.argsort(-scores)
        metrics = query_metrics(np.flatnonzero(truth[order]) + 1, relevant)

        assert metrics["ndcg@10"] == pytest.approx(ndcg_score([truth], [scores], k=10))
        top = order[:10]
        hits = int(truth[top].sum())
        # scikit-learn divides by the relevant ones it is shown; here it is shown the first ten.
        shown = float(average_precision_score(truth[top], scores[top])) if hits else 0.0
        assert metrics["map@10"] == pytest.approx(shown * hits / min(relevant, 10))
        for k in (1, 5, 10, 100):
            assert metrics[f"recall@{k}"] == pytest.approx(truth[order[:k]].sum() / relevant)


def test_reciprocal_rank_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(6)
    truth = np.eye(10, dtype=int)[random.integers(0, 10, 50)]
    scores = np.array([random.permutation(10) for _ in range(50)], dtype=float)
    ours = [
        query_metrics(np.flatnonzero(each[np.argsort(-score)]) + 1, 1)["mrr@10"]
        for each, score in zip(truth, scores, strict=True)
    ]
    # With one right label, ranking average precision is the reciprocal rank.
    assert np.mean(ours) == pytest.approx(label_ranking_average_precision_score(truth, scores))


def test_every_metric_is_reported() -> None:
    assert tuple(query_metrics([1], 1)) == RANKING_METRICS
