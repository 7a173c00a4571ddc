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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.progress import Advance

TIE = 1e-6
_BLOCK = 8_000_000  # scores held in memory at once: 32 MB

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class RankedQuery:
    """What one query looks for.

    Attributes:
        items: For each relevant item the positions of its contents in the corpus; none is empty.
        instead: Positions in the corpus whose vector is, for this query alone, another: the row in `extra`.
    """

    items: tuple[tuple[int, ...], ...]
    instead: Mapping[int, int] = field(default_factory=dict[int, int])


def rank_items(
    queries: Sequence[RankedQuery],
    query_vectors: Vectors,
    corpus: Vectors,
    extra: Vectors | None = None,
    advance: Advance | None = None,
) -> list[NDArray[np.int64]]:
    """The ranks, from 1 and ascending, of every query's items.

    Args:
        queries: What each query looks for.
        query_vectors: Shape `(queries, dims)`, unit norm.
        corpus: Shape `(contents, dims)`, unit norm.
        extra: Shape `(m, dims)`, unit norm: the vectors that `instead` refers to.
        advance: Told how many more queries are ranked.
    """
    ranks: list[NDArray[np.int64]] = []
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
            ranks.append(_ranks(scores[row], query.items))
        if advance is not None:
            advance(len(block))
    return ranks


def _ranks(scores: NDArray[np.float32], items: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """The ranks of `items` under one query's `scores`, which are overwritten where an item stands."""
    best = np.sort(np.array([scores[list(item)].max() for item in items], dtype=np.float32))[::-1]
    scores[[position for item in items for position in item]] = -np.inf
    # Only what may stand before the worst item matters; sorting those alone answers for all items at once.
    above = np.sort(scores[scores >= best[-1] - TIE])
    before = len(above) - np.searchsorted(above, best - np.float32(TIE), side="left")
    return (before + np.arange(1, len(best) + 1)).astype(np.int64)
