"""Exact ranks over the whole corpus: no approximate index, nothing sampled, memory bounded.

What is ranked is distinct contents. A relevant *item* is a set of contents any of which answers the query:
one content for a test pair, all snippets of a file for a file named in a queries file. Rules:

- an item is hit at its best-scored content; its other contents leave the ranking, so that they neither help
  nor push anything down;
- one content that is the best of two items takes a place for each, since two items never share a rank;
- a content of no item that scores as high as an item stands before it: a tie never flatters. Scores closer
  than `TIE` are a tie, since the last bits of a float32 dot product depend on how the matrix was cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.progress import Advance

TIE = 1e-6
_BLOCK = 8_000_000  # scores held in memory at once: 32 MB

Vectors = NDArray[np.float32]
Scores = NDArray[np.float32] | NDArray[np.float64]
# Given the query's number and the cosines of all contents, shape `(contents,)`: what to rank them by instead.
Rescore = Callable[[int, NDArray[np.float32]], Scores]


@dataclass(frozen=True)
class RankedQuery:
    """What one query looks for.

    Attributes:
        items: For each relevant item the positions of its contents in the corpus; none is empty.
        instead: Positions in the corpus whose vector is, for this query alone, another: the row in `extra`.
    """

    items: tuple[tuple[int, ...], ...]
    instead: Mapping[int, int] = field(default_factory=dict[int, int])


@dataclass(frozen=True)
class Ranking:
    """How one query ranked the corpus.

    Attributes:
        ranks: Of its items, from 1 and ascending.
        answer: The position of the best content of the item that stands first.
        top: The positions of the contents that stand first, best first, by the rules above.
    """

    ranks: NDArray[np.int64]
    answer: int
    top: tuple[int, ...]


def rank_items(
    queries: Sequence[RankedQuery],
    query_vectors: Vectors,
    corpus: Vectors,
    extra: Vectors | None = None,
    advance: Advance | None = None,
    *,
    rescore: Rescore | None = None,
) -> list[NDArray[np.int64]]:
    """The ranks, from 1 and ascending, of every query's items.

    Args:
        queries: What each query looks for.
        query_vectors: Shape `(queries, dims)`, unit norm.
        corpus: Shape `(contents, dims)`, unit norm.
        extra: Shape `(m, dims)`, unit norm: the vectors that `instead` refers to.
        advance: Told how many more queries are ranked.
        rescore: Ranks by something else than the cosine; within 1e-6 it is a tie all the same.
    """
    return [
        _ranks(scores, query.items)
        for query, scores in _scored(queries, query_vectors, corpus, extra, advance, rescore=rescore)
    ]


def rank_with_top(
    queries: Sequence[RankedQuery],
    query_vectors: Vectors,
    corpus: Vectors,
    extra: Vectors | None = None,
    advance: Advance | None = None,
    *,
    rescore: Rescore | None = None,
    top: int,
) -> list[Ranking]:
    """`rank_items`, with the `top` contents that stand first under each query."""
    rankings: list[Ranking] = []
    for query, scores in _scored(queries, query_vectors, corpus, extra, advance, rescore=rescore):
        answer, first = _top(scores, query.items, top)
        rankings.append(Ranking(_ranks(scores, query.items), answer, first))
    return rankings


def _scored(
    queries: Sequence[RankedQuery],
    query_vectors: Vectors,
    corpus: Vectors,
    extra: Vectors | None,
    advance: Advance | None,
    *,
    rescore: Rescore | None,
) -> Iterator[tuple[RankedQuery, Scores]]:
    """Each query with its scores, shape `(contents,)`, which the caller may overwrite."""
    rows = max(1, _BLOCK // max(1, len(corpus)))
    transposed = corpus.T
    for start in range(0, len(queries), rows):
        block = queries[start : start + rows]
        vectors = query_vectors[start : start + rows]
        scores = vectors @ transposed
        for row, query in enumerate(block):
            for position, other in query.instead.items():
                if extra is None:
                    raise ValueError("a query refers to `extra` vectors, and there are none")
                scores[row, position] = vectors[row] @ extra[other]
            yield query, scores[row] if rescore is None else rescore(start + row, scores[row])
        if advance is not None:
            advance(len(block))


def _top(scores: Scores, items: Sequence[Sequence[int]], count: int) -> tuple[int, tuple[int, ...]]:
    """The best content of the first item, and the first `count` contents of all; `scores` stay."""
    best = [max(item, key=lambda position: (scores[position], -position)) for item in items]
    answer = max(best, key=lambda position: (scores[position], -position))
    shown = scores.copy()
    shown[[position for item in items for position in item]] = -np.inf
    # After everything it ties with, as its rank says.
    shown[best] = scores[best] - scores.dtype.type(TIE)
    count = min(count, len(shown) - int(np.count_nonzero(np.isneginf(shown))))
    nearest = np.argpartition(-shown, count - 1)[:count] if count else np.empty(0, dtype=np.int64)
    relevant = set(best)
    ordered = sorted(
        (int(position) for position in nearest), key=lambda p: (-float(shown[p]), p in relevant, p)
    )
    return answer, tuple(ordered)


def _ranks(scores: Scores, items: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """The ranks of `items` under one query's `scores`, which are overwritten where an item stands."""
    best = np.sort(np.array([scores[list(item)].max() for item in items], dtype=scores.dtype))[::-1]
    scores[[position for item in items for position in item]] = -np.inf
    # Only what may stand before the worst item matters; sorting those alone answers for all items at once.
    above = np.sort(scores[scores >= best[-1] - TIE])
    before = len(above) - np.searchsorted(above, best - scores.dtype.type(TIE), side="left")
    return (before + np.arange(1, len(best) + 1)).astype(np.int64)
