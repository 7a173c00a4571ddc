"""Pairs and position: with enough data a click far down is no weaker evidence, only rarer."""

from __future__ import annotations

from itertools import pairwise

import pytest

from assets_tests.feedback.world import add_code, content_hash, show
from pipeline.config import Settings
from pipeline.feedback import store
from pipeline.feedback.events import add_feedback
from pipeline.feedback.pairs import FeedbackPair, feedback_pairs
from pipeline.store.connections import Database

TEXTS = [f"def snippet_{number}(): return {number}" for number in range(4)]
HASHES = [content_hash(text) for text in TEXTS]


@pytest.fixture
def ids(db: Database) -> list[int]:
    return list(add_code(db, {f"{n}.py": {f"s{n}": text} for n, text in enumerate(TEXTS)}).values())


@pytest.fixture
def little(settings: Settings) -> Settings:
    """Settings under which eight clicks a rank are enough, down to rank 3."""
    return settings.model_copy(
        update={"propensity_min_clicks": 8, "propensity_min_ranks": 3, "propensity_max_rank": 3}
    )


def clicked_half_as_often_at_each_further_rank(db: Database, ids: list[int]) -> None:
    """For 16 queries, one snippet is shown at ranks 1, 2, 3: clicked in 16, 12 and 8 of them."""
    for number in range(16):
        for rank, clicks in ((1, 16), (2, 12), (3, 8)):
            shown = [snippet for snippet in ids if snippet != ids[0]]
            shown.insert(rank - 1, ids[0])
            search = show(db, f"query {number}", shown, user=f"user {number} {rank}")
            if number < clicks:
                add_feedback(db, search, ids[0], "click")


def of_query(found: tuple[FeedbackPair, ...], query: str) -> list[FeedbackPair]:
    return [pair for pair in found if pair.query == query]


def test_too_little_data_leaves_the_table_in_force(db: Database, settings: Settings, ids: list[int]) -> None:
    clicked_half_as_often_at_each_further_rank(db, ids)
    found = feedback_pairs(db, settings)
    assert not found.position_bias.examination.estimated
    assert found.position_bias.missing == {1: 184, 2: 188, 3: 192, 4: 200, 5: 200, 6: 200}
    assert {pair.weight for pair in found.pairs} == {0.8}


def test_enough_data_estimates_and_corrects(db: Database, little: Settings, ids: list[int]) -> None:
    clicked_half_as_often_at_each_further_rank(db, ids)
    add_feedback(db, show(db, "at the top", ids, "ann"), ids[0], "click")
    add_feedback(db, show(db, "at the third", ids, "ben"), ids[2], "click")
    add_feedback(db, show(db, "accepted at the third", ids, "cyd"), ids[2], "accept")
    found = feedback_pairs(db, little)
    by_rank = found.position_bias.examination.by_rank
    assert by_rank == (1.0, 0.75, 0.5)
    (top,) = of_query(found.pairs, "at the top")
    (third,) = of_query(found.pairs, "at the third")
    (accepted,) = of_query(found.pairs, "accepted at the third")
    # A click at rank 3 stands for two: one at the top weighs half as much, unless it would exceed 1.
    assert third.weight == pytest.approx(min(1, 2 * top.weight))
    assert top.weight < 0.8 < third.weight <= 1
    assert accepted.weight == 0.95
    clicks = [pair.weight for pair in found.pairs if pair.judgement == "click"]
    assert sum(clicks) == pytest.approx(0.8 * len(clicks))  # together they weigh what they did
    # What was passed over at ranks 1 and 2 weighs by how likely it was looked at.
    assert third.negatives == ((HASHES[0], "passed-over", 0.5), (HASHES[1], "passed-over", 0.375))


