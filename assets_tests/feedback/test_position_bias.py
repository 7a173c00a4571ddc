"""Position bias: a known one is recovered from simulated clicks; too few are refused, with what lacks."""

from __future__ import annotations

from bisect import bisect

import numpy as np
import pytest

from pipeline.feedback.confidence import BY_THE_TABLE
from pipeline.feedback.position_bias import PositionBias, Shown, estimate_position_bias

KNOWN = np.array([1, 0.8, 0.62, 0.5, 0.42, 0.35, 0.3, 0.26, 0.23, 0.2])


def simulated(queries: int, seed: int, *, known: np.ndarray = KNOWN, people: int = 50) -> list[Shown]:
    """Clicks of the position-based model: each query is asked twice, of two models that rank a little
    differently.

    What is relevant stands nearer to the top, as it should: an estimate that only counted clicks by rank
    would take that for position bias.
    """
    random = np.random.default_rng(seed)
    rows: list[Shown] = []
    for query in range(queries):
        relevance = random.beta(1, 2, len(known))
        liking = relevance + random.normal(size=len(known)) * 0.3
        for _ in range(2):
            order = np.argsort(-(liking + random.normal(size=len(known)) * 0.3))
            person = f"person {random.integers(people)}"
            for rank, snippet in enumerate(order, start=1):
                clicked = random.random() < known[rank - 1] * relevance[snippet]
                rows.append(Shown(f"query {query}", int(snippet), rank, person, 1, int(clicked)))
    return rows


def halves_shuffled(queries: int, seed: int, *, linked: int) -> list[Shown]:
    """The second ranking shuffles ranks 1–5 and 6–10 of the first, but swaps 5 and 6 for `linked` queries."""
    random = np.random.default_rng(seed)
    rows: list[Shown] = []
    for query in range(queries):
        relevance = random.beta(1, 2, len(KNOWN))
        order = np.concatenate([random.permutation(5), 5 + random.permutation(5)])
        if query < linked:
            order = np.array([0, 1, 2, 3, 5, 4, 6, 7, 8, 9])
        rows += clicked(query, np.arange(10), relevance, random) + clicked(query, order, relevance, random)
    return rows


def neighbours_swapped(queries: int, seed: int) -> list[Shown]:
    """The second ranking swaps ranks 1 and 2, 3 and 4, …; for every other query 2 and 3, 4 and 5, …"""
    random = np.random.default_rng(seed)
    swaps = [np.array([1, 0, 3, 2, 5, 4, 7, 6, 9, 8]), np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 9])]
    rows: list[Shown] = []
    for query in range(queries):
        relevance = random.beta(1, 2, len(KNOWN))
        rows += clicked(query, np.arange(10), relevance, random)
        rows += clicked(query, swaps[query % 2], relevance, random)
    return rows


def clicked(query: int, order: np.ndarray, relevance: np.ndarray, random: np.random.Generator) -> list[Shown]:
    """One search that showed the snippets in that order, to one of fifty people."""
    person = f"person {random.integers(50)}"
    chances = KNOWN * relevance[order]
    return [
        Shown(f"query {query}", int(snippet), rank, person, 1, int(chosen))
        for rank, (snippet, chosen) in enumerate(
            zip(order, random.random(len(order)) < chances, strict=True), start=1
        )
    ]


def estimate(rows: list[Shown], *, min_clicks: int = 200, max_share: float = 0.5) -> PositionBias:
    return estimate_position_bias(rows, max_rank=10, min_ranks=6, min_clicks=min_clicks, max_share=max_share)


def worst_error(bias: PositionBias, known: np.ndarray = KNOWN) -> float:
    found = np.array(bias.examination.by_rank)
    return float(np.abs(found - known[: len(found)]).max())


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_a_known_bias_is_recovered_within_015_from_just_enough_and_within_01_from_thrice_as_much(
    seed: int,
) -> None:
    rows = simulated(6000, seed)  # those of fewer queries are the first of them

    def of(queries: int) -> PositionBias:
        return estimate(rows[: 20 * queries])

    sizes = range(400, 2100, 100)
    few = sizes[bisect(sizes, False, key=lambda queries: not of(queries).missing)]
    assert of(few - 100).missing
    just_enough = of(few)
    assert just_enough.examination.estimated
    assert min(just_enough.evidence[:6]) >= 200
    assert min(just_enough.evidence) < 300  # it is not much more than enough
    assert worst_error(just_enough) < 0.15
    many = of(3 * few)
    assert len(many.examination.by_rank) > 6
    assert worst_error(many) < 0.1


