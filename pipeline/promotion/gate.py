"""The gate: whether a candidate may serve instead of the model that does. A pure function.

On many slices: each slice is tested for harm on its own, uncorrected by default. A correction would make
every veto weaker the more slices there are, so that harm in one could be hidden by adding others; here a
false alarm costs one night, and harm that is missed costs everybody's searches. That only a loss of more than
`max_slice_regression` on average counts keeps false alarms rare (figures:
`assets_tests/benchmarks/evaluation_statistics.py`). Each finding carries its p-value corrected by Holm's
method too, and `gate_slice_correction` lets that one decide. No gain in a slice approves anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pipeline.evaluation.compare import Pairs, metric_difference, paired_queries, sliced
from pipeline.evaluation.permutation import holm
from pipeline.evaluation.results import Evaluation
from pipeline.evaluation.slices import DIMENSIONS
from pipeline.evaluation.statistics import Difference
from pipeline.promotion.verdict import ALL, Decision, Finding, GateThresholds, Verdict

if TYPE_CHECKING:
    from pipeline.encoders.sanity import SanityResult

__all__ = [
    "Decision",
    "Finding",
    "GateThresholds",
    "GeneralMeasurements",
    "Measurements",
    "Verdict",
    "decide",
    "losses",
]


@dataclass(frozen=True)
class GeneralMeasurements:
    """Candidate, serving and base on the general set, and the queries that are no test of this candidate."""

    candidate: Evaluation
    serving: Evaluation
    base: Evaluation
    learned_from: frozenset[bytes] = frozenset()


@dataclass(frozen=True)
class Measurements:
    """All that the gate knows of a candidate but its sanity.

    Attributes:
        candidate: Measured on tonight's test set.
        serving: The model that serves, on the same.
        base: The base encoder, on the same: it always stands in the comparison, since tuning a small model
            can make it worse, night after night, without one night that stands out.
        general: The three on the general set; None without one.
        learned_from: Tonight's queries that are no test of this candidate, as a model before it learned from
            their code.
    """

    candidate: Evaluation
    serving: Evaluation
    base: Evaluation
    general: GeneralMeasurements | None = None
    learned_from: frozenset[bytes] = frozenset()


def decide(measured: Measurements, thresholds: GateThresholds, sanity: Sequence[SanityResult]) -> Verdict:
    """Whether the candidate may serve.

    Feedback decides where there is enough of it (`min_queries` test queries), since it is what users asked;
    else all queries do. With fewer queries than that the verdict is "not enough evidence". The candidate is
    approved when, on the deciding slice,

    - it gains at least `min_improvement` on average over what serves *and* over the base, the interval's
      lower bound exceeds zero, and the permutation test's p-value is below `significance`;
    - no metric is below its floor;

    and when no large slice (`slice_min_queries`) of any origin, language, repository or query length loses
    more than `max_slice_regression` on average *and* significantly against what serves; when the general set
    loses no more than `max_general_regression` on average against the base, chance or not, and does not lose
    as a slice would against what serves; and when it passed every sanity check. A candidate that was not
    checked has not passed.

    Raises:
        HoneloopError: the models were not measured on the same test set.
    """
    candidate, serving, base = measured.candidate, measured.serving, measured.base
    pairs = _tests(paired_queries(candidate, serving), measured.learned_from)
    with_base = _tests(paired_queries(candidate, base), measured.learned_from)
    primary = _primary(pairs, thresholds)
    unusable = _unusable(measured, thresholds.metric)
    difference = None
    if not unusable:
        difference = _difference(_of(primary, pairs), thresholds)
    general, learned = measured.general, len(measured.learned_from)

    def verdict(decision: Decision, reasons: Sequence[str], findings: Sequence[Finding] = ()) -> Verdict:
        return Verdict(
            decision=decision,
            reasons=tuple(reasons),
            primary=primary,
            difference=difference,
            candidate_version=candidate.model_version,
            serving_version=serving.model_version,
            test_set=candidate.test_set,
            metric=thresholds.metric,
            base_version=base.model_version,
            general_test_set=None if general is None else general.candidate.test_set,
            findings=tuple(findings),
            thresholds=asdict(thresholds),
        )

    if candidate.model_version == serving.model_version:
        return verdict("already serving", ["The candidate is the model version that already serves."])
    unsound = [f"Sanity check {each.name!r} failed: {each.message}" for each in sanity if not each.passed]
    if not sanity:
        unsound.append("The candidate's sanity was not checked.")
    unsound += unusable
    evidence = 0 if difference is None else difference.count
    if difference is None or evidence < thresholds.min_queries:
        if unsound:
            return verdict("rejected", unsound)
        short = (
            f"Only {evidence} test quer{'y' if evidence == 1 else 'ies'} can be compared on "
            f"{thresholds.metric}; the gate asks for "
            f"{thresholds.min_queries}."
        )
        if learned:
            short = f"{short} {learned:,} were left out, as a model before it learned from their code."
        return verdict("not enough evidence", [short])
    gain = _gain("serving", difference, primary, thresholds, learned)
    others: list[Finding] = []
    if base.model_version not in (serving.model_version, candidate.model_version):
        over_base = _difference(_of(primary, with_base), thresholds)
        if over_base is None or over_base.count < thresholds.min_queries:
            return verdict("not enough evidence", ["Too few test queries can be compared with the base."])
        others.append(_gain("base", over_base, primary, thresholds, learned))
    others += _floors(_of(primary, pairs), thresholds)
    if general is not None:
        others += _general(general, thresholds)
    slices = _slices(pairs, primary, thresholds)
    findings = [gain, *others, *slices]
    failed = [each.sentence for each in (*others, *slices) if not each.passed]
    if gain.passed and not failed and not unsound:
        looked_at = sum(each.decides for each in slices)
        harmless = (
            f"None of {looked_at} other large slices loses significantly."
            if looked_at
            else "There is no other large slice that could lose."
        )
        said = [each.sentence for each in others if not each.about.startswith("floor")]
        return verdict("approved", [gain.sentence, *said, harmless], findings)
    return verdict("rejected", [gain.sentence, *failed, *unsound], findings)


def losses(
    candidate: Evaluation, serving: Evaluation, learned_from: frozenset[bytes], thresholds: GateThresholds
) -> list[Finding]:
    """Where the candidate loses against what serves, by the rule for slices: in what decides, first, and in
    every slice. None of an approved candidate fails, as what decides gains; empty if nothing was measured.

    Raises:
        HoneloopError: the models were not measured on the same test set.
    """
    pairs = _tests(paired_queries(candidate, serving), learned_from)
    primary = _primary(pairs, thresholds)
    difference = _difference(_of(primary, pairs), thresholds)
    slices = _slices(pairs, primary, thresholds)
    if difference is None:
        return slices
    about = "the whole test set" if primary == ALL else f"origin {primary}"
    if difference.count < thresholds.slice_min_queries:
        return [_too_small(about, difference), *slices]
    harmed = _harmed(difference, _p_of(difference), thresholds)
    said = f"{_held(about, difference, thresholds, harmed=harmed)}."
    limit = -thresholds.max_slice_regression
    return [Finding(about, not harmed, said, difference, limit=limit), *slices]


def describe(difference: Difference) -> str:
    """`+0.023 (95% interval +0.004 to +0.041, p 0.012)`; p is the permutation test's."""
    p = "" if difference.permutation_p is None else f", p {_p(difference.permutation_p)}"
    return f"{difference.mean:+.3f} ({difference.interval}{p})"


