"""Confidence and what becomes of it, for any signals of any people."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import strategies as st

from assets_tests.feedback.test_confidence import ESTIMATED, START
from assets_tests.properties import few_or_many, holds
from pipeline.feedback.confidence import (
    ACCEPT,
    BY_THE_TABLE,
    CLICK_WITH_DWELL,
    REJECT,
    Examination,
    Judgement,
    Signal,
    Verdict,
    capped_scales,
    passed_over_weight,
    person_verdict,
    rejected_weight,
    resolve,
    signal_confidence,
    vote_scales,
)

JUDGEMENTS: st.SearchStrategy[Judgement] = st.sampled_from(["click", "copy", "accept", "reject"])
RANKS = st.one_of(st.none(), st.integers(1, 1000))
DWELLS = st.one_of(st.none(), st.integers(0, 10**9))
SHARES = st.floats(0, 1)
EXAMINATIONS = st.one_of(
    st.sampled_from([BY_THE_TABLE, ESTIMATED]),
    st.lists(st.floats(0.01, 1), min_size=1, max_size=20).map(
        lambda each: Examination((1.0, *each), estimated=True)
    ),
)
SIGNALS = st.builds(
    lambda judgement, rank, dwell, search, minute, number: Signal(
        judgement, rank, dwell, search, START + timedelta(minutes=minute), number
    ),
    JUDGEMENTS,
    RANKS,
    DWELLS,
    st.sampled_from("abc"),
    st.integers(0, 5),
    st.integers(0, 1_000_000),
)
SEVERAL_SIGNALS = st.lists(SIGNALS, min_size=1, max_size=8, unique_by=lambda signal: signal.number)
VERDICTS = st.one_of(
    st.builds(Verdict, st.just("accept"), st.just(ACCEPT), st.floats(0.01, 9)),
    st.builds(Verdict, st.just("reject"), st.just(REJECT), st.floats(0.01, 9)),
    st.builds(Verdict, st.just("implicit"), st.sampled_from([0.0, 0.5, 0.8, 0.85, 0.9]), st.just(1.0)),
)


@few_or_many(200, 20_000)
def test_confidence_is_a_share_and_falls_with_the_rank(examples: int) -> None:
    @holds(examples, JUDGEMENTS, st.integers(1, 999), st.integers(1, 999), DWELLS, SHARES, EXAMINATIONS)
    def check(  # noqa: PLR0917
        judgement: Judgement, one: int, other: int, dwell: int | None, unknown: float, examined: Examination
    ) -> None:
        near, far = (
            signal_confidence(judgement, rank, dwell, unknown_rank=unknown, examination=examined)
            for rank in sorted((one, other))
        )
        assert 0 <= far <= near <= 1
        anywhere = signal_confidence(judgement, None, dwell, unknown_rank=unknown, examination=examined)
        assert 0 <= anywhere <= 1
        # Who stays longer is believed no less, and nothing that is not said is believed like what is.
        longer = signal_confidence(judgement, one, 10**9, examination=examined)
        assert longer >= signal_confidence(judgement, one, dwell, examination=examined)
        if judgement == "click":
            assert longer == CLICK_WITH_DWELL < ACCEPT


@few_or_many(200, 20_000)
def test_one_persons_verdict_is_their_last_word(examples: int) -> None:
    @holds(
        examples,
        SEVERAL_SIGNALS.flatmap(lambda s: st.tuples(st.just(s), st.permutations(s))),
        st.integers(1, 5),
    )
    def check(orders: tuple[list[Signal], list[Signal]], max_votes: int) -> None:
        given, shuffled = (person_verdict(each, max_votes=max_votes, unknown_rank=0.5) for each in orders)
        assert given == shuffled
        assert 0 <= given.confidence <= 1
        assert 1 <= given.votes <= max_votes
        said = [each for each in orders[0] if each.judgement in {"accept", "reject"}]
        if said:
            assert given.stance == max(said, key=lambda each: (each.at, each.number)).judgement
        else:
            assert given.stance == "implicit"


@few_or_many(200, 20_000)
def test_no_number_of_clicks_outweighs_a_reject(examples: int) -> None:
    @holds(examples, st.lists(VERDICTS, max_size=8), st.integers(0, 50), st.floats(0.01, 9), SHARES)
    def check(verdicts: list[Verdict], clicks: int, votes: float, threshold: float) -> None:
        silent = [each for each in verdicts if each.stance == "implicit"]
        clicked = [Verdict("implicit", 0.9, 1)] * clicks
        found = resolve([*silent, *clicked, Verdict("reject", REJECT, votes)], threshold)
        assert found.outcome == "negative"
        assert found.confidence == REJECT


@few_or_many(300, 20_000)
def test_what_people_say_together(examples: int) -> None:
    @holds(examples, st.lists(VERDICTS, min_size=1, max_size=8), SHARES, st.floats(0.01, 9))
    def check(verdicts: list[Verdict], threshold: float, votes: float) -> None:
        found = resolve(verdicts, threshold)
        assert found == resolve(verdicts[::-1], threshold) or found.confidence == pytest.approx(
            resolve(verdicts[::-1], threshold).confidence
        )
        assert 0 <= found.confidence <= 1
        assert 0 <= found.outvoted < len(verdicts)
        rejected = any(each.stance == "reject" for each in verdicts)
        assert (found.outcome in {"negative", "contradiction"}) <= rejected
        # One more who accepts never makes it worse, one more who rejects never makes it better.
        order = ["negative", "contradiction", "weak", "positive"]
        better = resolve([*verdicts, Verdict("accept", ACCEPT, votes)], threshold)
        worse = resolve([*verdicts, Verdict("reject", REJECT, votes)], threshold)
        place = order.index(found.outcome)
        assert order.index(worse.outcome) <= place
        assert order.index(better.outcome) >= min(place, order.index("weak")) or rejected
        assert order.index(better.outcome) >= place or found.outcome == "positive"


@few_or_many(200, 20_000)
def test_the_caps_cut_and_never_add(examples: int) -> None:
    weights = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2), st.floats(1e-3, 1e6), max_size=8)

    @holds(examples, weights, st.floats(0.01, 1))
    def check(totals: dict[str, float], max_share: float) -> None:
        scales = capped_scales(totals, max_share)
        assert scales.keys() == totals.keys()
        assert all(0 < scale <= 1 for scale in scales.values())
        kept = {person: totals[person] * scale for person, scale in scales.items()}
        if len(totals) > 1:
            share = max(max_share, 1 / len(totals))
            assert max(kept.values()) <= share * sum(kept.values()) * (1 + 1e-6)
        heaviest = sorted(totals, key=lambda person: totals[person])
        assert [scales[person] for person in heaviest] == sorted(scales.values(), reverse=True)
        votes = vote_scales(scales)
        assert all(scales[person] <= vote <= 1 for person, vote in votes.items())


@few_or_many(100, 5_000)
def test_weights_of_negatives(examples: int) -> None:
    @holds(examples, st.lists(SHARES, max_size=20), SHARES, SHARES)
    def check(examined: list[float], one: float, other: float) -> None:
        passed = passed_over_weight(examined)
        assert 0 <= passed <= rejected_weight(one) <= 1
        assert passed_over_weight([*examined, one]) >= passed - 1e-12
        low, high = sorted((one, other))
        assert rejected_weight(low) <= rejected_weight(high)
