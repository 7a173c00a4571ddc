"""Secrets in texts that no file has any more, and that an extraction therefore does not read again.

Snippets that vanished stay, for judgements may be about them, and so do the texts that models learned from
and were measured on. Where other rules come into force, which may know more secrets, these are looked through
as well, and so are the queries that were made of documentation and of commits. What people asked is not:
they wrote it themselves, and forgetting somebody finds it by its words. A text is changed where it stands and
keeps its hash, by which the rest knows it: a query its key and its split, a frozen test set its name.

Code of a source that is not read again stays as other rules left it: `honeloop doctor` looks through that
too, once for each set of rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import LiteralString

from psycopg import sql

from pipeline.corpus.bounded.limits import BeyondLimitsError
from pipeline.corpus.secrets import Detector
from pipeline.store.connections import Connection
from pipeline.store.cursors import server_cursor

_AT_ONCE = 500


@dataclass(frozen=True)
class _Texts:
    """Where texts are kept: a table, what names a row of it, its columns with text, and which rows."""

    table: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    where: sql.Composable = field(default_factory=lambda: sql.SQL("true"))


_MADE = sql.SQL("origin <> 'feedback'")  # queries that nobody asked
_KEPT = (
    _Texts(
        "contents",
        ("content_hash",),
        ("text", "documentation", "undocumented_text"),
        sql.SQL(
            "NOT EXISTS (SELECT FROM snippets s"
            " WHERE s.content_hash = contents.content_hash AND s.vanished_at IS NULL)"
        ),
    ),
    _Texts("snippets", ("id",), ("signature", "code"), sql.SQL("vanished_at IS NOT NULL")),
    _Texts("training_pairs", ("id",), ("positive_text",)),
    _Texts("training_negatives", ("pair_id", "negative_hash"), ("negative_text",)),
    _Texts("measured_texts", ("text_hash",), ("text",)),
    _Texts("training_pairs", ("id",), ("query",), _MADE),
    _Texts("test_set_queries", ("test_set", "query_key"), ("query",), _MADE),
    _Texts("evaluation_queries", ("evaluation_id", "query_key"), ("query",), _MADE),
)
# What these rules have not read: `rules` is a part of a file's `extractor`.
_NOT_READ: dict[str, LiteralString] = {
    "contents": "NOT EXISTS (SELECT FROM snippets s JOIN files f USING (repository_id, path)"
    " WHERE s.content_hash = contents.content_hash AND s.vanished_at IS NULL"
    " AND strpos(f.extractor, {rules}) > 0)",
    "snippets": "vanished_at IS NOT NULL OR NOT EXISTS (SELECT FROM files f WHERE f.path = snippets.path"
    " AND f.repository_id = snippets.repository_id AND strpos(f.extractor, {rules}) > 0)",
}
# Where a text is known from, as far as it is code of a source.
_PLACES: dict[str, LiteralString] = {
    "contents": "SELECT DISTINCT r.name, s.path FROM snippets s JOIN repositories r ON r.id = s.repository_id"
    " WHERE s.content_hash = %s",
    "snippets": "SELECT r.name, s.path FROM snippets s JOIN repositories r ON r.id = s.repository_id"
    " WHERE s.id = %s",
}
# Which rules have looked through all that is stored is noted at the table: a backup does not carry it.
_NOTED = "looked through for secrets by "
_WORDS = """
    UPDATE content_words w SET words = new.words,
        length = (SELECT coalesce(sum(cardinality(positions)), 0) FROM unnest(new.words))
    FROM (SELECT content_hash, code_words(text) AS words FROM contents
          WHERE content_hash = ANY(%s) OFFSET 0) AS new
    WHERE w.content_hash = new.content_hash
"""
# What was counted of a query's words when its test set was frozen stays, but for the words that went.
_COUNTED = """
    UPDATE test_set_queries q SET (words, word_documents, word_weights) = (
        SELECT coalesce(array_agg(w.word ORDER BY place), '{}'),
            coalesce(array_agg(w.documents ORDER BY place), '{}'),
            coalesce(array_agg(w.weight ORDER BY place), '{}')
        FROM unnest(q.words, q.word_documents, q.word_weights)
            WITH ORDINALITY AS w (word, documents, weight, place)
        WHERE w.word = ANY(tsvector_to_array(code_words(q.query))))
    WHERE q.words IS NOT NULL
        AND (q.test_set, q.query_key) IN (SELECT * FROM unnest(%s::text[], %s::bytea[]))
"""


@dataclass(frozen=True)
class Held:
    """A row of text that holds a secret.

    `places` are the repositories and paths it is known from, none if models learned from it or were measured
    on it; `key` names the row of the table, `columns` those that were looked through.
    """

    table: str
    columns: tuple[str, ...]
    key: tuple[object, ...]
    places: tuple[tuple[str, str], ...]


def redact_what_is_left(connection: Connection, detector: Detector) -> int:
    """Replaces the secrets in all texts that are no live snippet's; in the caller's transaction.

    Returns:
        How many texts held any.
    """
    if not detector.on:
        return 0
    redacted = 0
    for kept in _KEPT:
        changed = [
            (key, clean)
            for key, texts, clean in _looked_through(connection, detector, kept)
            if clean != texts
        ]
        _store(connection, kept, changed)
        redacted += len(changed)
    return redacted


def count_not_read(connection: Connection, detector: Detector) -> int:
    """How many rows of text there are that the detector's rules have not read."""
    count = 0
    for kept in _not_read(detector):
        row = connection.execute(
            sql.SQL("SELECT count(*) FROM {} WHERE {}").format(sql.Identifier(kept.table), kept.where)
        ).fetchone()
        count += row[0] if row else 0
    return count


