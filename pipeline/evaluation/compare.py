"""Two evaluations of one test set side by side: differences with intervals, and the queries that moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.evaluation.metrics import METRICS
from pipeline.evaluation.results import Evaluation, QueryResult
from pipeline.evaluation.slices import DIMENSIONS, Dimension, slice_names, slice_of
from pipeline.evaluation.statistics import LEVEL, Difference, paired_bootstrap, paired_difference

Differences = dict[str, Difference]
Pairs = Sequence[tuple[QueryResult, QueryResult]]
SHOWN = 10


@dataclass(frozen=True)
class QueryChange:
    """One query that is answered better or worse.

    Attributes:
        query: What was asked.
        origin: feedback, docstring or commit.
        language: Of most of its relevant contents.
        before: The rank of its first relevant content under the serving model, from 1.
        after: The same under the candidate.
        change: Of the gate's metric, all relevant contents counted; 0 where only the rank moved, far down.
        answer: The relevant content that stands first under the candidate.
        top_before: What stood first under the serving model, best first.
        top_after: The same under the candidate.

    Contents are named by their hash, in hexadecimal digits, until `with_places` says where they stand.
    """

    query: str
    origin: str
    language: str
    before: int
    after: int
    change: float
    answer: str = ""
    top_before: tuple[str, ...] = ()
    top_after: tuple[str, ...] = ()

    @property
    def better(self) -> bool:
        """Whether the gate's metric rose or, where it did not move, the rank."""
        return self.change > 0 or (self.change == 0 and self.after < self.before)

    @property
    def above_before(self) -> tuple[str, ...]:
        """What stood above the relevant content under the serving model, as far as it was kept."""
        return self.top_before[: self.before - 1]

    @property
    def above_after(self) -> tuple[str, ...]:
        """What stands above the relevant content under the candidate, as far as it was kept."""
        return self.top_after[: self.after - 1]


@dataclass(frozen=True)
class Comparison:
    """Candidate − serving for each metric: overall and slice by slice; and the queries that moved most.

    `improved` and `harmed` are ordered by how much the gate's metric moved, then by the reciprocal rank. Of
    the slices only the gate's metric has the permutation test's p-value.
    """

    candidate_version: str
    serving_version: str
    test_set: str
    metric: str
    overall: Differences
    slices: dict[Dimension, dict[str, Differences]]
    improved: tuple[QueryChange, ...]
    harmed: tuple[QueryChange, ...]

    def to_json(self) -> dict[str, Any]:
        """Slices as `by_origin` and so on, as an evaluation has them."""
        content = asdict(self)
        slices = content.pop("slices")
        return content | {f"by_{dimension}": found for dimension, found in slices.items()}


def compare(candidate: Evaluation, serving: Evaluation, settings: Settings) -> Comparison:
    """What changes if `candidate` serves instead of `serving`.

    Raises:
        HoneloopError: they were not measured on the same test set.
    """
    pairs = paired_queries(candidate, serving)
    resamples, permutations, seed = settings.bootstrap_resamples, settings.permutations, settings.seed

    def differences(chosen: Pairs, tested: Callable[[str], bool]) -> Differences:
        found: Differences = {}
        for metric in METRICS:
            values = _values(chosen, metric)
            if values is None:
                continue
            found[metric] = (
                paired_difference(*values, resamples, permutations, seed)
                if tested(metric)
                else paired_bootstrap(*values, resamples, seed)
            )
        return found

    changes = _changes(pairs, settings.gate_metric)
    return Comparison(
        candidate_version=candidate.model_version,
        serving_version=serving.model_version,
        test_set=candidate.test_set,
        metric=settings.gate_metric,
        overall=differences(pairs, lambda _: True),
        slices={
            dimension: {
                name: differences(some, lambda metric: metric == settings.gate_metric)
                for name, some in sliced(pairs, dimension).items()
            }
            for dimension in DIMENSIONS
        },
        improved=tuple([each for each in changes if each.better][:SHOWN]),
        harmed=tuple([each for each in reversed(changes) if not each.better][:SHOWN]),
    )


def sliced(pairs: Pairs, dimension: Dimension) -> dict[str, Pairs]:
    """The pairs of each slice of a dimension."""
    return {
        name: [pair for pair in pairs if slice_of(pair[0], dimension) == name]
        for name in slice_names((first for first, _ in pairs), dimension)
    }


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
    pairs: Pairs, metric: str, resamples: int, permutations: int, seed: int, *, level: float = LEVEL
) -> Difference | None:
    """The paired difference of one metric over those queries that have it; None if none has."""
    values = _values(pairs, metric)
    return None if values is None else paired_difference(*values, resamples, permutations, seed, level=level)


def hashes_in(comparison: Comparison) -> set[bytes]:
    """The contents that the queries that moved most show."""
    changes = (*comparison.improved, *comparison.harmed)
    return {bytes.fromhex(each) for c in changes for each in (c.answer, *c.top_before, *c.top_after) if each}


def with_places(comparison: Comparison, places: Mapping[bytes, str]) -> Comparison:
    """The comparison with contents named by where they stand; one that stands nowhere keeps its hash."""

    def place(content_hash: str) -> str:
        return places.get(bytes.fromhex(content_hash), f"deleted code {content_hash[:8]}")

    def placed(change: QueryChange) -> QueryChange:
        return replace(
            change,
            answer=place(change.answer) if change.answer else "",
            top_before=tuple(map(place, change.top_before)),
            top_after=tuple(map(place, change.top_after)),
        )

    return replace(
        comparison,
        improved=tuple(map(placed, comparison.improved)),
        harmed=tuple(map(placed, comparison.harmed)),
    )


def _values(pairs: Pairs, metric: str) -> tuple[list[float], list[float]] | None:
    both = [
        (first.metrics[metric], second.metrics[metric])
        for first, second in pairs
        if metric in first.metrics and metric in second.metrics
    ]
    return ([a for a, _ in both], [b for _, b in both]) if both else None


def _changes(pairs: Pairs, metric: str) -> list[QueryChange]:
    """The queries for which the metric or the rank moved, the most improved first."""
    changes = [
        QueryChange(
            query=after.query,
            origin=after.origin,
            language=after.language,
            before=before.rank,
            after=after.rank,
            change=after.metrics.get(metric, 0.0) - before.metrics.get(metric, 0.0),
            answer="" if after.answer is None else after.answer.hex(),
            top_before=tuple(each.hex() for each in before.top),
            top_after=tuple(each.hex() for each in after.top),
        )
        for after, before in pairs
        if after.rank != before.rank or after.metrics.get(metric) != before.metrics.get(metric)
    ]
    return sorted(changes, key=lambda c: (-c.change, 1 / c.before - 1 / c.after, c.query))
