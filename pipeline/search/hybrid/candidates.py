"""What may come to the top by meaning or by words: the nearest texts, and those with a rare word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import sql

from pipeline.index.serving import ServingIndex
from pipeline.search.filters import Filters
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
        bm25: What its words score, 0 or above.
        is_near: Whether it is among the nearest `POOL`.
        has_rare: Whether it has one of the words that are looked up.
    """

    content_hash: bytes
    cosine: float
    bm25: float
    is_near: bool
    has_rare: bool


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
    """The nearest texts, at least k and `POOL` of them if so many pass, and those that have a rare word.

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
    scores = (
        _scored(connection, serving, words, filters, query=vector, near=[each.content_hash for each in near])
        if words.words
        else {}
    )
    found: list[Candidate] = []
    for position, each in enumerate(near):
        _, bm25, has_rare = scores.pop(each.content_hash, (0.0, 0.0, False))
        found.append(Candidate(each.content_hash, each.score, bm25, position < POOL, has_rare))
    return [
        *found,
        *(
            Candidate(content_hash, cosine, bm25, is_near=False, has_rare=has_rare)
            for content_hash, (cosine, bm25, has_rare) in sorted(scores.items())
        ),
    ]


def _scored(
    connection: Connection,
    serving: ServingIndex,
    words: QueryWords,
    filters: Filters,
    *,
    query: NDArray[np.float32],
    near: Sequence[bytes],
) -> dict[bytes, tuple[float, float, bool]]:
    """Of the texts near and of those with a rare word: cosine, BM25, and whether it has a rare word.

    By keys, as `nearest` left the transaction: else Postgres, which cannot know how few these are, reads the
    words of all texts (2 to 3 times the processor time at the 95th percentile, on 20,000 texts).
    """
    rows = connection.execute(
        sql.SQL(
            "WITH candidates AS (SELECT unnest(%(near)s::bytea[]) AS content_hash UNION"
            " SELECT w.content_hash FROM content_words w WHERE w.words @@ %(looked_up)s::tsquery AND EXISTS"
            "  (SELECT FROM snippets s WHERE s.content_hash = w.content_hash AND {condition}))"
            " SELECT w.content_hash, 1 - (v.embedding <=> %(query)s),"
            # Only the positions of the query's words are unpacked, not those of the whole text.
            " coalesce((SELECT sum(q.idf * tf.count * (%(k1)s + 1)"
            "   / (tf.count + %(k1)s * (1 - %(b)s + %(b)s * w.length / %(mean)s)))"
            "  FROM unnest(ts_filter(setweight(w.words, 'A', %(words)s::text[]), '{{a}}')) AS has"
            "  CROSS JOIN LATERAL (SELECT cardinality(has.positions)::float8 AS count) AS tf"
            "  JOIN unnest(%(words)s::text[], %(idfs)s::float8[]) AS q (word, idf) ON q.word = has.lexeme"
            " ), 0), w.words @@ %(looked_up)s::tsquery"
            " FROM candidates JOIN content_words w USING (content_hash) JOIN {table} v USING (content_hash)"
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
    )
    return {content_hash: tuple(scores) for content_hash, *scores in rows}


def _quoted(word: str) -> str:
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"
