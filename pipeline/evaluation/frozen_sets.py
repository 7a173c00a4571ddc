"""Test sets, frozen: stored whole under the hash of their content, so that any model can be measured later.

A test set is its queries, their answers, and the corpus that is ranked. Contents are never deleted, so a set
keeps its corpus after the code has vanished from the repositories. The *general* set is the one of
documentation queries that is held constant from night to night, so that no candidate gets worse at code in
general while it learns what people asked last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg import sql

from pipeline.config import Settings
from pipeline.corpus.secrets import REPLACEMENT
from pipeline.errors import HoneloopError
from pipeline.evaluation.query_groups import (
    RULES,
    MeasuredQuery,
    Relevant,
    Triplet,
    is_named,
    name_test_set,
    query_key,
)
from pipeline.feedback.grouping import group_key, normalise_query
from pipeline.search.hybrid.fusion import MEANING_ALONE, Weights
from pipeline.search.hybrid.words import QueryWords, Word, query_words
from pipeline.store.connections import Connection, Database
from pipeline.training.near_duplicates import NearDuplicates, tokens_of, words_of
from pipeline.training.pairs import TrainingSet

GENERAL_ORIGIN = "docstring"
_HASH_BYTES = 32
_SECRET = REPLACEMENT.decode()
_BEHIND_VERDICTS = (
    "SELECT metrics -> 'verdict' ->> 'test_set' FROM model_versions"
    " WHERE state IN ('serving', 'approved', 'retired') AND metrics ? 'verdict'"
)
_QUERY_COLUMNS = {
    "test_set": "text",
    "query_key": "bytea",
    "query": "text",
    "origin": "text",
    "language": "text",
    "repository": "text",
    "relevant": "bytea[]",
    "ranked_by": "bytea[]",
    "triplets": "bytea[]",
    "words": "text[]",
    "word_documents": "int4[]",
    "word_weights": "float8[]",
    "mean_length": "float8",
}


@dataclass(frozen=True)
class FrozenSet:
    """A test set with all that decides a measurement but the model.

    Attributes:
        name: SHA-256 over the rest, in hexadecimal digits.
        queries: In the order of their keys; at least one.
        corpus: The hashes of the contents that are ranked, ascending.
        ranking: What counts beside the cosine in the order in which they are ranked, whatever the model.
        forgotten: How many queries were taken out since it was named, as their askers were forgotten.
    """

    name: str
    queries: tuple[MeasuredQuery, ...]
    corpus: tuple[bytes, ...]
    ranking: Weights = MEANING_ALONE
    forgotten: int = 0


@dataclass(frozen=True)
class GeneralSet:
    """The general set in force, and why this one was frozen."""

    name: str
    queries: int
    since: str
    reason: str


def text_hash(text: str) -> bytes:
    """The content hash a text has in the corpus: SHA-256 of its UTF-8."""
    return hashlib.sha256(text.encode()).digest()


def freeze(
    db: Database,
    queries: Sequence[MeasuredQuery],
    corpus: Sequence[bytes],
    ranking: Weights = MEANING_ALONE,
) -> FrozenSet:
    """The test set of these queries over this corpus, stored under its name unless it is there already.

    Where words count in the ranking, how rare each is goes into the set as it is counted now.
    """
    if ranking != MEANING_ALONE:
        with db.connect() as connection:
            queries = [replace(each, counted=query_words(connection, each.query)) for each in queries]
    name = name_test_set(queries, corpus, ranking)
    frozen = FrozenSet(name, tuple(queries), tuple(sorted(corpus)), ranking)
    hashes = b"".join(frozen.corpus)
    corpus_name = hashlib.sha256(hashes).digest()
    with db.connect() as connection:
        if connection.execute("SELECT FROM test_sets WHERE name = %s", [frozen.name]).fetchone():
            return frozen
        connection.execute(
            "INSERT INTO measured_corpora VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [corpus_name, len(frozen.corpus), hashes],
        )
        _store_texts(connection, frozen)
        added = connection.execute(
            "INSERT INTO test_sets (name, rules, queries, corpus, words, crowding)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING name",
            [frozen.name, RULES.decode(), len(queries), corpus_name, *ranking],
        ).fetchone()
        if added is not None:
            _store_queries(connection, frozen)
    return frozen


def load_frozen(db: Database, name: str) -> FrozenSet:
    """A stored test set, ready to be measured on again.

    One that lost a query, as its asker was forgotten, or a secret is no longer what it was named after. It
    goes on under its name: what was measured on it before pairs with what is measured on it now.

    Raises:
        HoneloopError: there is none of that name, something of it was deleted or changed by hand since, or
            the rules of measuring changed.
    """
    with db.connect() as connection:
        row = connection.execute(
            "SELECT c.hashes, s.forgotten, s.words, s.crowding, s.rules FROM test_sets s"
            " JOIN measured_corpora c USING (corpus) WHERE s.name = %s",
            [name],
        ).fetchone()
        if row is None:
            raise HoneloopError(
                f"No test set {name[:12]} is stored.",
                hint="Older ones are given up in time, see HONELOOP_KEEP_TEST_SETS; evaluate on today's.",
            )
        hashes = bytes(row[0])
        corpus = tuple(hashes[i : i + _HASH_BYTES] for i in range(0, len(hashes), _HASH_BYTES))
        rows = connection.execute(
            "SELECT query_key, query, origin, language, repository, relevant, ranked_by, triplets,"
            " words, word_documents, word_weights, mean_length"
            " FROM test_set_queries WHERE test_set = %s ORDER BY query_key",
            [name],
        ).fetchall()
        texts = _texts(connection, {bytes(h) for row in rows for h in (*row[6], *row[7])})
    try:
        queries = tuple(_query(row, texts) for row in rows)
    except KeyError as error:
        raise HoneloopError(
            f"A text of the test set {name[:12]} was deleted from the database.",
            hint="It cannot be measured on any more; evaluate on today's.",
        ) from error
    frozen = FrozenSet(name, queries, corpus, Weights(row[2], row[3]), row[1])
    altered = frozen.forgotten or _is_redacted(queries, texts)
    if row[4] != RULES.decode() or not (altered or is_named(name, queries, corpus, frozen.ranking)):
        raise HoneloopError(
            f"The test set {name[:12]} is not what it was when it was frozen.",
            hint="Its rows were changed by hand, or the rules of measuring changed; evaluate on today's.",
        )
    if frozen.ranking != MEANING_ALONE and any(each.counted is None for each in queries):
        raise HoneloopError(
            f"How rare the words of the test set {name[:12]} were is not known for all its queries.",
            hint="Whoever asked one of them was forgotten, or it is older than that; evaluate on today's.",
        )
    return frozen


def general_set(
    db: Database,
    tonight: FrozenSet,
    training_set: TrainingSet,
    settings: Settings,
    earlier: Iterable[TrainingSet] = (),
) -> FrozenSet | None:
    """The general set in force, frozen out of tonight's documentation queries if there is none yet.

    It ranks by meaning alone, always: what counts in searches is learned anew, and would not be constant.

    It is replaced, and the reason recorded, when it can no longer be measured on, or when too few of its
    queries (`general_min_queries`) are a test of what learns from `training_set`, after the models before it
    did from the `earlier` sets, and tonight's are more. None while there is no documentation query.
    """
    reason = "the first documentation queries there were"
    with db.connect() as connection:
        row = connection.execute(
            "SELECT g.test_set, s.rules FROM general_test_sets g"
            " JOIN test_sets s ON s.name = g.test_set WHERE g.retired_at IS NULL"
        ).fetchone()
    queries = [query for query in tonight.queries if query.origin == GENERAL_ORIGIN]
    if row is not None:
        name, rules = row
        if rules != RULES.decode():
            reason = "the rules of measuring changed"
        else:
            try:
                kept = load_frozen(db, name)
            except HoneloopError as error:
                reason = error.message
            else:
                usable = len(kept.queries) - len(learned_from(kept, training_set, *earlier))
                if usable >= settings.general_min_queries or len(queries) <= usable:
                    return kept
                reason = f"of the one before {usable} queries were left, too few to tell"
    if not queries:
        return None
    frozen = freeze(db, queries, tonight.corpus)
    with db.connect() as connection:
        connection.execute("UPDATE general_test_sets SET retired_at = now() WHERE retired_at IS NULL")
        connection.execute(
            "INSERT INTO general_test_sets (test_set, reason) VALUES (%s, %s)", [frozen.name, reason]
        )
    return frozen


def general_in_force(db: Database) -> GeneralSet | None:
    """Which set is the general one, since when and why; None before the first."""
    with db.connect() as connection:
        row = connection.execute(
            "SELECT g.test_set, s.queries - s.forgotten, g.since, g.reason FROM general_test_sets g"
            " JOIN test_sets s ON s.name = g.test_set WHERE g.retired_at IS NULL"
        ).fetchone()
    return None if row is None else GeneralSet(row[0], row[1], f"{row[2]:%Y-%m-%d}", row[3])


def learned_from(frozen: FrozenSet, *training_sets: TrainingSet) -> frozenset[bytes]:
    """The keys of the queries that are no test of a model that learned from `training_sets`.

    A set that is held constant does not know what people judge later, and tonight's does not know what they
    judged before. Of a query that is on the training or validation side of one of them, or whose code, or a
    near-duplicate of it, is, the model has seen too much; likewise of one that is, in words, all but the same
    as a query there, unless people asked both.
    """
    seen = [pair for each in training_sets for pair in each.pairs if pair.split != "test"]
    # What a secret was taken out of has the key it had with it, which is not that of its words.
    groups = {key for pair in seen for key in (pair.group_key, group_key(pair.query))}
    hashes = {pair.positive_hash for pair in seen}
    known: NearDuplicates[bytes] = NearDuplicates()
    owners: dict[bytes, set[bytes]] = {}
    spoiled: set[bytes] = set()
    for query in frozen.queries:
        if group_key(query.query) in groups or any(r.content_hash in hashes for r in query.relevant):
            spoiled.add(query.key)
            continue
        for relevant in query.relevant:
            if relevant.content_hash not in owners:
                known.add(relevant.content_hash, tokens_of(relevant.text))
            owners.setdefault(relevant.content_hash, set()).add(query.key)
    by_words: NearDuplicates[bytes] = NearDuplicates()
    unseen = {query.key: query for query in frozen.queries if query.key not in spoiled}
    for query in unseen.values():
        by_words.add(query.key, words_of(normalise_query(query.query)))
    for words, by_people in {(normalise_query(pair.query), pair.origin == "feedback") for pair in seen}:
        for key in by_words.of(words_of(words)):
            if not (by_people and unseen[key].origin == "feedback"):
                spoiled.add(key)
    for text in {pair.positive_code or pair.positive_text for pair in seen}:
        for content_hash in known.of(tokens_of(text)):
            spoiled |= owners[content_hash]
    return frozenset(spoiled)


def give_up_old_sets(db: Database, keep: int) -> int:
    """Deletes all but the newest `keep` test sets, and what was measured on them; returns how many went.

    A set stays, whatever its age, that is or was general, or that the verdict on a model that serves or may
    serve again was found on. So does what was measured for such a verdict before sets were stored.
    """
    with db.connect() as connection:
        gone = connection.execute(
            "DELETE FROM test_sets WHERE name NOT IN"
            " (SELECT name FROM test_sets ORDER BY created_at DESC, name LIMIT %s)"
            " AND name NOT IN (SELECT test_set FROM general_test_sets)"
            f" AND name NOT IN ({_BEHIND_VERDICTS})",
            [keep],
        ).rowcount
        # Query by query, with the first contents of each ranking: most of what a night writes.
        connection.execute(
            "DELETE FROM evaluations WHERE test_set NOT IN (SELECT name FROM test_sets)"
            f" AND test_set NOT IN ({_BEHIND_VERDICTS})"
        )
        if gone:
            connection.execute(
                "DELETE FROM measured_corpora c WHERE NOT EXISTS"
                " (SELECT FROM test_sets s WHERE s.corpus = c.corpus)"
            )
            connection.execute(
                "DELETE FROM measured_texts WHERE text_hash NOT IN"
                " (SELECT unnest(ranked_by || triplets) FROM test_set_queries)"
            )
    return gone


def _store_texts(connection: Connection, frozen: FrozenSet) -> None:
    texts = {relevant.text for query in frozen.queries for relevant in query.relevant}
    texts |= {
        t for query in frozen.queries for each in query.triplets for t in (each.positive, each.negative)
    }
    rows = sorted((text_hash(text), text) for text in texts)
    connection.execute(
        "INSERT INTO measured_texts SELECT * FROM unnest(%s::bytea[], %s::text[]) AS new (text_hash, text)"
        " WHERE NOT EXISTS (SELECT FROM contents WHERE content_hash = new.text_hash) ON CONFLICT DO NOTHING",
        [[each for each, _ in rows], [text for _, text in rows]],
    )


def _store_queries(connection: Connection, frozen: FrozenSet) -> None:
    with (
        connection.cursor() as cursor,
        cursor.copy(
            sql.SQL("COPY test_set_queries ({}) FROM STDIN (FORMAT BINARY)").format(
                sql.SQL(", ").join(map(sql.Identifier, _QUERY_COLUMNS))
            )
        ) as copy,
    ):
        copy.set_types(list(_QUERY_COLUMNS.values()))
        for query in frozen.queries:
            copy.write_row(
                (
                    frozen.name,
                    query.key,
                    query.query,
                    query.origin,
                    query.language,
                    query.repository,
                    [relevant.content_hash for relevant in query.relevant],
                    [text_hash(relevant.text) for relevant in query.relevant],
                    [text_hash(t) for each in query.triplets for t in (each.positive, each.negative)],
                    *_counted_columns(query.counted),
                )
            )


def _texts(connection: Connection, hashes: Iterable[bytes]) -> dict[bytes, str]:
    wanted = sorted(hashes)
    rows = connection.execute(
        "SELECT content_hash, text FROM contents WHERE content_hash = ANY(%(wanted)s)"
        " UNION SELECT text_hash, text FROM measured_texts WHERE text_hash = ANY(%(wanted)s)",
        {"wanted": wanted},
    )
    return {bytes(content_hash): text for content_hash, text in rows}


def _is_redacted(queries: Iterable[MeasuredQuery], texts: Mapping[bytes, str]) -> bool:
    """Whether a secret was taken out of a text or a query: it has another hash than it is known by."""
    return any(_SECRET in text and text_hash(text) != known for known, text in texts.items()) or any(
        _SECRET in each.query and query_key(each.origin, each.query) != each.key for each in queries
    )


def _counted_columns(counted: QueryWords | None) -> tuple[Any, ...]:
    if counted is None:
        return None, None, None, None
    words = counted.words
    return (
        [each.word for each in words],
        [each.documents for each in words],
        [each.weight for each in words],
        counted.mean_length,
    )


def _query(row: tuple[Any, ...], texts: Mapping[bytes, str]) -> MeasuredQuery:
    key, query, origin, language, repository, relevant, ranked_by, triplets, words, *of_words = row
    of_triplets = [texts[bytes(each)] for each in triplets]
    return MeasuredQuery(
        key=bytes(key),
        query=query,
        origin=origin,
        language=language,
        relevant=tuple(
            Relevant(bytes(content), texts[bytes(text)])
            for content, text in zip(relevant, ranked_by, strict=True)
        ),
        triplets=tuple(map(Triplet, of_triplets[::2], of_triplets[1::2])),
        repository=repository,
        counted=None if words is None else _counted(words, *of_words),
    )


def _counted(
    words: Sequence[str], documents: Sequence[int], weights: Sequence[float], mean_length: float
) -> QueryWords:
    return QueryWords(tuple(map(Word, words, documents, weights)), mean_length)
