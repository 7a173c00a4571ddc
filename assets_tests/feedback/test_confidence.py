"""The confidence table, changes of mind, contradictions and the caps: values in, values out."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.feedback.confidence import (
    BY_THE_TABLE,
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

START = datetime(2026, 1, 1, tzinfo=UTC)
ACCEPTS = Verdict("accept", 0.95, 1)
REJECTS = Verdict("reject", 0.95, 1)
CLICKS = Verdict("implicit", 0.8, 1)


def signal(
    judgement: Judgement, minute: int, rank: int | None = 1, dwell_ms: int | None = None, search: str = "a"
) -> Signal:
    return Signal(judgement, rank, dwell_ms, search, START + timedelta(minutes=minute), minute)


def verdict(*signals: Signal, max_votes: int = 1) -> Verdict:
    return person_verdict(signals, max_votes=max_votes, unknown_rank=0.5)


@pytest.mark.parametrize(
    ("judgement", "rank", "dwell_ms", "expected"),
    [
        ("accept", 9, None, 0.95),
        ("accept", None, None, 0.95),
        ("copy", 9, None, 0.9),
        ("click", 1, None, 0.8),
        ("click", 3, None, 0.8),
        ("click", 4, None, 0.5),
        ("click", 6, None, 0.5),
        ("click", 7, None, 0.0),
        ("click", None, None, 0.5),
        ("click", 1, 10_000, 0.8),
        ("click", 1, 10_001, 0.85),
        ("click", 5, 10_001, 0.85),
    ],
)
def test_the_table(judgement: Judgement, rank: int | None, dwell_ms: int | None, expected: float) -> None:
    assert signal_confidence(judgement, rank, dwell_ms) == expected


ESTIMATED = Examination((1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2), estimated=True)


@pytest.mark.parametrize(
    ("judgement", "rank", "dwell_ms", "expected"),
    [
        ("click", 1, None, 0.8),
        ("click", 4, None, 0.8),
        ("click", 7, None, 0.8),  # as far down as it is known …
        ("click", 8, None, 0.0),  # … and no further: there the table speaks
        ("click", None, None, 0.5),
        ("click", 7, 10_001, 0.85),
        ("accept", 8, None, 0.95),
        ("reject", 8, None, 0.95),
        ("copy", 4, None, 0.9),
    ],
)
def test_where_examination_is_estimated_a_clicks_confidence_does_not_fall_with_its_rank(
    judgement: Judgement, rank: int | None, dwell_ms: int | None, expected: float
) -> None:
    assert signal_confidence(judgement, rank, dwell_ms, examination=ESTIMATED) == expected


def test_the_table_read_as_examination() -> None:
    assert [BY_THE_TABLE.at(rank) for rank in (1, 3, 4, 6, 7, 99)] == [1, 1, 0.625, 0.625, 0.625, 0.625]
    assert not BY_THE_TABLE.estimates(1)
    assert ESTIMATED.at(99) == 0.2
    assert ESTIMATED.at(None) == 1


def test_a_passed_over_snippet_weighs_by_how_likely_anybody_looked_and_less_than_any_rejected_one() -> None:
    assert passed_over_weight([1.0]) == 0.5
    assert passed_over_weight([0.5]) == 0.25
    assert passed_over_weight([0.5, 0.5]) == pytest.approx(0.375)
    assert passed_over_weight([1.0] * 100) <= rejected_weight(0.001) < rejected_weight(1) == 1


def test_only_who_judges_without_measure_loses_votes() -> None:
    assert vote_scales({"eager": 0.4, "flood": 0.01, "few": 1.0}) == pytest.approx(
        {"eager": 1, "flood": 0.03, "few": 1}
    )


def test_a_reject_outweighs_the_same_persons_click_and_copy_whenever_it_came() -> None:
    for order in [(0, 1, 2), (2, 1, 0), (1, 0, 2)]:
        reject, click, copy = order
        said = verdict(
            signal("reject", reject), signal("click", click, dwell_ms=60_000), signal("copy", copy)
        )
        assert said.stance == "reject"


def test_the_last_explicit_word_counts() -> None:
    assert verdict(signal("accept", 0), signal("reject", 1)).stance == "reject"
    assert verdict(signal("reject", 1), signal("accept", 2), signal("accept", 0)).stance == "accept"


def test_of_several_signs_the_most_telling_counts() -> None:
    assert verdict(signal("click", 0, rank=5), signal("copy", 1, rank=5)).confidence == 0.9


def test_fifty_repeats_by_one_person_count_once() -> None:
    fifty = [signal("accept", minute, search=f"search {minute}") for minute in range(50)]
    assert verdict(*fifty).votes == 1
    assert verdict(*fifty, max_votes=3).votes == 3
    assert resolve([verdict(*fifty), REJECTS], 0.7).outcome == "contradiction"


def test_the_same_search_is_never_two_votes() -> None:
    assert verdict(signal("accept", 0), signal("accept", 1), max_votes=5).votes == 1


def test_votes_before_a_change_of_mind_are_gone() -> None:
    said = verdict(
        signal("accept", 0, search="a"),
        signal("accept", 1, search="b"),
        signal("reject", 2, search="c"),
        signal("accept", 3, search="d"),
        max_votes=5,
    )
    assert (said.stance, said.votes) == ("accept", 1)


@pytest.mark.parametrize(
    ("verdicts", "outcome", "outvoted"),
    [
        ([ACCEPTS], "positive", 0),
        ([CLICKS], "positive", 0),
        ([Verdict("implicit", 0.5, 1)], "weak", 0),
        ([Verdict("implicit", 0.5, 1)] * 20, "weak", 0),
        ([Verdict("implicit", 0.7, 1)], "weak", 0),
        ([REJECTS], "negative", 0),
        ([REJECTS, *[CLICKS] * 20], "negative", 20),
        ([ACCEPTS, REJECTS], "contradiction", 0),
        ([ACCEPTS, REJECTS, CLICKS], "contradiction", 0),
        ([ACCEPTS, ACCEPTS, REJECTS], "positive", 1),
        ([ACCEPTS, REJECTS, REJECTS, CLICKS], "negative", 2),
    ],
)
def test_several_people(verdicts: list[Verdict], outcome: str, outvoted: int) -> None:
    resolution = resolve(verdicts, 0.7)
    assert (resolution.outcome, resolution.outvoted) == (outcome, outvoted)


def test_a_contested_positive_is_believed_less() -> None:
    assert resolve([ACCEPTS, ACCEPTS, REJECTS], 0.7).confidence == pytest.approx(0.95 * 2 / 3)
    assert resolve([ACCEPTS, ACCEPTS], 0.7).confidence == 0.95


@pytest.mark.parametrize(
    "totals",
    [
        {"a": 900.0, "b": 10.0},
        {"a": 900.0, "b": 800.0, "c": 10.0, "d": 5.0},
        {"a": 10.0, "b": 0.1, "c": 1e-20},
        {str(person): 2.0**person for person in range(40)},
        {"a": 1.0, "b": 1.0, "c": 1.0},
    ],
)
@pytest.mark.parametrize("share", [0.02, 0.3, 1 / 3, 0.5, 0.9, 1.0])
def test_nobody_weighs_more_than_their_share(totals: dict[str, float], share: float) -> None:
    scales = capped_scales(totals, share)
    weights = {person: totals[person] * scales[person] for person in totals}
    enforced = max(share, 1 / len(totals))  # three people cannot all have less than a third
    assert max(weights.values()) <= enforced * math.fsum(weights.values()) * (1 + 1e-6)
    # Nobody is cut who need not be, and those who are cut end level.
    cut = [weights[person] for person, scale in scales.items() if scale < 1]
    assert all(weight == pytest.approx(max(weights.values())) for weight in cut)


def test_one_person_alone_is_not_cut() -> None:
    assert capped_scales({"a": 900.0}, 0.5) == {"a": 1.0}
    assert capped_scales({}, 0.5) == {}


def test_two_people_are_levelled_at_half() -> None:
    assert capped_scales({"a": 30.0, "b": 10.0}, 0.5) == {"a": pytest.approx(1 / 3), "b": 1.0}
