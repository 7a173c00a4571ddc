"""What counts as a near-duplicate, and that none is missed among real code."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from assets_tests.training.standard_library import functions, named
from pipeline.training.near_duplicates import NearDuplicates, are_near_duplicates, overlap, tokens_of

CODE = """\
def merge_intervals(intervals, gap=0):
    ordered = sorted(intervals)
    merged = [ordered[0]]
    for start, end in ordered[1:]:
        if start <= merged[-1][1] + gap:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
"""


@pytest.mark.parametrize(
    "other",
    [
        CODE,
        CODE.replace("merge_intervals", "join_ranges"),
        CODE.replace("ordered", "by_start"),
        CODE.replace("    ", "\t").replace("\n", "\n\n"),
        CODE.replace("    return", "    # all of them\n    return"),
        CODE.replace("gap=0", "gap: int = 0").replace(" + gap", " + gap + 1"),
    ],
)
def test_details_make_no_difference(other: str) -> None:
    assert are_near_duplicates(tokens_of(CODE), tokens_of(other))


def test_other_code_is_other_code() -> None:
    median, mode = named("median"), named("mode")
    assert not are_near_duplicates(tokens_of(median.text), tokens_of(mode.text))
    assert not are_near_duplicates(tokens_of(CODE), tokens_of(median.text))


def test_how_often_a_token_stands_there_counts() -> None:
    assert not are_near_duplicates(tokens_of("a b c"), tokens_of("a b c " + "c " * 10))
    assert overlap(Counter("aab"), Counter("abb")) == (1.0, 0.5)


def test_texts_without_tokens_are_like_nothing() -> None:
    known: NearDuplicates[str] = NearDuplicates()
    known.add("empty", tokens_of("{ } ;"))
    assert list(known.of(tokens_of("+-"))) == []
    assert not are_near_duplicates(tokens_of(""), tokens_of(""))
    assert len(known) == 1


def test_the_index_finds_what_comparing_all_with_all_finds() -> None:
    texts = {f"{function.path}:{function.symbol}": function.text for function in functions()}
    # Planted: every third with a name changed, so that there is much to find.
    for key in list(texts)[::3]:
        name = key.split(":")[1].split("#")[0]
        texts[f"copy of {key}"] = re.sub(rf"\b{name}\b", "renamed", texts[key]) + "\n# copied"
    tokens = {key: tokens_of(text) for key, text in texts.items()}
    known: NearDuplicates[str] = NearDuplicates()
    for key, each in tokens.items():
        known.add(key, each)
    expected = {
        (one, other) for one in tokens for other in tokens if are_near_duplicates(tokens[one], tokens[other])
    }
    assert {(one, other) for one in tokens for other in known.of(tokens[one])} == expected
    assert len(expected) > len(texts) * 4 / 3
