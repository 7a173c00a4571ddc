"""The gate for any measurements: what it can never approve, and that it says the same each time."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

from hypothesis import strategies as st

from assets_tests.evaluation.made import BASE, CANDIDATE, SERVING, Slice, evaluation, measured
from assets_tests.promotion.test_gate import SOUND, THRESHOLDS, UNSOUND
from assets_tests.properties import few_or_many, holds
from pipeline.encoders.sanity import SanityResult
from pipeline.evaluation.metrics import METRICS
from pipeline.promotion.gate import Measurements, decide, losses

QUICK = replace(THRESHOLDS, resamples=100, permutations=1000)
RANKS = st.integers(1, 120)
# Of each query the rank before and after: mostly a gain, so that approving is within reach.
MOVES = st.one_of(st.tuples(RANKS, RANKS), st.tuples(st.integers(2, 9), st.just(1)), st.just((1, 1)))
SANITY = st.sampled_from([SOUND, SOUND, SOUND, UNSOUND, []])


@st.composite
def slices(draw: st.DrawFn) -> tuple[list[Slice], list[Slice]]:
    """Some slices of a test set before and after, of various sizes."""
    before: list[Slice] = []
    after: list[Slice] = []
    for _ in range(draw(st.integers(1, 4))):
        origin = draw(st.sampled_from(["feedback", "docstring", "commit"]))
        language = draw(st.sampled_from(["python", "go", "rust"]))
        some = draw(st.lists(MOVES, min_size=1, max_size=12))
        moves = some * draw(st.integers(1, 9))
        before.append(Slice([move[0] for move in moves], origin, language))
        after.append(Slice([move[1] for move in moves], origin, language))
    return before, after


def measurements(made: tuple[list[Slice], list[Slice]]) -> Measurements:
    before, after = made
    serving = evaluation(SERVING, *before)
    return measured(evaluation(CANDIDATE, *after), serving, evaluation(BASE, *before))


@few_or_many(25, 1_000)
def test_it_is_a_pure_function(examples: int) -> None:
    @holds(examples, slices(), SANITY)
    def check(made: tuple[list[Slice], list[Slice]], sanity: list[SanityResult]) -> None:
        found, given = measurements(made), list(sanity)
        first = decide(found, QUICK, sanity)
        assert decide(found, QUICK, sanity) == first
        assert decide(measurements(made), replace(QUICK), list(sanity)) == first
        assert (found, sanity) == (measurements(made), given)


@few_or_many(25, 1_000)
def test_what_it_approves_loses_nowhere(examples: int) -> None:
    """The check `no_significant_regression` is made of `losses`: it must not contradict the verdict."""
    approved = 0

    @holds(examples, slices(), st.integers(1, 5), st.sampled_from(["none", "holm"]))
    def check(made: tuple[list[Slice], list[Slice]], every: int, correction: str) -> None:
        nonlocal approved
        found = measurements(made)
        learned = frozenset(each.query_key for each in found.candidate.per_query[:: every + 1])
        thresholds = replace(QUICK, slice_correction=correction)
        looked_at = losses(found.candidate, found.serving, learned, thresholds)
        if decide(replace(found, learned_from=learned), thresholds, SOUND).approved:
            approved += 1
            assert all(each.passed for each in looked_at)

    assert approved or examples < 100


@few_or_many(25, 1_000)
def test_what_it_approves_is_better_above_every_floor_and_sound(examples: int) -> None:
    approved = 0

    @holds(examples, slices(), SANITY, st.sampled_from(METRICS), st.floats(0, 1))
    def check(
        made: tuple[list[Slice], list[Slice]], sanity: list[SanityResult], metric: str, floor: float
    ) -> None:
        nonlocal approved
        found = measurements(made)
        verdict = decide(found, replace(QUICK, floors={metric: floor}), sanity)
        deciding = [
            (after, before)
            for after, before in zip(found.candidate.per_query, found.serving.per_query, strict=True)
            if verdict.primary != "feedback" or after.origin == "feedback"
        ]
        gain = fmean(after.metrics[QUICK.metric] - before.metrics[QUICK.metric] for after, before in deciding)
        measured_at = [after.metrics[metric] for after, _ in deciding if metric in after.metrics]
        at_floor = fmean(measured_at) if measured_at else -1.0
        if verdict.approved:
            approved += 1
            assert sanity
            assert all(each.passed for each in sanity)
            assert len(deciding) >= QUICK.min_queries
            assert gain >= QUICK.min_improvement - 1e-12
            assert at_floor >= floor - 1e-12
            assert all(finding.passed for finding in verdict.findings)
        elif verdict.decision == "rejected":
            assert verdict.reasons

    assert approved or examples < 100  # it must not be true of nothing


@few_or_many(25, 1_000)
def test_a_large_slice_that_plainly_loses_is_never_approved(examples: int) -> None:
    @holds(
        examples, slices(), st.integers(30, 40), st.integers(2, 50), st.sampled_from(["origin", "language"])
    )
    def check(made: tuple[list[Slice], list[Slice]], count: int, rank: int, dimension: str) -> None:
        before, after = made
        # Enough gains elsewhere that the mean is better, whatever else was drawn.
        before, after = [*before, Slice([9] * 150)], [*after, Slice([1] * 150)]
        origin, language = ("commit", "python") if dimension == "origin" else ("docstring", "elixir")
        before = [*(each for each in before if each.origin != "commit"), Slice([1] * count, origin, language)]
        after = [
            *(each for each in after if each.origin != "commit"),
            Slice([rank] * count, origin, language),
        ]
        verdict = decide(measurements((before, after)), QUICK, SOUND)
        assert not verdict.approved
        assert any(not finding.passed for finding in verdict.findings)


@few_or_many(25, 1_000)
def test_a_candidate_that_gains_nowhere_is_never_approved(examples: int) -> None:
    moves = st.lists(st.tuples(RANKS, RANKS).map(sorted), min_size=1, max_size=120)

    @holds(examples, moves)
    def check(some: list[list[int]]) -> None:
        before, after = ([Slice([move[at] for move in some])] for at in (0, 1))
        assert not decide(measurements((before, after)), QUICK, SOUND).approved
