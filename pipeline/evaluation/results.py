"""What an evaluation found, as data: overall, slice by slice and query by query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.evaluation.metrics import METRICS
from pipeline.evaluation.slices import DIMENSIONS, Dimension, slice_names, slice_of
from pipeline.evaluation.statistics import Interval, mean_with_interval
from pipeline.search.hybrid.fusion import MEANING_ALONE, Weights

Means = dict[str, Interval]
Slices = dict[Dimension, dict[str, Means]]


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
        repository: Where most of its relevant contents stand; "" if that is not known.
        words: How many words the query has; 0 if they were not counted.
        answer: The relevant content that stands first; None if it was not kept.
        top: The contents that stand first in the whole corpus, best first; empty if they were not kept.
    """

    query_key: bytes
    query: str
    origin: str
    language: str
    rank: int
    metrics: dict[str, float]
    repository: str = ""
    words: int = 0
    answer: bytes | None = None
    top: tuple[bytes, ...] = ()


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
        slices: The same for the queries of each origin, language, repository and length.
        per_query: Every query, by query_key ascending.
        margins: cos(query, positive) − cos(query, negative) of every test triplet.
        ranking: What counted beside the cosine in the order of the contents.
        reused: Whether it was stored before and nothing was computed now.
    """

    id: int
    model_version: str
    test_set: str
    queries: int
    corpus: int
    overall: Means
    slices: Slices
    per_query: tuple[QueryResult, ...]
    margins: tuple[float, ...] = field(default=(), repr=False)
    ranking: Weights = MEANING_ALONE
    reused: bool = False


@dataclass(frozen=True)
class Breakdown:
    """The means of one set of query results: overall, and slice by slice."""

    overall: Means
    slices: Slices


def break_down(results: Sequence[QueryResult], resamples: int, seed: int) -> Breakdown:
    """The means and intervals of `results`, of which there is at least one."""

    def means(some: Iterable[QueryResult]) -> Means:
        chosen = list(some)
        values = {name: [r.metrics[name] for r in chosen if name in r.metrics] for name in METRICS}
        return {name: mean_with_interval(each, resamples, seed) for name, each in values.items() if each}

    return Breakdown(
        means(results),
        {
            dimension: {
                name: means(r for r in results if slice_of(r, dimension) == name)
                for name in slice_names(results, dimension)
            }
            for dimension in DIMENSIONS
        },
    )


def breakdown_to_json(breakdown: Breakdown | Evaluation) -> dict[str, Any]:
    """`overall`, `by_origin` and so on; each metric as `[mean, low, high, count]`."""

    def means(some: Means) -> dict[str, list[float]]:
        return {name: [i.mean, i.low, i.high, i.count] for name, i in some.items()}

    return {"overall": means(breakdown.overall)} | {
        f"by_{dimension}": {name: means(some) for name, some in slices.items()}
        for dimension, slices in breakdown.slices.items()
    }


def breakdown_from_json(content: Mapping[str, Any]) -> Breakdown:
    """The inverse of `breakdown_to_json`; a dimension that was not told apart then has no slices."""

    def means(some: Mapping[str, Sequence[float]]) -> Means:
        return {
            name: Interval(mean, low, high, int(count)) for name, (mean, low, high, count) in some.items()
        }

    return Breakdown(
        means(content["overall"]),
        {
            dimension: {name: means(some) for name, some in content.get(f"by_{dimension}", {}).items()}
            for dimension in DIMENSIONS
        },
    )
