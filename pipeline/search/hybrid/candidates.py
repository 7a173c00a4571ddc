"""What may come to the top by meaning or by words: the nearest texts, and those with a rare word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import sql

from pipeline.index.serving import ServingIndex
from pipeline.index.tables import to_unit_length
from pipeline.search.filters import Filters
from pipeline.search.hybrid.crowding import crowding
from pipeline.search.hybrid.matching import Match, matches
from pipeline.search.hybrid.words import query_words
from pipeline.search.nearest import nearest
from pipeline.store.connections import Connection

# As many of the nearest texts are ranked by their words, too. The nearest k alone could not let a text in.
POOL = 100


@dataclass(frozen=True)
class Candidate:
    """A text that may be shown.

    Args:
        content_hash: Which.
        cosine: Similarity to the query, from -1 to 1.
        words: What its words score by BM25, as a share of the most that any text could score; from 0 to 1.
        crowding: Mean cosine to its nearest neighbours among the nearest `POOL`, from -1 to 1.
        always: Whether it is a candidate however few are asked for: one of the nearest `POOL`, or one with a
            rare word.
    """

    content_hash: bytes
    cosine: float
    words: float
    crowding: float
    always: bool = True


def find_candidates(
    connection: Connection,
    serving: ServingIndex,
    vector: NDArray[np.float32],
    query: str,
    *,
    k: int,
    filters: Filters,
    ef_search: int,
) -> list[Candidate]:
    """The nearest texts, at least k and `POOL` of them if so many pass, then those that have a rare word.

    All that is done is bounded by these numbers, not by the size of the corpus.

    Args:
        connection: In a transaction of the search's own.
        serving: The index.
        vector: The query, embedded by the index's model version; shape (dims,).
        query: Its text.
        k: How many results are wanted.
        filters: Which snippets come into question.
        ef_search: Breadth of the HNSW search, at the least.
    """
    near = nearest(
        connection,
        serving,
        serving.model_version,
        vector,
        k=k,
        filters=filters,
        ef_search=ef_search,
        at_least=POOL,
    )
    matched = matches(
        connection, query_words(connection, query), filters, near=[each.content_hash for each in near]
    )
    cosines, vectors = _stored(connection, serving, vector, list(matched))
    # Outside of one snapshot, a text may leave the index under way; one with a rare word may not be in it.
    order = [each.content_hash for each in near if each.content_hash in cosines]
    neighbours = min(len(order), POOL)
    order += sorted(cosines.keys() - set(order))
    if not order:
        return []
    stacked = to_unit_length(np.stack([vectors[each] for each in order]))
    return as_candidates(order, [cosines[each] for each in order], stacked, matched, neighbours=neighbours)


def as_candidates(
    order: Sequence[bytes],
    cosines: Sequence[float],
    vectors: NDArray[np.float32],
    matched: Mapping[bytes, Match],
    *,
    neighbours: int,
) -> list[Candidate]:
    """The candidates of one query.

    Args:
        order: Contents, the nearest first, then those that only have a rare word.
        cosines: Of each to the query.
        vectors: Of each, unit length, shape (n, dims).
        matched: How the words of each match.
        neighbours: How many of the first are the nearest `POOL`.
    """
    places = np.arange(len(order))
    crowded = crowding(vectors, vectors[:neighbours], np.where(places < neighbours, places, -1))
    return [
        Candidate(content_hash, cosine, its.share, float(crowd), place < neighbours or its.has_rare)
        for place, (content_hash, cosine, crowd) in enumerate(zip(order, cosines, crowded, strict=True))
        for its in [matched[content_hash]]
    ]


def _stored(
    connection: Connection, serving: ServingIndex, query: NDArray[np.float32], hashes: Sequence[bytes]
) -> tuple[dict[bytes, float], dict[bytes, NDArray[np.float32]]]:
    """Cosine to the query, and vector, of those of the contents that the index holds."""
    rows = connection.execute(
        sql.SQL(
            "SELECT content_hash, 1 - (embedding <=> %s), embedding FROM {} WHERE content_hash = ANY(%s)"
        ).format(serving.table.identifier),
        [HalfVector(query), list(hashes)],
        prepare=False,
        binary=True,
    ).fetchall()
    return (
        {content_hash: cosine for content_hash, cosine, _ in rows},
        {content_hash: vector.to_numpy().astype(np.float32) for content_hash, _, vector in rows},
    )
