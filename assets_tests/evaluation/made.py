"""Evaluations with results of our choosing: for the pure functions that read them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.evaluation.metrics import query_metrics
from pipeline.evaluation.results import Evaluation, QueryResult, break_down
from pipeline.promotion.gate import GeneralMeasurements, Measurements

TEST_SET = "ab" * 32
BASE, SERVING, CANDIDATE = "b" * 64, "5" * 64, "c" * 64


@dataclass(frozen=True)
class Slice:
    """The ranks of the single relevant content of some queries of one origin, language and so on."""

    ranks: Sequence[int]
    origin: str = "docstring"
    language: str = "python"
    repository: str = ""
    words: int = 0


def content(name: str) -> bytes:
    """The hash of a content that stands nowhere."""
    return hashlib.sha256(name.encode()).digest()


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
            top = [content(f"{query} {version} {other}") for other in range(1, 11)]
            if rank <= len(top):
                top[rank - 1] = content(query)
            results.append(
                QueryResult(
                    key,
                    query,
                    each.origin,
                    each.language,
                    rank,
                    metrics,
                    each.repository,
                    each.words,
                    content(query),
                    tuple(top),
                )
            )
    results.sort(key=lambda result: result.query_key)
    breakdown = break_down(results, resamples=200, seed=1)
    return Evaluation(
        id=0,
        model_version=version,
        test_set=test_set,
        queries=len(results),
        corpus=1000,
        overall=breakdown.overall,
        slices=breakdown.slices,
        per_query=tuple(results),
        margins=tuple(triplets),
    )


def measured(
    candidate: Evaluation,
    serving: Evaluation,
    base: Evaluation | None = None,
    general: GeneralMeasurements | None = None,
) -> Measurements:
    """What the gate is given; without a base, what serves is the base."""
    return Measurements(candidate, serving, base or serving, general)
