"""Feedback as it happens: recorded once, kept for ever, and only about what was shown."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise
from uuid import uuid4

import pytest

from assets_tests.feedback.world import add_code, show
from pipeline.errors import BadInputError
from pipeline.feedback.events import add_feedback
from pipeline.search.answer import SearchAnswer
from pipeline.search.recording import SearchRecord
from pipeline.search.request import SearchRequest
from pipeline.store.connections import Database


@pytest.fixture
def shown(db: Database) -> tuple[str, int, int]:
    """A search by ann that showed the first of two snippets."""
    one, other = add_code(db, {"a.py": {"one": "def one(): 1", "other": "def other(): 2"}}).values()
    return show(db, "the first", [one], user="ann"), one, other


def recorded(db: Database) -> list[tuple[str, int | None, str | None]]:
    with db.connect() as connection:
        return connection.execute(  # pyright: ignore[reportReturnType]
            "SELECT judgement, dwell_ms, user_name FROM feedback ORDER BY at, id"
        ).fetchall()


def test_saying_the_same_twice_adds_nothing(db: Database, shown: tuple[str, int, int]) -> None:
    search, one, _ = shown
    for judgement in ("click", "copy", "accept"):
        assert add_feedback(db, search, one, judgement).added
        assert not add_feedback(db, search, one, judgement).added
    assert recorded(db) == [("click", None, "ann"), ("copy", None, "ann"), ("accept", None, "ann")]


def test_changing_ones_mind_and_back_is_kept(db: Database, shown: tuple[str, int, int]) -> None:
    search, one, _ = shown
    for judgement in ("accept", "reject", "accept"):
        assert add_feedback(db, search, one, judgement).added
    assert [judgement for judgement, _, _ in recorded(db)] == ["accept", "reject", "accept"]


def test_a_longer_stay_is_news_and_a_shorter_one_is_not(db: Database, shown: tuple[str, int, int]) -> None:
    search, one, _ = shown
    added = [
        add_feedback(db, search, one, "click", dwell_ms=dwell).added
        for dwell in (None, 500, 12_000, 900, None)
    ]
    assert added == [True, True, True, False, False]


def test_another_person_on_the_same_answer_is_recorded(db: Database, shown: tuple[str, int, int]) -> None:
    search, one, _ = shown
    assert add_feedback(db, search, one, "accept").added
    assert not add_feedback(db, search, one, "accept", user="ann").added
    assert add_feedback(db, search, one, "accept", user="bob").added
    assert {user for _, _, user in recorded(db)} == {"ann", "bob"}


def test_many_clicks_at_once_are_one(db: Database, shown: tuple[str, int, int]) -> None:
    search, one, _ = shown
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: add_feedback(db, search, one, "accept").added, range(8)))
    assert results.count(True) == 1
    assert len(recorded(db)) == 1


def test_people_who_change_their_minds_at_once_leave_a_history_without_repetitions(
    db: Database, shown: tuple[str, int, int]
) -> None:
    search, one, _ = shown
    said = [(user, judgement) for user in ("ann", "bob") for judgement in ("accept", "reject", "copy")] * 6
    with ThreadPoolExecutor(8) as pool:
        results = list(
            pool.map(lambda each: add_feedback(db, search, one, each[1], user=each[0]).added, said)
        )
    history = recorded(db)
    assert len(history) == results.count(True)
    for user in ("ann", "bob"):
        theirs = [judgement for judgement, _, name in history if name == user]
        explicit = [judgement for judgement in theirs if judgement != "copy"]
        assert theirs.count("copy") == 1
        assert all(one_ != next_ for one_, next_ in pairwise(explicit))
        assert {"accept", "reject"} <= set(explicit)


@pytest.mark.parametrize("user", ["", "  "])
def test_a_blank_name_is_nobodys_own(db: Database, shown: tuple[str, int, int], user: str) -> None:
    search, one, _ = shown
    add_feedback(db, search, one, "accept", user=user)
    assert not add_feedback(db, search, one, "accept", user=" ann ").added
    assert recorded(db) == [("accept", None, "ann")]  # of whoever searched


@pytest.mark.parametrize(("user", "recorded_as"), [(" ann\n", "ann"), ("  ", None), (None, None)])
def test_a_search_is_recorded_under_the_same_name_as_its_feedback(
    user: str | None, recorded_as: str | None
) -> None:
    """Or one person would be two: capped twice as high, and forgotten by half."""
    answer = SearchAnswer(None, "find it", "0" * 64, 1, 2.0, ())
    request = SearchRequest("find it", user=user)
    assert SearchRecord.of(str(uuid4()), datetime.now(UTC), request, answer).user == recorded_as


@pytest.mark.parametrize("user", ["a\0b", "half a \ud83d"])
def test_a_name_that_is_no_text_is_refused(db: Database, shown: tuple[str, int, int], user: str) -> None:
    search, one, _ = shown
    with pytest.raises(BadInputError, match="characters that are no text"):
        add_feedback(db, search, one, "accept", user=user)
    assert recorded(db) == []


def test_only_what_was_shown_can_be_judged(db: Database, shown: tuple[str, int, int]) -> None:
    search, _, other = shown
    for snippet in (other, 10**30, -1):
        with pytest.raises(BadInputError, match="was not shown in search"):
            add_feedback(db, search, snippet, "accept")
    assert recorded(db) == []


# Not a random one: every worker must collect tests of the same names.
@pytest.mark.parametrize("search", ["nonsense", "", "5e0c1c5e-8b1c-4f57-9e1e-3c1d7a0f6b42"])
def test_an_unknown_search_is_named(db: Database, shown: tuple[str, int, int], search: str) -> None:
    with pytest.raises(BadInputError, match=f"no search '{search}'"):
        add_feedback(db, search, shown[1], "accept")


def test_values_that_cannot_be(db: Database, shown: tuple[str, int, int]) -> None:
    search, one, _ = shown
    with pytest.raises(BadInputError, match="'like' is not a judgement"):
        add_feedback(db, search, one, "like")
    for dwell in (-1, 2**31):
        with pytest.raises(BadInputError, match="dwell time"):
            add_feedback(db, search, one, "click", dwell_ms=dwell)
    assert recorded(db) == []