def find_held(connection: Connection, detector: Detector) -> Iterator[Held | None]:
    """Looks through what the detector's rules have not read: a `Held` or None for each row of text."""
    for kept in _not_read(detector):
        for key, texts, clean in _looked_through(connection, detector, kept):
            if clean == texts:
                yield None
                continue
            places = _PLACES.get(kept.table)
            found = connection.execute(places, key).fetchall() if places else []
            yield Held(
                kept.table, kept.columns, key, tuple(sorted((str(name), str(path)) for name, path in found))
            )


def redact_held(connection: Connection, detector: Detector, held: Sequence[Held]) -> None:
    """Replaces the secrets in these rows, as they are by now; in the caller's transaction."""
    for kept in _KEPT:
        statement = sql.SQL("SELECT {} FROM {} WHERE {} FOR UPDATE").format(
            sql.SQL(", ").join(map(sql.Identifier, kept.columns)),
            sql.Identifier(kept.table),
            _assigned(kept.keys, " AND "),
        )
        keys = [each.key for each in held if (each.table, each.columns) == (kept.table, kept.columns)]
        rows = [(key, connection.execute(statement, key).fetchone()) for key in keys]
        _store(
            connection,
            kept,
            [(key, [_clean(detector, text) for text in row]) for key, row in rows if row is not None],
        )


def is_looked_through(connection: Connection, detector: Detector) -> bool:
    """Whether it is noted that the detector's rules have looked through all that is stored."""
    return not detector.on or _noted(connection) == f"{_NOTED}{detector.version}"


def note_looked_through(connection: Connection, detector: Detector) -> None:
    """Notes it, so that it need not be done again."""
    said = sql.Literal(f"{_NOTED}{detector.version}")
    connection.execute(sql.SQL("COMMENT ON TABLE contents IS {}").format(said))


def forget_other_rules(connection: Connection, detector: Detector) -> None:
    """Texts come in that were read by these rules: what others looked through is not all any more."""
    if _noted(connection) not in (None, f"{_NOTED}{detector.version}"):
        connection.execute("COMMENT ON TABLE contents IS NULL")


def _noted(connection: Connection) -> str | None:
    row = connection.execute("SELECT obj_description('contents'::regclass, 'pg_class')").fetchone()
    return row[0] if row else None


def _not_read(detector: Detector) -> Iterator[_Texts]:
    for kept in _KEPT:
        where = _NOT_READ.get(kept.table)
        if where is not None:
            rules = sql.Literal(detector.version)
            yield replace(kept, where=sql.SQL(where).format(rules=rules))
        else:
            yield kept


def _store(
    connection: Connection, kept: _Texts, changed: Sequence[tuple[tuple[object, ...], list[str | None]]]
) -> None:
    statement = sql.SQL("UPDATE {} SET {} WHERE {}").format(
        sql.Identifier(kept.table), _assigned(kept.columns, ", "), _assigned(kept.keys, " AND ")
    )
    with connection.cursor() as cursor:
        cursor.executemany(statement, [(*texts, *key) for key, texts in changed])
    if kept.table == "contents":  # the words of a text are kept beside it
        connection.execute(_WORDS, [[key[0] for key, _ in changed]])
    elif kept.table == "test_set_queries":
        connection.execute(_COUNTED, [[key[0] for key, _ in changed], [key[1] for key, _ in changed]])


def _looked_through(
    connection: Connection, detector: Detector, kept: _Texts
) -> Iterator[tuple[tuple[object, ...], list[str | None], list[str | None]]]:
    """Of each row what names it, its texts, and the same without secrets."""
    columns = sql.SQL(", ").join(map(sql.Identifier, (*kept.keys, *kept.columns)))
    with server_cursor(connection, f"kept_{kept.table}") as cursor:
        cursor.itersize = _AT_ONCE
        cursor.execute(
            sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY {}").format(
                columns,
                sql.Identifier(kept.table),
                kept.where,
                sql.SQL(", ").join(map(sql.Identifier, kept.keys)),
            )
        )
        for row in cursor:
            texts: list[str | None] = list(row[len(kept.keys) :])
            yield row[: len(kept.keys)], texts, [_clean(detector, text) for text in texts]


def _clean(detector: Detector, text: str | None) -> str | None:
    if not text:
        return text
    try:
        return detector.clean(text.encode()).text.decode()
    except BeyondLimitsError:  # the machine is busy; the next change of the rules looks again
        return text


def _assigned(names: Sequence[str], between: LiteralString) -> sql.Composed:
    return sql.SQL(between).join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in names)
