"""What an evaluation found, as data: overall, by origin, by language and query by query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.evaluation.metrics import METRICS
from pipeline.evaluation.statistics import Interval, mean_with_interval

Means = dict[str, Interval]


@dataclass(frozen=True)
class QueryResult:
    """How one test query went.

    Attributes:
        query_key: The same for this query under every model, so that two evaluations can be paired.
        query: What was asked.
        origin: feedback, docstring or commit.
        language: The language of most of its relevant contents.
        rank: Where its first relevant content stands in the whole corpus, from 1.
        metrics: By name; triplet_accuracy only if the query has negatives.
    """

    query_key: bytes
    query: str
    origin: str
    language: str
    rank: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """One model version on one test set.

    Attributes:
        id: In the table `evaluations`.
        model_version: Whose vectors were ranked.
        test_set: The same for two evaluations exactly when they may be compared.
        queries: How many test queries were measured.
        corpus: How many distinct contents each of them ranked.
        overall: Each metric's mean over all queries, with its interval.
        by_origin: The same for the queries of each origin.
        by_language: The same for the queries of each language.
        per_query: Every query, by query_key ascending.
        margins: cos(query, positive) − cos(query, negative) of every test triplet.
        reused: Whether it was stored before and nothing was computed now.
    """

    id: int
    model_version: str
    test_set: str
    queries: int
    corpus: int
    overall: Means
    by_origin: dict[str, Means]
    by_language: dict[str, Means]
    per_query: tuple[QueryResult, ...]
    margins: tuple[float, ...] = field(default=(), repr=False)
    reused: bool = False


@dataclass(frozen=True)
class Breakdown:
    """The means of one set of query results: overall, by origin and by language."""

    overall: Means
    by_origin: dict[str, Means]
    by_language: dict[str, Means]


def break_down(results: Sequence[QueryResult], resamples: int, seed: int) -> Breakdown:
    """The means and intervals of `results`, of which there is at least one."""

    def means(some: Iterable[QueryResult]) -> Means:
        chosen = list(some)
        values = {name: [r.metrics[name] for r in chosen if name in r.metrics] for name in METRICS}
        return {name: mean_with_interval(each, resamples, seed) for name, each in values.items() if each}

    def sliced(key: Callable[[QueryResult], str]) -> dict[str, Means]:
        return {
            name: means(r for r in results if key(r) == name) for name in sorted({key(r) for r in results})
        }

    return Breakdown(means(results), sliced(lambda r: r.origin), sliced(lambda r: r.language))


def breakdown_to_json(breakdown: Breakdown | Evaluation) -> dict[str, Any]:
    """Overall, by origin and by language; each metric as `[mean, low, high, count]`."""

    def means(some: Means) -> dict[str, list[float]]:
        return {name: [i.mean, i.low, i.high, i.count] for name, i in some.items()}

    return {
        "overall": means(breakdown.overall),
        "by_origin": {name: means(some) for name, some in breakdown.by_origin.items()},
        "by_language": {name: means(some) for name, some in breakdown.by_language.items()},
    }


def breakdown_from_json(content: Mapping[str, Any]) -> Breakdown:
    """The inverse of `breakdown_to_json`."""

    def means(some: Mapping[str, Sequence[float]]) -> Means:
        return {
            name: Interval(mean, low, high, int(count)) for name, (mean, low, high, count) in some.items()
        }

    return Breakdown(
        means(content["overall"]),
        {name: means(some) for name, some in content["by_origin"].items()},
        {name: means(some) for name, some in content["by_language"].items()},
    )