def test_another_bias_gives_another_estimate() -> None:
    flat = np.full(10, 0.9)
    assert worst_error(estimate(simulated(1500, 4, known=flat)), np.ones(10)) < 0.15
    steep = 1 / np.arange(1, 11) ** 0.8
    assert worst_error(estimate(simulated(4000, 4, known=steep)), steep) < 0.1


def test_clicks_by_rank_alone_would_be_wrong() -> None:
    """What stands at the top is more relevant: the share of clicks falls faster than the bias does."""
    rows = simulated(3000, 5)
    by_rank = np.array([np.mean([row.chosen for row in rows if row.rank == rank]) for rank in range(1, 11)])
    assert np.abs(by_rank / by_rank[0] - KNOWN).max() > 0.15
    assert worst_error(estimate(rows)) < 0.1


def test_too_little_is_refused_with_what_each_rank_lacks() -> None:
    bias = estimate(simulated(300, 1))
    assert bias.examination is BY_THE_TABLE
    assert set(bias.missing) <= set(range(1, 7))
    assert 6 in bias.missing
    for rank, missing in bias.missing.items():
        assert missing == int(np.ceil(200 - bias.evidence[rank - 1] - 0.005))
    assert estimate([]).missing == dict.fromkeys(range(1, 7), 200)


def test_what_was_shown_at_one_rank_only_says_nothing() -> None:
    fixed = [
        Shown(f"query {query}", rank, rank, f"person {query}", 1, 1)
        for query in range(500)
        for rank in range(1, 11)
    ]
    bias = estimate(fixed)
    assert bias.comparable == 0
    assert not bias.examination.estimated


def test_ranks_that_no_snippet_links_to_the_top_are_not_compared_with_it() -> None:
    apart = [
        Shown(f"query {query} {first}", 1, rank, f"person {query}", 1, 1)
        for query in range(300)
        for first in (1, 4)
        for rank in (first, first + 1, first + 2)
    ]
    bias = estimate(apart)
    assert not bias.examination.estimated
    assert bias.missing == {4: 200}


def test_a_few_snippets_that_link_lower_ranks_to_the_top_do_not_decide_how_they_compare() -> None:
    """Much moves within ranks 1 to 5 and within 6 to 10; next to nothing from one half to the other."""
    bias = estimate(halves_shuffled(3000, 1, linked=5))
    assert not bias.examination.estimated
    assert set(bias.missing) == {6}
    assert bias.missing[6] >= 195
    # With enough of them the estimate is there, and right.
    assert worst_error(estimate(halves_shuffled(5000, 1, linked=2500))) < 0.1


@pytest.mark.slow
def test_two_rankings_that_swap_neighbours_converge_to_the_known_bias() -> None:
    """As when one model replaces another: the same queries, with neighbours the other way round."""
    few, enough, many = (estimate(neighbours_swapped(count, 2)) for count in (1500, 5000, 10_000))
    assert few.examination is BY_THE_TABLE
    assert min(few.evidence[:6]) < 200
    assert all(bias.examination.estimated for bias in (enough, many))
    assert worst_error(enough) < 0.15
    assert worst_error(many) < 0.1
    assert len(many.examination.by_rank) == 10


def test_the_same_search_repeated_by_a_script_adds_nothing() -> None:
    rows = simulated(800, 6)
    repeated = [
        Shown(row.query, row.snippet_id, row.rank, row.person, 1000 * row.shown, 1000 * row.chosen)
        for row in rows
    ]
    assert estimate(repeated) == estimate(rows)


def test_one_person_with_thousands_of_searches_does_not_decide() -> None:
    honest = simulated(3000, 7)
    # A script that clicks only what stands at rank 6, for thousands of queries.
    script = [
        Shown(f"script {query}", snippet, rank, "script", 1, int(rank == 6))
        for query in range(6000)
        for snippet, ranks in ((1, (1, 6)), (2, (2, 6)), (3, (3, 6)))
        for rank in ranks
    ]
    capped = estimate([*honest, *script], max_share=0.05)
    uncapped = estimate([*honest, *script], max_share=1.0)
    assert capped.examination.estimated
    assert worst_error(capped) < 0.2
    assert worst_error(uncapped) > 0.5


def test_the_order_of_rows_makes_no_difference() -> None:
    rows = simulated(800, 8)
    assert estimate(rows) == estimate(rows[::-1])
