"""What may come to the top by meaning or by words: the nearest texts, and those with a rare word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import sql

from pipeline.index.serving import ServingIndex
from pipeline.index.tables import to_unit_length
from pipeline.search.filters import Filters
from pipeline.search.hybrid.crowding import crowding
from pipeline.search.hybrid.words import QueryWords, query_words
from pipeline.search.nearest import nearest
from pipeline.store.connections import Connection

# As many of the nearest texts are ranked by their words, too. The nearest k alone could not let a text in.
POOL = 100
# Of BM25; Robertson & Zaragoza 2009, section 3.4: how soon repetition stops to count, and how much length
# does. The customary values.
K1 = 1.2
B = 0.75


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
    words = query_words(connection, query)
    scored = _scored(
        connection, serving, words, filters, query=vector, near=[each.content_hash for each in near]
    )
    # Outside of one snapshot, a text may leave the index under way.
    order = [each.content_hash for each in near if each.content_hash in scored]
    neighbours = min(len(order), POOL)
    order += sorted(scored.keys() - set(order))
    if not order:
        return []
    stored = [scored[content_hash].vector.to_numpy() for content_hash in order]
    vectors = to_unit_length(np.stack(stored).astype(np.float32))
    places = np.arange(len(order))
    crowded = crowding(vectors, vectors[:neighbours], np.where(places < neighbours, places, -1))
    return [
        Candidate(content_hash, its.cosine, its.words, float(crowd), place < neighbours or its.has_rare)
        for place, (content_hash, crowd) in enumerate(zip(order, crowded, strict=True))
        for its in [scored[content_hash]]
    ]


class _Scored(NamedTuple):
    cosine: float
    words: float
    vector: HalfVector
    has_rare: bool


def _scored(
    connection: Connection,
    serving: ServingIndex,
    words: QueryWords,
    filters: Filters,
    *,
    query: NDArray[np.float32],
    near: Sequence[bytes],
) -> dict[bytes, _Scored]:
    """Of the texts near and of those with a rare word: cosine, share of words, vector, rarity.

    By keys, as `nearest` left the transaction: else Postgres, which cannot know how few these are, reads the
    words of all texts (2 to 3 times the processor time at the 95th percentile, on 20,000 texts).
    """
    rows = connection.execute(
        sql.SQL(
            "WITH candidates AS (SELECT unnest(%(near)s::bytea[]) AS content_hash UNION"
            " SELECT w.content_hash FROM content_words w WHERE w.words @@ %(looked_up)s::tsquery AND EXISTS"
            "  (SELECT FROM snippets s WHERE s.content_hash = w.content_hash AND {condition}))"
            " SELECT v.content_hash, 1 - (v.embedding <=> %(query)s),"
            # Only the positions of the query's words are unpacked, not those of the whole text.
            " coalesce((SELECT sum(q.idf * tf.count * (%(k1)s + 1)"
            "   / (tf.count + %(k1)s * (1 - %(b)s + %(b)s * w.length / %(mean)s)))"
            "  FROM unnest(ts_filter(setweight(w.words, 'A', %(words)s::text[]), '{{a}}')) AS has"
            "  CROSS JOIN LATERAL (SELECT cardinality(has.positions)::float8 AS count) AS tf"
            "  JOIN unnest(%(words)s::text[], %(idfs)s::float8[]) AS q (word, idf) ON q.word = has.lexeme"
            " ), 0), v.embedding, coalesce(w.words @@ %(looked_up)s::tsquery, false)"
            " FROM candidates JOIN {table} v USING (content_hash)"
            " LEFT JOIN content_words w USING (content_hash)"
        ).format(table=serving.table.identifier, condition=filters.condition),
        {
            "near": list(near),
            "looked_up": " | ".join(_quoted(word) for word in words.looked_up),
            "query": HalfVector(query),
            "words": [each.word for each in words.words],
            "idfs": [each.weight for each in words.words],
            "k1": K1,
            "b": B,
            "mean": words.mean_length,
            **filters.values,
        },
        prepare=False,
        binary=True,
    ).fetchall()
    most = sum(each.weight for each in words.words) * (K1 + 1) or 1.0
    return {
        content_hash: _Scored(cosine, bm25 / most, vector, has_rare)
        for content_hash, cosine, bm25, vector, has_rare in rows
    }


def _quoted(word: str) -> str:
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"
