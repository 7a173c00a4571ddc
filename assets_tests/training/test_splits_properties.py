"""The splits for any queries and any code: they never move, never leak, and do not ask in which order."""

from __future__ import annotations

from hypothesis import strategies as st

from assets_tests.properties import few_or_many, holds
from assets_tests.training.test_splits import SETTINGS, pair, words
from pipeline.config import Settings
from pipeline.feedback.grouping import group_key, normalise_query
from pipeline.training.near_duplicates import NearDuplicates, tokens_of, words_of
from pipeline.training.pairs import Candidate, Origin, Split
from pipeline.training.splits import separate, split_of

QUERIES = st.text(max_size=60)
ORIGINS = st.sampled_from(["feedback", "docstring", "commit"])
# Few codes and few queries, so that the same ones meet often; some of either are nearly others.
CODES = st.builds(
    lambda seed, renamed: words(seed).replace(words(seed).split()[2], f"other_{renamed}" if renamed else "_"),
    st.integers(0, 12),
    st.integers(0, 2),
)
ASKED = st.builds(
    lambda number, end: f"question number {number}{end}", st.integers(0, 30), st.sampled_from("?. ")
)
CANDIDATES = st.lists(st.builds(pair, st.one_of(QUERIES, ASKED), CODES, ORIGINS), max_size=25)
AGAIN = Settings()
SMALL_CAPS = SETTINGS.model_copy(
    update={
        "max_documentation_pairs": 3,
        "max_test_documentation_pairs": 2,
        "max_validation_documentation_pairs": 1,
        "max_commit_pairs": 3,
        "max_test_commit_pairs": 2,
        "max_validation_commit_pairs": 1,
    }
)


@few_or_many(200, 20_000)
def test_a_query_has_one_side_however_it_is_spelt(examples: int) -> None:
    @holds(examples, QUERIES, st.sampled_from([" ", "\t", "\n  ", "\u2003"]))
    def check(query: str, space: str) -> None:
        side = split_of(query, SETTINGS)
        assert side == split_of(query, AGAIN)
        assert split_of(space + query + space, SETTINGS) == side
        assert split_of(normalise_query(query), SETTINGS) == side
        assert normalise_query(normalise_query(query)) == normalise_query(query)


@few_or_many(150, 5_000)
def test_a_larger_share_only_takes_in(examples: int) -> None:
    # What tests with a smaller share tests with a larger one: raising it moves nothing out of the test side.
    @holds(examples, QUERIES, st.integers(1, 44), st.integers(1, 44))
    def check(query: str, one: int, other: int) -> None:
        smaller, larger = (
            split_of(query, SETTINGS.model_copy(update={"test_percent": percent}))
            for percent in sorted((one, other))
        )
        assert smaller != "test" or larger == "test"


@few_or_many(60, 3_000)
def test_nothing_stands_on_two_sides(examples: int) -> None:
    @holds(examples, CANDIDATES, st.sampled_from([SETTINGS, SMALL_CAPS]))
    def check(candidates: list[Candidate], settings: Settings) -> None:
        found = separate(candidates, settings)
        sides: dict[bytes, Split] = {}
        codes: dict[Split, NearDuplicates[bytes]] = {}
        for each in found.kept:
            assert each.split == split_of(each.query, settings)
            assert sides.setdefault(each.content_hash, each.split) == each.split
            codes.setdefault(each.split, NearDuplicates()).add(each.content_hash, tokens_of(each.code))
        for each in found.kept:
            assert not any(
                list(of_side.of(tokens_of(each.code)))
                for side, of_side in codes.items()
                if side != each.split
            )
        asked = [(each.group_key, each.content_hash) for each in found.kept]
        assert len(asked) == len(set(asked))
        dropped = sum(sum(reasons.values()) for reasons in found.dropped.values())
        assert len(found.kept) + dropped == len(candidates)


@few_or_many(60, 3_000)
def test_what_documentation_says_is_asked_on_no_other_side(examples: int) -> None:
    @holds(examples, CANDIDATES)
    def check(candidates: list[Candidate]) -> None:
        kept = separate(candidates, SETTINGS).kept
        for each in kept:
            if each.origin == "feedback":
                continue
            others: NearDuplicates[bytes] = NearDuplicates()
            for other in kept:
                if other.split != each.split:
                    others.add(other.group_key, words_of(normalise_query(other.query)))
            assert not list(others.of(words_of(normalise_query(each.query))))


@few_or_many(60, 3_000)
def test_the_order_they_come_in_decides_nothing(examples: int) -> None:
    @holds(examples, CANDIDATES.flatmap(lambda those: st.tuples(st.just(those), st.permutations(those))))
    def check(orders: tuple[list[Candidate], list[Candidate]]) -> None:
        one, other = (separate(order, SMALL_CAPS) for order in orders)
        assert _pairs(one.kept) == _pairs(other.kept)
        assert one.dropped == other.dropped


def _pairs(kept: tuple[Candidate, ...]) -> list[tuple[Origin, bytes, bytes]]:
    return [(each.origin, group_key(each.query), each.content_hash) for each in kept]
