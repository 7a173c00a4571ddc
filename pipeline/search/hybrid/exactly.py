"""The order in which searches rank, over a whole corpus in memory: exact, with no approximate index between.

What a search looks at for one query, its candidates, is found here among all texts. The others come after
them, in the order of their cosine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pipeline.index.verifying import plan_by_keys
from pipeline.search.hybrid.candidates import POOL, Candidate, as_candidates
from pipeline.search.hybrid.fusion import LATE, MEANING_ALONE, Weights, fused
from pipeline.search.hybrid.matching import matches, matches_of_texts
from pipeline.search.hybrid.words import QueryWords, query_words
from pipeline.store.connections import Connection


@dataclass(frozen=True)
class Replacement:
    """A text that stands in another's place for one query, and its vector, unit length, shape (dims,)."""

    text: str
    vector: NDArray[np.float32]


NOTHING: Mapping[int, Replacement] = MappingProxyType({})


class SearchOrder:
    """Gives every text of a corpus, for one query after another, what searches would order it by.

    Args:
        connection: In a transaction; planner settings hold until its end.
        hashes: The contents of the corpus.
        vectors: Theirs, unit length, shape (contents, dims).
        weights: What counts beside the cosine.
    """

    def __init__(
        self,
        connection: Connection,
        hashes: Sequence[bytes],
        vectors: NDArray[np.float32],
        weights: Weights,
    ) -> None:
        plan_by_keys(connection)
        self._connection = connection
        self._hashes = hashes
        self._position = {content_hash: position for position, content_hash in enumerate(hashes)}
        self._vectors = vectors
        self._weights = weights

    def rescoring(self, queries: Sequence[str]) -> Callable[[int, NDArray[np.float32]], NDArray[np.float64]]:
        """`rescored` for each of these queries, by its number, with its words as they are counted now."""
        return lambda number, cosines: self.rescored(query_words(self._connection, queries[number]), cosines)

    def rescored(
        self, words: QueryWords, cosines: NDArray[np.float32], instead: Mapping[int, Replacement] = NOTHING
    ) -> NDArray[np.float64]:
        """What each text is ordered by, the more the better; shape (contents,).

        Args:
            words: The query's.
            cosines: Of each text to the query, shape (contents,).
            instead: Positions at which another text stands for this query, whose cosine `cosines` has.
        """
        positions, candidates = self.candidates(words, cosines, instead)
        scores = cosines.astype(np.float64) - LATE
        scores[positions] = fused(candidates, self._weights)
        return scores

    def candidates(
        self, words: QueryWords, cosines: NDArray[np.float32], instead: Mapping[int, Replacement] = NOTHING
    ) -> tuple[list[int], list[Candidate]]:
        """What a search would look at, and where in the corpus each stands; arguments as for `rescored`."""
        near = _nearest(cosines, POOL)
        matched = matches(self._connection, words, None, near=[self._hashes[position] for position in near])
        if instead:
            own = matches_of_texts(self._connection, words, [each.text for each in instead.values()])
            matched |= {self._hashes[position]: match for position, match in zip(instead, own, strict=True)}
        found = set(near)
        rare = sorted(
            self._position[each] for each, its in matched.items() if its.has_rare and each in self._position
        )
        positions = [*near, *(position for position in rare if position not in found)]
        vectors = self._vectors[positions]
        for row, position in enumerate(positions):
            if position in instead:
                vectors[row] = instead[position].vector
        return positions, as_candidates(
            [self._hashes[position] for position in positions],
            [float(cosines[position]) for position in positions],
            vectors,
            matched,
            neighbours=len(near),
        )


def search_order(
    connection: Connection, hashes: Sequence[bytes], vectors: NDArray[np.float32], weights: Weights
) -> SearchOrder | None:
    """The order of searches under these weights; None where it is that of the cosines as they are."""
    return None if weights == MEANING_ALONE else SearchOrder(connection, hashes, vectors, weights)


def _nearest(cosines: NDArray[np.float32], count: int) -> list[int]:
    """The positions of the highest, the highest first."""
    count = min(count, len(cosines))
    chosen = np.argpartition(-cosines, count - 1)[:count]
    return [int(position) for position in chosen[np.argsort(-cosines[chosen], kind="stable")]]