def test_below_what_is_known_a_click_is_what_the_table_says(
    db: Database, little: Settings, ids: list[int]
) -> None:
    clicked_half_as_often_at_each_further_rank(db, ids)
    add_feedback(db, show(db, "at the fourth", ids, "ann"), ids[3], "click")
    assert of_query(feedback_pairs(db, little).pairs, "at the fourth") == []
    deeper = little.model_copy(update={"propensity_min_clicks": 1, "propensity_max_rank": 4})
    assert not feedback_pairs(db, deeper).position_bias.examination.estimates(4)


def test_a_reject_beats_a_click_whatever_the_data_say(db: Database, little: Settings, ids: list[int]) -> None:
    clicked_half_as_often_at_each_further_rank(db, ids)
    for user in ("ann", "ben", "cyd"):
        add_feedback(db, show(db, "disputed", ids, user), ids[2], "click")
    add_feedback(db, show(db, "disputed", ids, "dan"), ids[2], "reject")
    found = feedback_pairs(db, little)
    assert found.position_bias.examination.estimated
    assert of_query(found.pairs, "disputed") == []


def test_the_same_data_give_the_same_pairs(db: Database, little: Settings, ids: list[int]) -> None:
    clicked_half_as_often_at_each_further_rank(db, ids)
    assert feedback_pairs(db, little) == feedback_pairs(db, little)


def test_a_new_click_or_two_do_not_move_the_estimate(db: Database, little: Settings, ids: list[int]) -> None:
    """Or every night's training set would have another name, with nothing new to learn."""
    clicked_half_as_often_at_each_further_rank(db, ids)
    before = feedback_pairs(db, little)
    add_feedback(db, show(db, "query 15", [ids[1], ids[0]], "zoe"), ids[0], "click")
    after = feedback_pairs(db, little)
    assert after.position_bias.evidence != before.position_bias.evidence
    assert (
        max(
            abs(one - other)
            for one, other in zip(
                after.position_bias.examination.by_rank, before.position_bias.examination.by_rank, strict=True
            )
        )
        <= 0.05 + 1e-9
    )


def test_what_is_read_is_what_was_shown_at_several_ranks_and_by_whom(db: Database, ids: list[int]) -> None:
    one = show(db, "Parse  JSON", ids[:2], "ann")
    add_feedback(db, one, ids[0], "click")
    add_feedback(db, one, ids[0], "accept")
    add_feedback(db, one, ids[1], "reject")
    two = show(db, "ＰＡＲＳＥ json ", [ids[1], ids[0], ids[2]])  # full width: the same compatibility form
    show(db, "parse json", [ids[3]], "ann")  # shown once only
    agent = show(db, "parse json", [ids[2], ids[3]], "bot")
    expired = show(db, "parse json", [ids[3], ids[2]], "old")
    with db.connect() as connection:
        connection.execute("UPDATE searches SET client = 'mcp' WHERE id = %s", [agent])
        connection.execute("UPDATE searches SET expired_at = now() WHERE id = %s", [expired])
        rows = sorted(
            (row.snippet_id, row.rank, row.person, row.shown, row.chosen)
            for row in store.shown_at_several_ranks(connection, 10)
        )
        few = list(store.shown_at_several_ranks(connection, 1))
    nobody = f"search:{two}"
    assert rows == [
        (ids[0], 1, "name:ann", 1, 1),
        (ids[0], 2, nobody, 1, 0),
        (ids[1], 1, nobody, 1, 0),
        (ids[1], 2, "name:ann", 1, 0),
    ]
    assert few == []