def _tests(pairs: Pairs, learned_from: frozenset[bytes]) -> Pairs:
    """The pairs that are a test of the candidate."""
    return [pair for pair in pairs if pair[0].query_key not in learned_from]


def _gain(
    over: str, difference: Difference, primary: str, thresholds: GateThresholds, learned: int
) -> Finding:
    where = f"{difference.count:,} {'feedback ' if primary == 'feedback' else ''}test queries"
    if learned:
        where += f" ({learned:,} of all left out, as a model before it learned from their code)"
    measured = f"{thresholds.metric} on {where}: {describe(difference)} over {_model(over)}"
    asked = thresholds.min_improvement
    if difference.mean <= 0:
        passed, why = False, "that is no improvement"
    elif difference.mean < asked:
        passed, why = False, f"too small to matter, as at least {asked:+.3f} is asked for"
    elif difference.low <= 0:
        passed, why = False, "that may be chance, as the interval reaches down to zero or below"
    elif not _significant(difference, thresholds):
        passed, why = False, f"that may be chance, as p must be below {thresholds.significance:g}"
    else:
        passed, why = True, "better beyond chance"
    return Finding(f"gain over {over}", passed, f"{measured}; {why}.", difference, limit=asked)


def _floors(pairs: Pairs, thresholds: GateThresholds) -> list[Finding]:
    findings: list[Finding] = []
    for metric, floor in thresholds.floors.items():
        values = [first.metrics[metric] for first, _ in pairs if metric in first.metrics]
        mean = sum(values) / len(values) if values else None
        said = "was not measured" if mean is None else f"is {mean:.3f}"
        findings.append(
            Finding(
                f"floor {metric}",
                mean is not None and mean >= floor,
                f"{metric} {said}; at least {floor:.3f} is asked for.",
                value=mean,
                limit=floor,
            )
        )
    return findings


