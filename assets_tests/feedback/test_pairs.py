"""From feedback to pairs: what is a positive, what a negative, what is dropped, and who weighs how much."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets_tests.feedback.world import add_code, content_hash, show, vanish, write_lines
from pipeline.config import Settings
from pipeline.feedback.events import add_feedback
from pipeline.feedback.importing import import_feedback
from pipeline.feedback.pairs import FeedbackPair, feedback_pairs, stats
from pipeline.store.connections import Database

TEXTS = [f"def snippet_{letter}(): return {number}" for number, letter in enumerate("abcdefgh")]
HASHES = [content_hash(text) for text in TEXTS]


@pytest.fixture
def ids(db: Database) -> list[int]:
    return list(add_code(db, {f"{n}.py": {f"s{n}": text} for n, text in enumerate(TEXTS)}).values())


def only_pair(db: Database, settings: Settings) -> FeedbackPair:
    (pair,) = feedback_pairs(db, settings).pairs
    return pair


def judge(db: Database, query: str, snippet: int, judgement: str, *users: str | None) -> None:
    for user in users:
        add_feedback(db, show(db, query, [snippet], user), snippet, judgement)


def test_rejected_and_passed_over_are_negatives_and_what_stands_below_is_not(
    db: Database, settings: Settings, ids: list[int]
) -> None:
    search = show(db, "find it", ids[:6], "ann")
    add_feedback(db, search, ids[2], "reject")
    add_feedback(db, search, ids[1], "click", dwell_ms=300)
    add_feedback(db, search, ids[4], "accept")
    pairs = {pair.content_hash: pair for pair in feedback_pairs(db, settings).pairs}
    # Rank 5 was accepted: ranks 1 and 4 were passed over, 2 was clicked, 3 rejected, 6 maybe never seen.
    assert pairs[HASHES[4]].weight == 0.95
    assert pairs[HASHES[4]].negatives == (
        (HASHES[2], "rejected", 1),
        (HASHES[0], "passed-over", 0.5),
        (HASHES[3], "passed-over", 0.3125),  # at rank 4 it was looked at less surely
    )
    # Rank 2 was clicked: only rank 1 stood above it.
    assert pairs[HASHES[1]].weight == 0.8
    assert pairs[HASHES[1]].negatives == (
        (HASHES[2], "rejected", 1),
        (HASHES[0], "passed-over", 0.5),
    )


def test_who_judges_in_somebody_elses_search_has_passed_over_nothing(
    db: Database, settings: Settings, ids: list[int]
) -> None:
    """A link to one snippet shows that snippet, and not the list that it stood in."""
    search = show(db, "find it", ids[:4], "ann")
    add_feedback(db, search, ids[3], "accept", user="bob")
    assert only_pair(db, settings).negatives == ()
    add_feedback(db, search, ids[3], "copy")  # by ann, who had the list before her
    assert {each.content_hash for each in only_pair(db, settings).negatives} == set(HASHES[:3])


def test_a_search_without_a_name_may_well_be_of_whoever_judges_in_it(
    db: Database, settings: Settings, ids: list[int]
) -> None:
    add_feedback(db, show(db, "find it", ids[:2]), ids[1], "accept", user="bob")
    assert [each.content_hash for each in only_pair(db, settings).negatives] == HASHES[:1]


def test_what_anybody_liked_for_the_query_is_no_negative(
    db: Database, settings: Settings, ids: list[int]
) -> None:
    add_feedback(db, show(db, "find it", ids[:5], "ann"), ids[4], "accept")
    bobs = show(db, "Find  IT", ids[:5], "bob")
    add_feedback(db, bobs, ids[3], "click")  # at rank 4: no positive, but no negative either
    pair = only_pair(db, settings)
    assert {negative.content_hash for negative in pair.negatives} == set(HASHES[:3])


def test_a_click_makes_a_pair_by_its_rank(db: Database, settings: Settings, ids: list[int]) -> None:
    for rank, expected in [(1, 1), (3, 1), (4, 0), (7, 0)]:
        query = f"clicked at {rank}"
        add_feedback(db, show(db, query, ids), ids[rank - 1], "click")
        found = [pair for pair in feedback_pairs(db, settings).pairs if pair.query == query]
        assert len(found) == expected, rank
    add_feedback(db, show(db, "stayed", ids), ids[6], "click", dwell_ms=11_000)
    assert [pair.weight for pair in feedback_pairs(db, settings).pairs if pair.query == "stayed"] == [0.85]
    assert feedback_pairs(db, settings).dropped == {"not over the confidence threshold": 2}


def test_spellings_of_one_query_are_one_query(db: Database, settings: Settings, ids: list[int]) -> None:
    for user, query in [("ann", "Read  ﬁle"), ("bob", "read file "), ("cy", "READ\tFILE")]:
        judge(db, query, ids[0], "accept", user)
    pair = only_pair(db, settings)
    assert (pair.query, pair.users) == ("Read ﬁle", 3)


def test_contradictions_are_resolved_by_weight_or_dropped_and_counted(
    db: Database, settings: Settings, ids: list[int]
) -> None:
    judge(db, "even", ids[0], "accept", "ann")
    judge(db, "even", ids[0], "reject", "bob")
    judge(db, "mostly yes", ids[1], "accept", "ann", "bob", "cy")
    judge(db, "mostly yes", ids[1], "reject", "dee")
    judge(db, "mostly no", ids[2], "accept", "ann")
    judge(db, "mostly no", ids[2], "reject", "bob", "cy")
    result = feedback_pairs(db, settings)
    assert [pair.query for pair in result.pairs] == ["mostly yes"]
    assert result.pairs[0].weight == pytest.approx(0.95 * 3 / 4)
    assert result.dropped == {
        "contradictory": 1,
        "outvoted by other people": 2,
        "rejected, with nothing accepted for the query": 1,
    }


def test_a_reject_outweighs_other_peoples_clicks(db: Database, settings: Settings, ids: list[int]) -> None:
    judge(db, "find it", ids[0], "click", "ann", "bob", "cy")
    judge(db, "find it", ids[0], "copy", "dee")
    judge(db, "find it", ids[0], "reject", "eve")
    result = feedback_pairs(db, settings)
    assert result.pairs == ()
    assert result.dropped["outvoted by other people"] == 4


def test_one_persons_fifty_accepts_are_one_vote(db: Database, settings: Settings, ids: list[int]) -> None:
    judge(db, "find it", ids[0], "accept", *["ann"] * 50)
    judge(db, "find it", ids[0], "reject", "bob")
    result = feedback_pairs(db, settings)
    assert result.pairs == ()
    assert result.dropped["contradictory"] == 1
    assert result.dropped["repeated by the same person"] == 49


def test_changing_ones_mind_in_another_search(db: Database, settings: Settings, ids: list[int]) -> None:
    judge(db, "find it", ids[0], "accept", "ann")
    judge(db, "find it", ids[0], "reject", "ann")
    assert feedback_pairs(db, settings).pairs == ()
    judge(db, "find it", ids[0], "accept", "ann")
    assert only_pair(db, settings).weight == 0.95


def test_one_persons_share_of_all_weight_is_capped(db: Database, settings: Settings, ids: list[int]) -> None:
    for number in range(9):
        judge(db, f"query {number}", ids[0], "accept", "ann")
    judge(db, "of bob", ids[1], "accept", "bob")
    weights = {pair.query: pair.weight for pair in feedback_pairs(db, settings).pairs}
    anns = sum(weight for query, weight in weights.items() if query != "of bob")
    assert weights["of bob"] == 0.95
    assert anns == pytest.approx(0.95)
    assert len(weights) == 10  # less weight, but nothing lost


def test_one_person_alone_keeps_their_weight(db: Database, settings: Settings, ids: list[int]) -> None:
    for number in range(9):
        judge(db, f"query {number}", ids[number % 3], "accept", "ann")
    assert {pair.weight for pair in feedback_pairs(db, settings).pairs} == {0.95}


def test_imported_lines_without_a_name_are_not_one_person(
    db: Database, settings: Settings, ids: list[int], tmp_path: Path
) -> None:
    line = {"query": "find it", "repository": "demo", "path": "0.py"}
    named = {**line, "query": "ann's", "user": "ann", "judgement": "accept"}
    file = write_lines(
        tmp_path / "f.jsonl",
        *[{**line, "judgement": "accept"}] * 3,
        {**line, "judgement": "reject"},
        *({**line, "query": f"query {n}", "judgement": "accept"} for n in range(20)),
        named,
    )
    import_feedback(db, file)
    weights = {pair.query: pair.weight for pair in feedback_pairs(db, settings).pairs}
    assert weights["find it"] == pytest.approx(0.95 * 3 / 4)  # three against one
    assert weights["query 7"] == 0.95  # no cap on nobody in particular
    assert weights["ann's"] == 0.95


def test_an_imported_click_has_no_rank_and_makes_no_positive_unless_set(
    db: Database, settings: Settings, ids: list[int], tmp_path: Path
) -> None:
    line = {"query": "find it", "repository": "demo", "path": "0.py", "judgement": "click"}
    import_feedback(db, write_lines(tmp_path / "f.jsonl", line))
    assert feedback_pairs(db, settings).pairs == ()
    top = settings.model_copy(update={"imported_click_confidence": 0.8})
    assert only_pair(db, top).weight == 0.8


def test_what_vanished_makes_no_pair_until_it_is_back(
    db: Database, settings: Settings, ids: list[int]
) -> None:
    judge(db, "find it", ids[0], "accept", "ann")
    vanish(db, ids[0])
    assert feedback_pairs(db, settings).dropped == {"about a snippet that vanished": 1}
    add_code(db, {"0.py": {"s0": TEXTS[0]}}, repository="elsewhere")
    assert only_pair(db, settings).content_hash == HASHES[0]


def test_the_order_is_stable(db: Database, settings: Settings, ids: list[int]) -> None:
    for number in range(12):
        judge(db, f"query {number}", ids[number % 8], "accept", "ann")
    assert feedback_pairs(db, settings) == feedback_pairs(db, settings)
    keys = [pair.group_key for pair in feedback_pairs(db, settings).pairs]
    assert keys == sorted(keys)


def test_stats(db: Database, ids: list[int], tmp_path: Path) -> None:
    assert stats(db).total == 0
    search = show(db, "find it", ids[:3], "ann")
    add_feedback(db, search, ids[0], "click")
    add_feedback(db, search, ids[0], "accept", user="bob")
    line = {"query": "find it", "repository": "demo", "path": "0.py", "judgement": "accept"}
    import_feedback(db, write_lines(tmp_path / "f.jsonl", line))
    found = stats(db)
    assert (found.searches, found.impressions, found.total, found.imported) == (1, 3, 3, 1)
    assert found.feedback == {"accept": 2, "click": 1}
    assert found.people == 2
