"""Weights fitted to judged queries, and what they gain on queries that they were not fitted to."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from assets_tests.search.judging import drawn
from pipeline.evaluation.metrics import query_metrics
from pipeline.search.hybrid.candidates import Candidate
from pipeline.search.hybrid.fitting import FOLDS, MOST, Judged, cross_validate, fit, gains
from pipeline.search.hybrid.fusion import MEANING_ALONE, Weights, fused
from pipeline.search.hybrid.learning import judged_candidates

TRUE = Weights(0.25, 0.5)


def test_the_weights_that_made_the_judgements_are_found() -> None:
    found = fit(drawn(5000, TRUE))
    assert found.words == pytest.approx(TRUE.words, abs=0.05)
    assert found.crowding == pytest.approx(TRUE.crowding, abs=0.05)


def test_what_says_nothing_counts_nothing() -> None:
    assert fit(drawn(5000, MEANING_ALONE)) == pytest.approx(MEANING_ALONE, abs=0.03)
    assert fit([]) == MEANING_ALONE


def test_weights_stay_within_their_bounds() -> None:
    against = drawn(2000, Weights(-0.5, -0.5))
    assert fit(against) == MEANING_ALONE
    assert fit(drawn(2000, Weights(5.0, 0.0))).words == MOST


def test_a_query_whose_answers_are_no_candidates_says_nothing() -> None:
    known = drawn(200, TRUE)
    lost = [Judged(each.parts, np.zeros(40, dtype=bool), 1, each.ties) for each in drawn(100, TRUE, seed=9)]
    assert fit([*known, *lost]) == fit(known)
    assert gains(lost, TRUE).tolist() == [0.0] * 100


def test_a_query_counts_by_how_far_it_is_believed() -> None:
    honest, poison = drawn(1000, TRUE), drawn(1000, Weights(1.0, 0.0), seed=9)
    hardly = [replace(each, weight=1e-6) for each in poison]
    assert fit([*honest, *hardly]) == pytest.approx(fit(honest), abs=0.01)
    assert fit([*honest, *poison]).words > fit(honest).words + 0.1
    # What matters is how they compare.
    assert fit([replace(each, weight=0.3) for each in honest]) == pytest.approx(fit(honest), abs=0.002)


def test_queries_with_fewer_candidates_count_as_others_do() -> None:
    """Candidates that are not there must not be mistaken for some with a score of 0."""
    whole = drawn(2000, TRUE)
    few = [
        Judged(each.parts[kept], each.relevant[kept], 1, each.ties[kept])
        for number, each in enumerate(whole)
        for kept in [np.unique([*range(20 + number % 20), int(each.relevant.argmax())])]
    ]
    assert fit(few) == pytest.approx(fit(whole), abs=0.06)


def test_held_out_gains_come_from_weights_fitted_without_them() -> None:
    queries = drawn(60, TRUE)
    choice = cross_validate(queries)
    assert choice.weights == fit(queries)
    assert len(choice.by_fold) == FOLDS
    for fold, weights in enumerate(choice.by_fold):
        assert weights == fit([each for i, each in enumerate(queries) if i % FOLDS != fold])
        assert choice.held_out[fold::FOLDS].tolist() == gains(queries[fold::FOLDS], weights).tolist()


def test_gains_are_those_of_the_evaluations_metric() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        candidates = [
            Candidate(hashlib.sha256(bytes([i])).digest(), cosine, words, crowding)
            for i, (cosine, words, crowding) in enumerate(rng.random((30, 3)).tolist())
        ]
        relevant = [candidates[i].content_hash for i in rng.choice(30, 3, replace=False)]
        missing = hashlib.sha256(b"not found").digest()
        judged = judged_candidates(candidates, [*relevant, missing])
        for weights in (MEANING_ALONE, TRUE, Weights(1.0, 1.0)):
            order = np.argsort(-fused(candidates, weights))
            ranks = [i + 1 for i, j in enumerate(order) if candidates[j].content_hash in relevant]
            assert judged.gain(weights) == pytest.approx(query_metrics(ranks, 4)["ndcg@10"])
