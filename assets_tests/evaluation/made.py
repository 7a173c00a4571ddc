"""Evaluations with results of our choosing: for the pure functions that read them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.evaluation.metrics import query_metrics
from pipeline.evaluation.results import Evaluation, QueryResult, break_down

TEST_SET = "ab" * 32
BASE, SERVING, CANDIDATE = "b" * 64, "5" * 64, "c" * 64


@dataclass(frozen=True)
class Slice:
    """The ranks of the single relevant content of some queries of one origin and language."""

    ranks: Sequence[int]
    origin: str = "docstring"
    language: str = "python"


def evaluation(
    version: str, *slices: Slice, test_set: str = TEST_SET, triplets: Sequence[float] = ()
) -> Evaluation:
    """An evaluation whose queries have exactly these ranks; two with equal slices pair query by query."""
    results: list[QueryResult] = []
    for number, each in enumerate(slices):
        for place, rank in enumerate(each.ranks):
            query = f"{each.origin} {each.language} {number} question {place}"
            metrics = query_metrics([rank], 1)
            if triplets:
                metrics["triplet_accuracy"] = float(triplets[place % len(triplets)] > 0)
            key = hashlib.sha256(query.encode()).digest()
            results.append(QueryResult(key, query, each.origin, each.language, rank, metrics))
    results.sort(key=lambda result: result.query_key)
    breakdown = break_down(results, resamples=200, seed=1)
    return Evaluation(
        id=0,
        model_version=version,
        test_set=test_set,
        queries=len(results),
        corpus=1000,
        overall=breakdown.overall,
        by_origin=breakdown.by_origin,
        by_language=breakdown.by_language,
        per_query=tuple(results),
        margins=tuple(triplets),
    )
