"""Planted copies: across the splits, in groups, as negatives; and what is like them but no copy."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from assets_tests.training.standard_library import functions, named
from pipeline.config import Settings
from pipeline.feedback.grouping import group_key
from pipeline.training.copies import copy_groups
from pipeline.training.near_duplicates import are_near_duplicates, shape_of, tokens_of
from pipeline.training.pairs import Candidate, Negative, Origin, Pair, Split
from pipeline.training.soundness import no_leakage
from pipeline.training.splits import separate, split_of
from pipeline.training.training_set import TrainingSet

SETTINGS = Settings()
ORIGINAL = named("insort_right").undocumented or ""


def renamed(code: str) -> str:
    """All of its variables, and itself, have other names."""
    for number, name in enumerate(("insort_right", "a", "x", "lo", "hi")):
        code = re.sub(rf"\b{name}\b(?!\()|(?<=def ){name}\b", f"name_{number}", code)
    return code


def reformatted(code: str) -> str:
    """Every line break and space is elsewhere."""
    return re.sub(r"\s*([(),:=])\s*", r" \1\n        ", code)


def commented(code: str) -> str:
    """It was moved below a comment that says something else now."""
    return "# Kept for compatibility.\n" + code


COPIES: dict[str, Callable[[str], str]] = {
    "exact": lambda code: code,
    "renamed": renamed,
    "reformatted": reformatted,
    "moved, with another comment": commented,
    "all at once": lambda code: commented(reformatted(renamed(code))),
}


def query_for(split: Split, words: str) -> str:
    return next(f"{words} {n}" for n in range(9999) if split_of(f"{words} {n}", SETTINGS) == split)


def candidate(query: str, code: str, origin: Origin) -> Candidate:
    return Candidate(
        origin=origin,
        query=query,
        group_key=group_key(query),
        split=split_of(query, SETTINGS),
        content_hash=group_key(f"{query}\0{code}"),  # another content, whatever the code
        text=code,
        code=code,
        weight=0.9,
        language="python",
    )


@pytest.mark.parametrize("origin", ["feedback", "docstring", "commit"])
@pytest.mark.parametrize("how", COPIES)
def test_a_planted_copy_does_not_stand_on_two_sides(how: str, origin: Origin) -> None:
    copy = COPIES[how](ORIGINAL)
    found = separate(
        [
            candidate(query_for("train", "keep things in order"), copy, origin),
            candidate(query_for("test", "put into its place"), ORIGINAL, origin),
        ],
        SETTINGS,
    )
    assert [each.split for each in found.kept] == ["test"]
    assert found.dropped[origin] == {"near-duplicate on another side": 1}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_that_got_in_anyway_is_noticed(how: str) -> None:
    def pair(number: int, query: str, code: str) -> Pair:
        return Pair(
            id=number,
            split=split_of(query, SETTINGS),
            origin="docstring",
            query=query,
            positive_hash=bytes([number]) * 32,
            positive_text=code,
            weight=1.0,
            language="python",
            group_key=group_key(query),
        )

    one = pair(1, query_for("train", "keep things in order"), COPIES[how](ORIGINAL))
    other = pair(2, query_for("validation", "put into its place"), ORIGINAL)
    problems = no_leakage(TrainingSet(1, "f", "p", "m", {}, (one, other)))
    assert len(problems) == 1
    assert "near-duplicate" in problems[0]


def test_queries_spelt_alike_since_their_secrets_were_taken_out_are_two() -> None:
    def pair(number: int, split: Split, code: str) -> Pair:
        return Pair(
            id=number,
            split=split,
            origin="docstring",
            query="Signs in at the server as REDACTED says",
            positive_hash=bytes([number]) * 32,
            positive_text=code,
            weight=1.0,
            language="python",
            group_key=bytes([number]) * 32,  # of what each said with its secret
        )

    one, other = pair(1, "train", ORIGINAL), pair(2, "test", named("shuffle").undocumented or "")
    assert no_leakage(TrainingSet(1, "f", "p", "m", {}, (one, other))) == []
    same = replace(other, group_key=one.group_key)
    assert len(no_leakage(TrainingSet(1, "f", "p", "m", {}, (one, same)))) == 1


def test_what_looks_alike_is_no_copy() -> None:
    def called(name: str) -> str:
        return "def f(a, b):\n" + "".join(f"    a.{name}_{n}(b, {n})\n" for n in range(9)) + "    return a\n"

    assert shape_of(called("add")) == shape_of(called("add").replace("b", "other").replace("def f", "def g"))
    assert shape_of(called("add")) != shape_of(called("remove"))
    assert not are_near_duplicates(tokens_of(called("add")), tokens_of(called("remove")))
    # Too little to tell a shape by, and words that are no code.
    assert shape_of("def f(self):\n    return self.x") == ""
    assert shape_of("many different words in a row " * 9) == ""
    assert not are_near_duplicates(tokens_of(ORIGINAL), tokens_of(named("bisect_right").undocumented or ""))
    assert not are_near_duplicates(tokens_of("return a + b"), tokens_of("return x * y"))


@pytest.mark.parametrize("origin", ["docstring", "commit"])
def test_words_all_but_the_same_do_not_stand_on_two_sides(origin: Origin) -> None:
    asked = "insert an item into a sorted list and keep it sorted"
    others = (
        query
        for word in ("one", "the", "each", "some", "any", "every", "another", "this", "that", "single")
        if split_of(query := asked.replace("an item", f"{word} item"), SETTINGS) != split_of(asked, SETTINGS)
    )
    near = next(others)
    codes = [named("insort_right").text, named("median").text]
    pairs = [candidate(query, code, origin) for query, code in zip([asked, near], codes, strict=True)]
    found = separate(pairs, SETTINGS)
    assert len(found.kept) == 1
    assert found.dropped[origin] == {"near-identical words on another side": 1}
    # What people typed is never dropped for its words.
    judged = [candidate(query, code, "feedback") for query, code in zip([asked, near], codes, strict=True)]
    assert len(separate(judged, SETTINGS).kept) == 2


def test_copies_share_a_group_and_nothing_else_does() -> None:
    codes = {how.encode(): change(ORIGINAL) for how, change in COPIES.items()}
    plain = {function.hash: function.undocumented or function.text for function in functions()[:60]}
    others = {
        content_hash: code
        for content_hash, code in plain.items()
        if not any(are_near_duplicates(tokens_of(code), tokens_of(copy)) for copy in codes.values())
    }
    groups = copy_groups(codes | others)
    assert {groups[each] for each in codes} == {min(codes)}
    for one, code in others.items():
        for other, its_code in others.items():
            alike = are_near_duplicates(tokens_of(code), tokens_of(its_code))
            assert not alike or groups[one] == groups[other]
    assert len({groups[each] for each in others}) > 50
    assert not {groups[each] for each in others} & codes.keys()
    assert copy_groups({b"a": "", b"b": "+ -"}) == {b"a": b"a", b"b": b"b"}


def test_a_pair_spares_the_copies_of_its_answers() -> None:
    pair = Pair(
        *(1, "train", "commit", "q", b"p", "code", 0.5, "python", b"g"), spared=frozenset({b"other answer"})
    )
    assert pair.spares(pair.group)
    assert pair.spares(b"other answer")
    assert not pair.spares(Negative(b"n", "code", "mined", 0.5, 0.4).group)
    assert pair.spares(Negative(b"n", "code", "mined", 0.5, 0.4, copy_group=b"other answer").group)
