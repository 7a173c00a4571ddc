"""What the gate asks for, and what it says: thresholds, findings and the verdict, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pipeline.config import Settings
from pipeline.errors import BadInputError
from pipeline.evaluation.metrics import METRICS
from pipeline.evaluation.slices import DIMENSIONS
from pipeline.evaluation.statistics import Difference

Decision = Literal["approved", "rejected", "not enough evidence", "already serving"]
ALL = "all"


@dataclass(frozen=True)
class GateThresholds:
    """What the gate asks for; see the settings of the same names (`gate_…`, `general_…`).

    `floors` are those of `gate_floors`, with `min_metric` for the gate's metric.
    """

    metric: str
    min_queries: int
    min_improvement: float
    significance: float
    max_slice_regression: float
    slice_min_queries: int
    slice_correction: str
    max_general_regression: float
    general_min_queries: int
    floors: dict[str, float]
    resamples: int
    permutations: int
    seed: int

    @classmethod
    def from_settings(cls, settings: Settings) -> GateThresholds:
        """The thresholds in force.

        Raises:
            BadInputError: the settings name a metric that does not exist.
        """
        named = {"HONELOOP_GATE_METRIC": [settings.gate_metric], "HONELOOP_GATE_FLOORS": settings.gate_floors}
        for setting, metrics in named.items():
            for metric in metrics:
                if metric not in METRICS:
                    raise BadInputError(
                        f"{setting} says {metric!r}, which is no metric.",
                        hint=f"Choose one of {', '.join(METRICS)}.",
                    )
        return cls(
            metric=settings.gate_metric,
            min_queries=settings.gate_min_queries,
            min_improvement=settings.gate_min_improvement,
            significance=settings.gate_significance,
            max_slice_regression=settings.gate_max_slice_regression,
            slice_min_queries=settings.gate_slice_min_queries,
            slice_correction=settings.gate_slice_correction,
            max_general_regression=settings.gate_max_general_regression,
            general_min_queries=settings.general_min_queries,
            floors={settings.gate_metric: settings.min_metric} | settings.gate_floors,
            resamples=settings.bootstrap_resamples,
            permutations=settings.permutations,
            seed=settings.seed,
        )


@dataclass(frozen=True)
class Finding:
    """One thing the gate looked at.

    Attributes:
        about: "gain over serving", "gain over base", "floor ndcg@10", "general set over base", "general set
            over serving", or a slice as "language go".
        passed: Whether it lets the candidate through.
        decides: False for what has too few queries to decide anything.
        sentence: What was found and what was asked for.
        difference: Its numbers; None for a floor.
        value: Of a floor: the candidate's mean; None if it was not measured.
        limit: What the mean was held against.
        adjusted_p: Of a slice: the p-value as corrected for all slices (Holm), whether or not that decides.
    """

    about: str
    passed: bool
    sentence: str
    difference: Difference | None = None
    value: float | None = None
    limit: float | None = None
    decides: bool = True
    adjusted_p: float | None = None

    @property
    def is_slice(self) -> bool:
        """Whether it is about one origin, language, repository or query length."""
        return self.about.split(" ", 1)[0] in DIMENSIONS

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Finding:
        """The inverse of `dataclasses.asdict`."""
        fields = dict(content)
        difference = fields.pop("difference")
        return cls(difference=None if difference is None else Difference(**difference), **fields)


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
        base_version: The base encoder, which stands in every comparison; None in verdicts of older releases.
        general_test_set: The general set in force then; None without one.
        findings: All that was looked at, with its numbers.
        thresholds: Those in force then.
    """

    decision: Decision
    reasons: tuple[str, ...]
    primary: str
    difference: Difference | None
    candidate_version: str
    serving_version: str
    test_set: str
    metric: str
    base_version: str | None = None
    general_test_set: str | None = None
    findings: tuple[Finding, ...] = ()
    thresholds: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def approved(self) -> bool:
        """Whether the candidate may serve."""
        return self.decision == "approved"

    def to_json(self) -> dict[str, Any]:
        """For the registry and `--json`."""
        content = asdict(self)
        return content | {"reasons": list(self.reasons), "findings": list(content["findings"])}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Verdict:
        """The inverse of `to_json`; also reads verdicts of older releases."""
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
            base_version=content.get("base_version"),
            general_test_set=content.get("general_test_set"),
            findings=tuple(Finding.from_json(each) for each in content.get("findings", ())),
            thresholds=dict(content.get("thresholds", {})),
        )
