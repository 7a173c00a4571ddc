"""The words of a query, and what the corpus says about them: how rare each is, and how long texts are.

What a word is, the SQL function `code_words` alone decides (sql/0006), for texts and queries alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.store.connections import Connection

# Words that together stand in no more texts than this are looked up: so many candidates more, at the most.
LOOKED_UP = 200


@dataclass(frozen=True)
class Word:
    """A word of the query, in how many of the live texts it stands, and what it weighs.

    Args:
        word: As the database's `code_words` spells it.
        documents: As counted last; 1 for a word in one text or in none.
        weight: Inverse document frequency, above 0.
    """

    word: str
    documents: int
    weight: float


@dataclass(frozen=True)
class QueryWords:
    """The words of one query, the rarest first, and the mean length of a live text in words."""

    words: tuple[Word, ...]
    mean_length: float

    @property
    def looked_up(self) -> tuple[str, ...]:
        """The rarest words, as many as stand in `LOOKED_UP` texts together."""
        found: list[str] = []
        room = LOOKED_UP
        for each in self.words:
            room -= each.documents
            if room < 0:
                break
            found.append(each.word)
        return tuple(found)


def query_words(connection: Connection, query: str) -> QueryWords:
    """The words of `query` with their weights; none if it has none, or if nothing was counted yet."""
    rows = connection.execute(
        "SELECT q.word, coalesce(d.documents, 1), corpus.documents, corpus.mean_length"
        " FROM unnest(tsvector_to_array(code_words(%s))) AS q (word) CROSS JOIN word_corpus corpus"
        ' LEFT JOIN word_documents d ON d.word = q.word COLLATE "C" ORDER BY 2, 1',
        [query],
    ).fetchall()
    words = tuple(Word(word, documents, idf(documents, total)) for word, documents, total, _ in rows)
    return QueryWords(words, rows[0][3] if rows else 1.0)


def idf(documents: int, total: int) -> float:
    """Inverse document frequency after Robertson & Spärck Jones, with 1 added within the logarithm.

    That keeps it above 0 for a word in more than half of all texts, as in Lucene; Robertson & Zaragoza, "The
    Probabilistic Relevance Framework: BM25 and Beyond", 2009, section 3.
    """
    # What was counted may lag behind what is there.
    return math.log(1 + max(total - documents + 0.5, 0.5) / (documents + 0.5))


def words_are_counted(connection: Connection) -> bool:
    """Whether `count_words` ever ran over a text."""
    return connection.execute("SELECT FROM word_corpus").fetchone() is not None


def count_words(connection: Connection) -> None:
    """Counts the live texts anew: how many there are, how long, and in how many each word stands.

    Searches see the old figures or the new ones. Takes about a second for each 30,000 texts.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('honeloop.count_words', 0))")
        connection.execute("DELETE FROM word_documents")
        connection.execute("DELETE FROM word_corpus")
        connection.execute(
            "INSERT INTO word_documents (word, documents) SELECT word, ndoc FROM ts_stat("
            "'SELECT words FROM content_words w WHERE EXISTS (SELECT FROM snippets s"
            " WHERE s.content_hash = w.content_hash AND s.vanished_at IS NULL)') WHERE ndoc > 1"
        )
        connection.execute(
            "INSERT INTO word_corpus (documents, mean_length)"
            " SELECT count(*), greatest(avg(length), 1) FROM content_words w WHERE EXISTS (SELECT FROM"
            " snippets s WHERE s.content_hash = w.content_hash AND s.vanished_at IS NULL) HAVING count(*) > 0"
        )
        # New texts wait in a list that every search reads through.
        connection.execute("SELECT gin_clean_pending_list('content_words_words')")
        connection.execute("ANALYZE content_words, word_documents")
