"""The gate: whether a candidate may serve instead of the model that does. A pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.config import Settings
from pipeline.errors import BadInputError
from pipeline.evaluation.compare import metric_difference, paired_queries
from pipeline.evaluation.metrics import METRICS
from pipeline.evaluation.results import Evaluation, QueryResult
from pipeline.evaluation.statistics import Difference

if TYPE_CHECKING:
    from pipeline.encoders.sanity import SanityResult

Decision = Literal["approved", "rejected", "not enough evidence", "already serving"]
Pairs = Sequence[tuple[QueryResult, QueryResult]]
ALL = "all"


@dataclass(frozen=True)
class GateThresholds:
    """What the gate asks for; see the settings of the same names (`gate_…`)."""

    metric: str
    min_queries: int
    min_improvement: float
    max_slice_regression: float
    slice_min_queries: int
    resamples: int
    seed: int

    @classmethod
    def from_settings(cls, settings: Settings) -> GateThresholds:
        """The thresholds in force.

        Raises:
            BadInputError: the settings name a metric that does not exist.
        """
        if settings.gate_metric not in METRICS:
            raise BadInputError(
                f"HONELOOP_GATE_METRIC is {settings.gate_metric!r}, which is no metric.",
                hint=f"Choose one of {', '.join(METRICS)}.",
            )
        return cls(
            metric=settings.gate_metric,
            min_queries=settings.gate_min_queries,
            min_improvement=settings.gate_min_improvement,
            max_slice_regression=settings.gate_max_slice_regression,
            slice_min_queries=settings.gate_slice_min_queries,
            resamples=settings.bootstrap_resamples,
            seed=settings.seed,
        )


@dataclass(frozen=True)
class Verdict:
    """What the gate decided and why.

    Attributes:
        decision: Only "approved" lets the candidate serve.
        reasons: One sentence each; for every decision at least one.
        primary: The slice that decides: "feedback", or "all".
        difference: Candidate − serving on that slice in the gate's metric; None if there was nothing to pair.
        candidate_version: Whom it is about.
        serving_version: Against whom; the verdict holds only while that one serves.
        test_set: On what.
        metric: By which metric.
    """

    decision: Decision
    reasons: tuple[str, ...]
    primary: str
    difference: Difference | None
    candidate_version: str
    serving_version: str
    test_set: str
    metric: str

    @property
    def approved(self) -> bool:
        """Whether the candidate may serve."""
        return self.decision == "approved"

    def to_json(self) -> dict[str, Any]:
        """For the registry and `--json`."""
        return asdict(self) | {"reasons": list(self.reasons)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Verdict:
        """The inverse of `to_json`."""
        difference = content["difference"]
        return cls(
            decision=content["decision"],
            reasons=tuple(content["reasons"]),
            primary=content["primary"],
            difference=None if difference is None else Difference(**difference),
            candidate_version=content["candidate_version"],
            serving_version=content["serving_version"],
            test_set=content["test_set"],
            metric=content["metric"],
        )


def decide(
    candidate: Evaluation,
    serving: Evaluation,
    thresholds: GateThresholds,
    sanity: Sequence[SanityResult],
) -> Verdict:
    """Whether `candidate` may serve instead of `serving`.

    Feedback decides where there is enough of it (`min_queries` test queries), since it is what users asked;
    else all queries do. The candidate is approved when, on that slice, the mean difference exceeds
    `min_improvement` and the interval's lower bound exceeds zero; when no other origin or language with at
    least `slice_min_queries` queries loses more than `max_slice_regression` on average *and* significantly
    (the upper bound is below zero: one unlucky handful of queries must not veto); and when it passed every
    sanity check. A candidate that was not checked has not passed.

    Raises:
        HoneloopError: the two were not measured on the same test set.
    """
    pairs = paired_queries(candidate, serving)
    feedback = [pair for pair in pairs if pair[0].origin == "feedback"]
    primary = "feedback" if len(feedback) >= thresholds.min_queries else ALL
    chosen = feedback if primary == "feedback" else pairs
    difference = metric_difference(chosen, thresholds.metric, thresholds.resamples, thresholds.seed)
    evidence = 0 if difference is None else difference.count

    def verdict(decision: Decision, reasons: Sequence[str]) -> Verdict:
        return Verdict(
            decision=decision,
            reasons=tuple(reasons),
            primary=primary,
            difference=difference,
            candidate_version=candidate.model_version,
            serving_version=serving.model_version,
            test_set=candidate.test_set,
            metric=thresholds.metric,
        )

    if candidate.model_version == serving.model_version:
        return verdict("already serving", ["The candidate is the model version that already serves."])
    unsound = [f"Sanity check {each.name!r} failed: {each.message}" for each in sanity if not each.passed]
    if not sanity:
        unsound.append("The candidate's sanity was not checked.")
    if difference is None or evidence < thresholds.min_queries:
        if unsound:
            return verdict("rejected", unsound)
        short = (
            f"Only {evidence} test queries can be compared on {thresholds.metric}; the gate asks for "
            f"{thresholds.min_queries}."
        )
        return verdict("not enough evidence", [short])
    improvement, improved = _judge_primary(difference, primary, thresholds)
    regressions = _judge_slices(pairs, primary, thresholds)
    if improved and not regressions and not unsound:
        return verdict("approved", [improvement, "No other origin or language loses significantly."])
    return verdict("rejected", [improvement, *regressions, *unsound])


def _judge_primary(difference: Difference, primary: str, thresholds: GateThresholds) -> tuple[str, bool]:
    where = f"{difference.count} {'feedback ' if primary == 'feedback' else ''}test queries"
    measured = f"{thresholds.metric} on {where}: {describe(difference)}"
    if difference.mean <= thresholds.min_improvement:
        asked = f"more than {thresholds.min_improvement:+.3f} is asked for"
        return f"{measured}; {asked if thresholds.min_improvement else 'that is no improvement'}.", False
    if difference.low <= 0:
        return f"{measured}; that may be chance, as the interval reaches down to zero or below.", False
    return f"{measured}; better beyond chance.", True


def _judge_slices(pairs: Pairs, primary: str, thresholds: GateThresholds) -> list[str]:
    slices = [("origin", name, [p for p in pairs if p[0].origin == name]) for name in _names(pairs, "origin")]
    slices += [
        ("language", name, [p for p in pairs if p[0].language == name]) for name in _names(pairs, "language")
    ]
    reasons: list[str] = []
    for what, name, some in slices:
        # A slice that holds every query is judged already, and so is the primary one.
        if (what == "origin" and name == primary) or (primary == ALL and len(some) == len(pairs)):
            continue
        loss = metric_difference(some, thresholds.metric, thresholds.resamples, thresholds.seed)
        if loss is None or loss.count < thresholds.slice_min_queries:
            continue
        if loss.mean < -thresholds.max_slice_regression and loss.high < 0:
            reasons.append(
                f"{what.capitalize()} {name} loses: {thresholds.metric} on {loss.count} test queries "
                f"{describe(loss)}; at most -{thresholds.max_slice_regression:.3f} is allowed."
            )
    return reasons


def _names(pairs: Pairs, attribute: Literal["origin", "language"]) -> list[str]:
    return sorted({getattr(first, attribute) for first, _ in pairs})


def describe(difference: Difference) -> str:
    """`+0.023 (95% interval +0.004 to +0.041)`."""
    return f"{difference.mean:+.3f} (95% interval {difference.low:+.3f} to {difference.high:+.3f})"
