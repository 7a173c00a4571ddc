"""How well the words of a query match those of texts: BM25, as a share of the most that any text could score.

Robertson & Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg import sql

from pipeline.search.filters import Filters
from pipeline.search.hybrid.words import QueryWords
from pipeline.store.connections import Connection

# Section 3.4: how soon repetition stops to count, and how much length does. The customary values.
K1 = 1.2
B = 0.75
# Of `w.words` and `w.length`. Only the positions of the query's words are unpacked, not those of a text.
_BM25 = sql.SQL(
    "coalesce((SELECT sum(q.idf * tf.count * (%(k1)s + 1)"
    "   / (tf.count + %(k1)s * (1 - %(b)s + %(b)s * w.length / %(mean)s)))"
    "  FROM unnest(ts_filter(setweight(w.words, 'A', %(words)s::text[]), '{a}')) AS has"
    "  CROSS JOIN LATERAL (SELECT cardinality(has.positions)::float8 AS count) AS tf"
    "  JOIN unnest(%(words)s::text[], %(idfs)s::float8[]) AS q (word, idf) ON q.word = has.lexeme"
    " ), 0), coalesce(w.words @@ %(looked_up)s::tsquery, false)"
)


class Match(NamedTuple):
    """How a text's words match a query's.

    Args:
        share: From 0, none of them, to 1, which all of them, over and over, come near to.
        has_rare: Whether one of them is a word that is looked up, see `QueryWords.looked_up`.
    """

    share: float
    has_rare: bool


def matches(
    connection: Connection, words: QueryWords, filters: Filters | None, *, near: Sequence[bytes]
) -> dict[bytes, Match]:
    """The match of each of the texts `near`, and of every other that passes the filters and has a rare word.

    Args:
        connection: Plans by keys, as `nearest` leaves a transaction: else Postgres, which cannot know how few
            these are, reads the words of all texts (2 to 3 times the processor time at the 95th percentile,
            on 20,000 texts).
        words: The query's.
        filters: What others have to pass; None: nothing, they need not even stand anywhere any more.
        near: Contents; what is not in the database has no words.
    """
    rows = connection.execute(
        sql.SQL(
            "WITH candidates AS (SELECT unnest(%(near)s::bytea[]) AS content_hash UNION"
            " SELECT w.content_hash FROM content_words w WHERE w.words @@ %(looked_up)s::tsquery"
            " AND {passing})"
            " SELECT content_hash, {bm25}"
            " FROM candidates LEFT JOIN content_words w USING (content_hash)"
        ).format(passing=_passing(filters), bm25=_BM25),
        {"near": list(near), **_parameters(words), **({} if filters is None else filters.values)},
        prepare=False,
        binary=True,
    ).fetchall()
    most = _most(words)
    return {content_hash: Match(bm25 / most, has_rare) for content_hash, bm25, has_rare in rows}


def matches_of_texts(connection: Connection, words: QueryWords, texts: Sequence[str]) -> list[Match]:
    """The match of each of these texts, whether they are in the database or not."""
    rows = connection.execute(
        sql.SQL(
            "SELECT {bm25} FROM unnest(%(texts)s::text[]) WITH ORDINALITY AS given (text, place)"
            " CROSS JOIN LATERAL (SELECT code_words(given.text) AS words OFFSET 0) AS own"
            " CROSS JOIN LATERAL (SELECT own.words, (SELECT coalesce(sum(cardinality(positions)), 0)"
            "  FROM unnest(own.words)) AS length) AS w ORDER BY given.place"
        ).format(bm25=_BM25),
        {"texts": list(texts), **_parameters(words)},
        prepare=False,
        binary=True,
    ).fetchall()
    most = _most(words)
    return [Match(bm25 / most, has_rare) for bm25, has_rare in rows]


def _passing(filters: Filters | None) -> sql.Composable:
    if filters is None:
        return sql.SQL("true")
    return sql.SQL("EXISTS (SELECT FROM snippets s WHERE s.content_hash = w.content_hash AND {})").format(
        filters.condition
    )


def _parameters(words: QueryWords) -> dict[str, Any]:
    return {
        "looked_up": " | ".join(_quoted(word) for word in words.looked_up),
        "words": [each.word for each in words.words],
        "idfs": [each.weight for each in words.words],
        "k1": K1,
        "b": B,
        "mean": words.mean_length,
    }


def _most(words: QueryWords) -> float:
    """What a text would score that has all words, each without end."""
    return sum(each.weight for each in words.words) * (K1 + 1) or 1.0


def _quoted(word: str) -> str:
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"
