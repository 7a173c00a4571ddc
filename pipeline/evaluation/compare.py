"""Two evaluations of one test set side by side: differences with intervals, and the queries that moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.evaluation.metrics import METRICS
from pipeline.evaluation.results import Evaluation, QueryResult
from pipeline.evaluation.statistics import Difference, paired_bootstrap

Differences = dict[str, Difference]
SHOWN = 10


@dataclass(frozen=True)
class QueryChange:
    """One query whose first relevant content moved: its rank before and after, from 1."""

    query: str
    origin: str
    language: str
    before: int
    after: int
    change: float  # of the gate's metric


@dataclass(frozen=True)
class Comparison:
    """Candidate − serving for each metric: overall, by origin, by language; and the queries that moved most.

    `improved` and `harmed` are ordered by how much the gate's metric moved, then by the reciprocal rank.
    """

    candidate_version: str
    serving_version: str
    test_set: str
    metric: str
    overall: Differences
    by_origin: dict[str, Differences]
    by_language: dict[str, Differences]
    improved: tuple[QueryChange, ...]
    harmed: tuple[QueryChange, ...]


def compare(candidate: Evaluation, serving: Evaluation, settings: Settings) -> Comparison:
    """What changes if `candidate` serves instead of `serving`.

    Raises:
        HoneloopError: they were not measured on the same test set.
    """
    pairs = paired_queries(candidate, serving)

    def differences(keep: Callable[[QueryResult], bool]) -> Differences:
        chosen = [pair for pair in pairs if keep(pair[0])]
        found: Differences = {}
        for metric in METRICS:
            difference = metric_difference(chosen, metric, settings.bootstrap_resamples, settings.seed)
            if difference is not None:
                found[metric] = difference
        return found

    changes = _changes(pairs, settings.gate_metric)
    return Comparison(
        candidate_version=candidate.model_version,
        serving_version=serving.model_version,
        test_set=candidate.test_set,
        metric=settings.gate_metric,
        overall=differences(lambda _: True),
        by_origin={name: differences(lambda r, n=name: r.origin == n) for name in candidate.by_origin},
        by_language={name: differences(lambda r, n=name: r.language == n) for name in candidate.by_language},
        improved=tuple([each for each in changes if each.after < each.before][:SHOWN]),
        harmed=tuple([each for each in reversed(changes) if each.after > each.before][:SHOWN]),
    )


def paired_queries(candidate: Evaluation, serving: Evaluation) -> list[tuple[QueryResult, QueryResult]]:
    """Each query's results under both models, candidate first.

    A query whose asker was forgotten between the two has another key in the older one, and is left out.

    Raises:
        HoneloopError: they were not measured on the same test set.
    """
    if candidate.test_set != serving.test_set:
        raise HoneloopError(
            f"The models {candidate.model_version[:12]} and {serving.model_version[:12]} were measured on "
            "different test sets, so their figures cannot be compared.",
            hint="Evaluate both again: `honeloop train` does.",
        )
    other = {result.query_key: result for result in serving.per_query}
    return [(result, other[result.query_key]) for result in candidate.per_query if result.query_key in other]


def metric_difference(
    pairs: Sequence[tuple[QueryResult, QueryResult]], metric: str, resamples: int, seed: int
) -> Difference | None:
    """The paired difference of one metric over those queries that have it; None if none has."""
    values = [
        (first.metrics[metric], second.metrics[metric]) for first, second in pairs if metric in first.metrics
    ]
    if not values:
        return None
    return paired_bootstrap([a for a, _ in values], [b for _, b in values], resamples, seed)


def _changes(pairs: Sequence[tuple[QueryResult, QueryResult]], metric: str) -> list[QueryChange]:
    """The queries whose rank moved, the most improved first."""
    changes = [
        QueryChange(
            query=after.query,
            origin=after.origin,
            language=after.language,
            before=before.rank,
            after=after.rank,
            change=after.metrics.get(metric, 0.0) - before.metrics.get(metric, 0.0),
        )
        for after, before in pairs
        if after.rank != before.rank
    ]
    return sorted(changes, key=lambda c: (-c.change, 1 / c.before - 1 / c.after, c.query))