def _general(general: GeneralMeasurements, thresholds: GateThresholds) -> list[Finding]:
    findings: list[Finding] = []
    for over, other in (("base", general.base), ("serving", general.serving)):
        if over == "serving" and other.model_version == general.base.model_version:
            continue
        if other.model_version == general.candidate.model_version:
            continue
        pairs = _tests(paired_queries(general.candidate, other), general.learned_from)
        about = f"general set over {over}"
        difference = _difference(pairs, thresholds)
        count = 0 if difference is None else difference.count
        limit = thresholds.max_general_regression if over == "base" else thresholds.max_slice_regression
        if difference is None or count < thresholds.general_min_queries:
            asked = f"with fewer than {thresholds.general_min_queries} it decides nothing"
            said = f"The general set has {count} queries to compare with {_model(over)}; {asked}."
            findings.append(Finding(about, True, said, difference, limit=-limit, decides=False))
            continue
        measured = f"{thresholds.metric} on {count:,} queries of the general set: {describe(difference)}"
        if general.learned_from:
            measured += f", {len(general.learned_from):,} left out as the candidate learned from their code,"
        passed = difference.mean >= -limit
        if over == "serving" and not passed:
            passed = not (difference.high < 0 and _significant(difference, thresholds))
        allowed = f"a loss of at most {limit:.3f}{' beyond chance' if over == 'serving' else ''} is allowed"
        said = f"{measured} over {_model(over)}; {allowed}."
        findings.append(Finding(about, passed, said, difference, limit=-limit))
    return findings


def _slices(pairs: Pairs, primary: str, thresholds: GateThresholds) -> list[Finding]:
    """Every slice, each set of queries once: a slice that holds them all, or the deciding one, is judged."""
    judged = {_keys(_of(primary, pairs))}
    found: list[tuple[str, Difference]] = []
    for dimension in DIMENSIONS:
        for name, some in sliced(pairs, dimension).items():
            if _keys(some) in judged:
                continue
            judged.add(_keys(some))
            difference = _difference(some, thresholds)
            if difference is not None:
                found.append((f"{dimension} {name}", difference))
    large = [(about, each) for about, each in found if each.count >= thresholds.slice_min_queries]
    adjusted = holm([_p_of(each) for _, each in large])
    findings: list[Finding] = []
    for (about, difference), corrected in zip(large, adjusted, strict=True):
        p = corrected if thresholds.slice_correction == "holm" else _p_of(difference)
        harmed = _harmed(difference, p, thresholds)
        said = (
            f"{_held(about, difference, thresholds, harmed=harmed)}. Corrected for {len(large)} slices, p is "
            f"{_p(corrected)}."
        )
        findings.append(
            Finding(
                about,
                not harmed,
                said,
                difference,
                limit=-thresholds.max_slice_regression,
                adjusted_p=corrected,
            )
        )
    small = [(about, each) for about, each in found if each.count < thresholds.slice_min_queries]
    return [*findings, *(_too_small(about, each) for about, each in small)]


def _harmed(difference: Difference, p: float, thresholds: GateThresholds) -> bool:
    """Whether it is a loss that counts: of more than is allowed, and beyond chance."""
    return (
        difference.mean < -thresholds.max_slice_regression
        and difference.high < 0
        and p < thresholds.significance
    )


def _held(about: str, difference: Difference, thresholds: GateThresholds, *, harmed: bool) -> str:
    return (
        f"{about.capitalize()} {'loses' if harmed else 'holds'}: {thresholds.metric} on "
        f"{difference.count:,} test queries {describe(difference)}; at most "
        f"-{thresholds.max_slice_regression:.3f} is allowed"
    )


def _too_small(about: str, difference: Difference) -> Finding:
    said = f"{about.capitalize()} has {difference.count} test queries, too few to decide anything."
    return Finding(about, True, said, difference, decides=False)


def _unusable(measured: Measurements, metric: str) -> list[str]:
    """A sentence if some query's figure is no number: nothing can be averaged then."""
    found = [measured.candidate, measured.serving, measured.base]
    if measured.general is not None:
        found += [measured.general.candidate, measured.general.serving, measured.general.base]
    bad = sum(
        not math.isfinite(result.metrics.get(metric, 0.0)) for each in found for result in each.per_query
    )
    return [f"{bad:,} measurements of {metric} are no numbers."] if bad else []


def _difference(pairs: Pairs, thresholds: GateThresholds) -> Difference | None:
    # The interval is as sure as the test, or one would decide alone, whatever is asked of the other.
    return metric_difference(
        pairs,
        thresholds.metric,
        thresholds.resamples,
        thresholds.permutations,
        thresholds.seed,
        level=1 - thresholds.significance,
    )


def _significant(difference: Difference, thresholds: GateThresholds) -> bool:
    return _p_of(difference) < thresholds.significance


def _p_of(difference: Difference) -> float:
    return difference.p_value if difference.permutation_p is None else difference.permutation_p


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _primary(pairs: Pairs, thresholds: GateThresholds) -> str:
    """What decides: feedback where there is enough of it, else all queries."""
    return "feedback" if len(_of("feedback", pairs)) >= thresholds.min_queries else ALL


def _of(primary: str, pairs: Pairs) -> Pairs:
    return pairs if primary == ALL else [pair for pair in pairs if pair[0].origin == primary]


def _keys(pairs: Pairs) -> frozenset[bytes]:
    return frozenset(first.query_key for first, _ in pairs)


def _model(over: str) -> str:
    return "what serves" if over == "serving" else "the base model"
