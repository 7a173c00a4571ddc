"""Splits that never move, and in which nothing stands on two sides."""

from __future__ import annotations

import hashlib
import random
from collections import Counter

import pytest

from pipeline.config import Settings
from pipeline.feedback.grouping import group_key
from pipeline.training.pairs import Candidate, Origin, Split
from pipeline.training.splits import separate, split_of

SETTINGS = Settings()


def query_for(split: Split, start: int = 0) -> str:
    """A query that the hash puts on this side."""
    return next(f"q {n}" for n in range(start, start + 10_000) if split_of(f"q {n}", SETTINGS) == split)


def words(seed: object, count: int = 30) -> str:
    """Code-like text that shares next to nothing with any other seed's."""
    chosen = random.Random(str(seed))
    return " ".join(f"name_{chosen.randrange(10**9)}" for _ in range(count))


def pair(query: str, code: str, origin: Origin = "feedback") -> Candidate:
    return Candidate(
        origin=origin,
        query=query,
        group_key=group_key(query),
        split=split_of(query, SETTINGS),
        content_hash=hashlib.sha256(code.encode()).digest(),
        text=code,
        code=code,
        weight=0.95,
        language="python",
    )


def test_a_query_never_moves() -> None:
    # Written down: were these to change, yesterday's test queries would be trained on.
    assert [split_of(f"query number {n}", SETTINGS) for n in range(12)] == EXPECTED


EXPECTED: list[Split] = [
    *("validation", "train", "train", "validation", "train", "train"),
    *("test", "train", "train", "train", "validation", "test"),
]


def test_spellings_of_a_query_stand_together() -> None:
    for n in range(200):
        spellings = [f"Read file № {n}", f"  read\tFILE No {n} ", f"ｒead file no {n}"]
        assert len({split_of(spelling, SETTINGS) for spelling in spellings}) == 1


def test_shares_are_about_what_is_set() -> None:
    counted = Counter(split_of(f"query {n}", SETTINGS) for n in range(10_000))
    assert counted["test"] / 10_000 == pytest.approx(SETTINGS.test_percent / 100, abs=0.015)
    assert counted["validation"] / 10_000 == pytest.approx(SETTINGS.validation_percent / 100, abs=0.015)


def test_growth_moves_nothing_and_keeps_what_was_tested() -> None:
    few = [pair(f"query {n}", words(n)) for n in range(300)]
    many = [*few, *(pair(f"query {n}", words(n)) for n in range(300, 900))]
    before, after = separate(few, SETTINGS), separate(many, SETTINGS)
    side = {each.content_hash: each.split for each in after.kept}
    assert len(before.kept) == 300
    assert all(side[each.content_hash] == each.split for each in before.kept)


@pytest.mark.parametrize(
    ("kept", "dropped"), [("test", "train"), ("test", "validation"), ("validation", "train")]
)
@pytest.mark.parametrize("origin", ["feedback", "docstring"])
def test_a_snippet_stands_on_one_side_only(kept: Split, dropped: Split, origin: Origin) -> None:
    code = words("shared")
    found = separate([pair(query_for(dropped), code, origin), pair(query_for(kept), code, origin)], SETTINGS)
    assert [each.split for each in found.kept] == [kept]
    assert found.dropped[origin] == {"same snippet on another side": 1}


def test_planted_near_duplicates_are_caught() -> None:
    original = words("original")
    copy = original.replace(original.split()[3], "renamed")
    found = separate([pair(query_for("train"), copy), pair(query_for("test"), original)], SETTINGS)
    assert [each.text for each in found.kept] == [original]
    assert found.dropped["feedback"] == {"near-duplicate on another side": 1}


def test_near_duplicates_on_one_side_are_kept() -> None:
    original = words("original")
    copy = original.replace(original.split()[3], "renamed")
    queries = [query_for("train"), query_for("train", 5000)]
    assert len(separate([pair(queries[0], copy), pair(queries[1], original)], SETTINGS).kept) == 2


def test_documentation_gives_way_to_feedback_even_where_it_would_test() -> None:
    code = words("judged")
    found = separate(
        [pair(query_for("test"), code, "docstring"), pair(query_for("train"), code, "feedback")], SETTINGS
    )
    assert [(each.origin, each.split) for each in found.kept] == [("feedback", "train")]
    assert found.dropped["docstring"] == {"same snippet on another side": 1}


def test_the_same_pair_from_both_origins_is_one() -> None:
    query, code = query_for("train"), words("both")
    found = separate([pair(query, code, "docstring"), pair(query.upper(), code, "feedback")], SETTINGS)
    assert [each.origin for each in found.kept] == ["feedback"]
    assert found.dropped["docstring"] == {"known from feedback": 1}


def test_what_is_held_out_includes_near_duplicates() -> None:
    from pipeline.training.near_duplicates import tokens_of

    tested, trained = words("tested"), words("trained")
    found = separate([pair(query_for("test"), tested), pair(query_for("train"), trained)], SETTINGS)
    copy = tested.replace(tested.split()[0], "renamed")
    assert found.is_held_out(b"unknown", tokens_of(copy))
    assert not found.is_held_out(b"unknown", tokens_of(trained))
    assert not found.is_held_out(b"unknown", tokens_of(words("other")))


def test_caps_keep_the_earlier_choice_as_documentation_grows() -> None:
    settings = SETTINGS.model_copy(
        update={
            "max_documentation_pairs": 40,
            "max_test_documentation_pairs": 20,
            "max_validation_documentation_pairs": 10,
        }
    )
    documented = [pair(f"documented {n}", words(n), "docstring") for n in range(400)]
    before = separate(documented[:300], settings)
    after = separate(documented, settings)
    for found in (before, after):
        counted = Counter(each.split for each in found.kept)
        assert counted == {"train": 40, "test": 20, "validation": 10}
    assert before.dropped["docstring"] == {"over the cap": 230}
    # A third more to choose from changes about a quarter, not everything.
    same = {each.content_hash for each in before.kept} & {each.content_hash for each in after.kept}
    assert len(same) > 40


def test_feedback_is_not_capped() -> None:
    settings = SETTINGS.model_copy(update={"max_documentation_pairs": 0})
    pairs = [pair(f"asked {n}", words(n)) for n in range(50)]
    assert len(separate(pairs, settings).kept) == 50