class TestOnePerson:
    """One name, or one script, must not decide what a model learns."""

    def test_thousands_of_accepts_weigh_no_more_than_everybody_else_together(
        self, db: Database, settings: Settings, ids: list[int]
    ) -> None:
        flood(db, 300, "accept", ids[0], "eve")
        for name in ("ann", "ben", "cyd"):
            add_feedback(db, show(db, f"of {name}", ids, name), ids[1], "accept")
        pairs = feedback_pairs(db, settings).pairs
        eves = sum(pair.weight for pair in pairs if pair.content_hash == HASHES[0])
        assert eves == pytest.approx(3 * 0.95)
        assert {pair.weight for pair in pairs if pair.content_hash == HASHES[1]} == {0.95}

    def test_thousands_of_rejects_do_not_strike_out_what_others_accept(
        self, db: Database, settings: Settings, ids: list[int]
    ) -> None:
        flood(db, 300, "reject", ids[0], "eve")
        for number in range(9):
            name = ("ann", "ben", "cyd")[number % 3]
            add_feedback(db, show(db, f"query {number}", ids, name), ids[0], "accept")
        kept = [pair for pair in feedback_pairs(db, settings).pairs if pair.content_hash == HASHES[0]]
        assert len(kept) == 9
        assert all(0.7 < pair.weight < 0.95 for pair in kept)

    def test_one_snippet_for_everything_weighs_no_more_than_one_person_may_say_of_a_snippet(
        self, db: Database, settings: Settings, ids: list[int]
    ) -> None:
        """Below the cap in total, as one of many."""
        flood(db, 40, "accept", ids[0], "eve")
        for number in range(60):
            search = show(db, f"of {number}", ids, f"user {number % 12}")
            add_feedback(db, search, ids[1 + number % 3], "accept")
        pairs = feedback_pairs(db, settings).pairs
        assert sum(pair.weight for pair in pairs if pair.content_hash == HASHES[0]) == pytest.approx(5)
        assert {pair.weight for pair in pairs if pair.content_hash != HASHES[0]} == {0.95}

    @pytest.mark.parametrize("name", [None, "web:{:032x}"])
    def test_without_a_name_or_with_ever_new_cookies_it_weighs_no_more(
        self, db: Database, settings: Settings, ids: list[int], name: str | None
    ) -> None:
        for number in range(40):
            user = name and name.format(number)
            add_feedback(db, show(db, f"query {number}", ids, user), ids[0], "accept")
        for number in range(3):
            add_feedback(db, show(db, f"of {number}", ids, f"user {number}"), ids[1], "accept")
        pairs = feedback_pairs(db, settings).pairs
        assert sum(pair.weight for pair in pairs if pair.content_hash == HASHES[0]) == pytest.approx(5)
        assert {pair.weight for pair in pairs if pair.content_hash == HASHES[1]} == {0.95}

    def test_who_makes_nine_tenths_of_all_judgements_does_not_strike_out_the_others(
        self, db: Database, settings: Settings, ids: list[int]
    ) -> None:
        flood(db, 90, "reject", ids[0], "eve")
        for number in range(10):
            add_feedback(db, show(db, f"query {number}", ids, f"user {number}"), ids[0], "accept")
        found = feedback_pairs(db, settings)
        # Of 90 judgements the cap leaves her what the others made, 10: three times a ninth of a vote.
        assert [pair.weight for pair in found.pairs] == pytest.approx([0.95 * 3 / 4] * 10)
        assert found.dropped["outvoted by other people"] == 10

    def test_twenty_people_together_outvote_one_and_still_make_one_pair(
        self, db: Database, settings: Settings, ids: list[int]
    ) -> None:
        """Names are all that people are told apart by: who signs with twenty has twenty votes."""
        for number in range(20):
            search = show(db, "find it", ids, f"sock {number}")
            add_feedback(db, search, ids[0], "reject")
            add_feedback(db, search, ids[1], "accept")
        add_feedback(db, show(db, "find it", ids, "ann"), ids[0], "accept")
        add_feedback(db, show(db, "another", ids, "ann"), ids[2], "accept")
        found = feedback_pairs(db, settings)
        assert {(pair.query, pair.weight) for pair in found.pairs} == {("find it", 0.95), ("another", 0.95)}
        assert found.dropped["outvoted by other people"] == 1

    def test_a_few_rejects_do_as_ever(self, db: Database, settings: Settings, ids: list[int]) -> None:
        for number in range(9):
            name = "ann" if number % 3 else "ben"
            add_feedback(db, show(db, f"query {number}", ids, name), ids[0], "accept")
        add_feedback(db, show(db, "query 0", ids, "eve"), ids[0], "reject")
        found = feedback_pairs(db, settings)
        assert len(found.pairs) == 8
        assert found.dropped["contradictory"] == 1

    def test_the_same_search_over_and_over_without_a_name_is_one_voice(
        self, db: Database, settings: Settings, ids: list[int]
    ) -> None:
        for _ in range(50):
            add_feedback(db, show(db, "find it", ids), ids[0], "accept")
        add_feedback(db, show(db, "find it", ids, "ann"), ids[0], "reject")
        found = feedback_pairs(db, settings)
        assert found.pairs == ()
        assert found.dropped["contradictory"] == 1

    def test_passing_over_a_snippet_again_and_again_is_passing_over_it_once(
        self, db: Database, settings: Settings, ids: list[int]
    ) -> None:
        extra = list(add_code(db, {"x.py": {"x": "def x(): 1"}}).values())
        shown = [*ids[1:], *extra, ids[0]]
        for _ in range(20):
            add_feedback(db, show(db, "find it", shown, "eve"), ids[0], "accept")
        (pair,) = feedback_pairs(db, settings).pairs
        # At rank 4 she looked with 0.625; twenty such chances would make a certainty of it.
        assert [negative.weight for negative in pair.negatives] == [0.5, 0.5, 0.5, 0.3125]

    def test_no_pair_takes_rejected_snippets_without_end(
        self, db: Database, settings: Settings, ids: list[int]
    ) -> None:
        more = list(add_code(db, {f"m{n}.py": {"m": f"def m{n}(): {n}"} for n in range(12)}).values())
        search = show(db, "find it", [ids[0], *more], "eve")
        for snippet in more:
            add_feedback(db, search, snippet, "reject")
        add_feedback(db, show(db, "find it", ids, "ann"), ids[0], "accept")
        found = feedback_pairs(db, settings)
        (pair,) = found.pairs
        assert [negative.reason for negative in pair.negatives] == ["rejected"] * 8
        assert found.dropped == {"rejected, beyond what one pair takes": 4}

    def test_a_flood_of_rejects_weighs_less_than_another_persons_one(
        self, db: Database, settings: Settings, ids: list[int]
    ) -> None:
        flood(db, 60, "reject", ids[1], "eve")
        for number in range(60):
            add_feedback(db, show(db, f"query {number}", ids, f"user {number}"), ids[0], "accept")
        add_feedback(db, show(db, "query 7", ids, "ann"), ids[2], "reject")
        (pair,) = of_query(feedback_pairs(db, settings).pairs, "query 7")
        weights = {negative.content_hash: negative.weight for negative in pair.negatives}
        assert weights[HASHES[2]] == 1
        assert 0.5 < weights[HASHES[1]] < 0.52
        ordered = [negative.weight for negative in pair.negatives]
        assert all(one >= other for one, other in pairwise(ordered))


def flood(db: Database, count: int, judgement: str, snippet: int, user: str) -> None:
    """As many judgements of one person, each for another query."""
    with db.connect() as connection:
        connection.execute(
            "WITH asked AS (INSERT INTO searches (query, source, user_name)"
            " SELECT 'query ' || n, 'search', %(user)s FROM generate_series(0, %(count)s - 1) n"
            " RETURNING id),"
            " shown AS (INSERT INTO impressions (search_id, snippet_id, rank, score)"
            " SELECT id, %(snippet)s, 1, 0.5 FROM asked RETURNING search_id)"
            " SELECT count(*) FROM shown",
            {"user": user, "count": count, "snippet": snippet},
        )
        connection.execute(
            "INSERT INTO feedback (search_id, snippet_id, judgement)"
            " SELECT search_id, snippet_id, %s FROM impressions JOIN searches s ON s.id = search_id"
            " WHERE s.user_name = %s",
            [judgement, user],
        )
