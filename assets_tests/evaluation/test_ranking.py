"""Exact ranks: against sorting, and the rules for items, ties and vectors that stand in for others."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation import ranking
from pipeline.evaluation.ranking import TIE, RankedQuery, Vectors, rank_items, rank_with_top


def unit(rows: Vectors) -> Vectors:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def random_unit(seed: int, count: int, dims: int = 24) -> Vectors:
    return unit(np.random.default_rng(seed).normal(size=(count, dims)).astype(np.float32))


def on_line(*scores: float) -> Vectors:
    """Unit vectors of two dimensions with these cosines to (1, 0)."""
    return np.array([[s, np.sqrt(1 - s * s)] for s in scores], dtype=np.float32)


QUERY = np.array([[1, 0]], dtype=np.float32)


def ranks_of(*items: tuple[int, ...], corpus: Vectors) -> list[int]:
    return rank_items([RankedQuery(items)], QUERY, corpus)[0].tolist()


@pytest.mark.parametrize("block", [8_000_000, 700])
def test_single_contents_rank_as_sorting_ranks_them(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_BLOCK", block)  # 700 scores at once: two queries
    corpus, queries = random_unit(1, 300), random_unit(2, 41)
    random = np.random.default_rng(3)
    wanted = [
        tuple((int(p),) for p in random.choice(300, random.integers(1, 6), replace=False)) for _ in queries
    ]
    done: list[int] = []
    found = rank_items([RankedQuery(items) for items in wanted], queries, corpus, advance=done.append)
    for query, items, ranks in zip(queries, wanted, found, strict=True):
        order = np.argsort(-(corpus @ query)).tolist()
        assert ranks.tolist() == sorted(order.index(item[0]) + 1 for item in items)
    assert sum(done) == 41


def test_an_item_is_hit_at_its_best_content_and_the_others_leave_the_ranking() -> None:
    corpus = on_line(0.9, 0.8, 0.7, 0.6, 0.5)
    # A file with the contents 0, 2, 3 is hit at once; content 4 then stands behind content 1 alone.
    assert ranks_of((0, 2, 3), (4,), corpus=corpus) == [1, 3]


def test_later_contents_of_a_file_do_not_push_others_down() -> None:
    corpus = on_line(0.9, 0.89, 0.88, 0.5)
    assert ranks_of((0, 1, 2), (3,), corpus=corpus) == [1, 2]


def test_one_content_that_answers_two_items_takes_a_place_for_each() -> None:
    corpus = on_line(0.9, 0.8, 0.7)
    assert ranks_of((1, 2), (1,), corpus=corpus) == [2, 3]


def test_a_tie_never_flatters() -> None:
    assert ranks_of((0,), corpus=on_line(0.5, 0.5, 0.5, 0.4)) == [3]
    assert ranks_of((2,), corpus=on_line(0.5, 0.5, 0.5, 0.4)) == [3]
    assert ranks_of((0,), corpus=on_line(0.5, 0.5 + 5e-7, 0.5 - 5e-7)) == [3]
    assert ranks_of((0,), corpus=on_line(0.5, 0.5 - 1e-5)) == [1]


def test_a_vector_that_stands_in_counts_for_one_query_only() -> None:
    corpus, extra = on_line(0.9, 0.8, 0.7), on_line(0.75)
    queries = [RankedQuery(((0,),), {0: 0}), RankedQuery(((0,),)), RankedQuery(((1,),))]
    found = rank_items(queries, np.repeat(QUERY, 3, axis=0), corpus, extra)
    assert [ranks.tolist() for ranks in found] == [[2], [1], [2]]


def test_the_whole_corpus_counts() -> None:
    scores = np.linspace(0.99, 0.01, 5000)
    assert ranks_of((4999,), (0,), (2500,), corpus=on_line(*scores)) == [1, 2501, 5000]


def test_what_stands_first_agrees_with_the_ranks() -> None:
    random = np.random.default_rng(3)
    corpus = unit_rows(random.normal(size=(60, 8)))
    queries = unit_rows(random.normal(size=(25, 8)))
    wanted = [RankedQuery(tuple((int(p),) for p in random.choice(60, 3, replace=False))) for _ in range(25)]
    found = rank_with_top(wanted, queries, corpus, top=10)
    assert [each.ranks.tolist() for each in found] == [
        each.tolist() for each in rank_items(wanted, queries, corpus)
    ]
    for query, one in zip(wanted, found, strict=True):
        relevant = {position for item in query.items for position in item}
        places = [place for place, each in enumerate(one.top, 1) if each in relevant]
        assert places == [rank for rank in one.ranks if rank <= 10]
        assert one.answer in relevant
        assert len(one.top) == 10


def test_of_an_item_only_its_best_content_stands_in_the_list_and_a_tie_comes_first() -> None:
    corpus = unit_rows(np.array([[1.0, 0.0], [0.9, 0.1], [1.0, TIE / 10], [0.0, 1.0]]))
    query = RankedQuery(((0, 1),))
    (one,) = rank_with_top([query], np.array([[1.0, 0.0]], dtype=np.float32), corpus, top=10)
    assert (one.top, one.answer, one.ranks.tolist()) == ((2, 0, 3), 0, [2])


def unit_rows(rows: np.ndarray) -> Vectors:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
