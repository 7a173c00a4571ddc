"""Secrets in texts that no file has any more, and that an extraction therefore does not read again.

Snippets that vanished stay, for judgements may be about them, and so do the texts that models learned from
and were measured on. Where other rules come into force, which may know more secrets, these are looked through
as well. A text is changed where it stands and keeps its hash, by which the rest knows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from pipeline.corpus.bounded.limits import BeyondLimitsError
from pipeline.corpus.secrets import Detector
from pipeline.store.connections import Connection

_AT_ONCE = 500


@dataclass(frozen=True)
class _Texts:
    """Where texts are kept: a table, what names a row of it, its columns with text, and which rows."""

    table: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    where: LiteralString = "true"


_KEPT = (
    _Texts(
        "contents",
        ("content_hash",),
        ("text", "documentation", "undocumented_text"),
        "NOT EXISTS (SELECT FROM snippets s"
        " WHERE s.content_hash = contents.content_hash AND s.vanished_at IS NULL)",
    ),
    _Texts("snippets", ("id",), ("signature", "code"), "vanished_at IS NOT NULL"),
    _Texts("training_pairs", ("id",), ("positive_text",)),
    _Texts("training_negatives", ("pair_id", "negative_hash"), ("negative_text",)),
    _Texts("measured_texts", ("text_hash",), ("text",)),
)
_WORDS = """
    UPDATE content_words w SET words = new.words,
        length = (SELECT coalesce(sum(cardinality(positions)), 0) FROM unnest(new.words))
    FROM (SELECT content_hash, code_words(text) AS words FROM contents
          WHERE content_hash = ANY(%s) OFFSET 0) AS new
    WHERE w.content_hash = new.content_hash
"""


def redact_what_is_left(connection: Connection, detector: Detector) -> int:
    """Replaces the secrets in all texts that are of no live snippet; in the caller's transaction.

    Returns:
        How many texts held any.
    """
    if not detector.on:
        return 0
    redacted = 0
    for kept in _KEPT:
        changed = _changed(connection, detector, kept)
        statement = sql.SQL("UPDATE {} SET {} WHERE {}").format(
            sql.Identifier(kept.table), _assigned(kept.columns, ", "), _assigned(kept.keys, " AND ")
        )
        with connection.cursor() as cursor:
            cursor.executemany(statement, [(*texts, *key) for key, texts in changed])
        if kept.table == "contents":  # the words of a text are kept beside it
            connection.execute(_WORDS, [[key[0] for key, _ in changed]])
        redacted += len(changed)
    return redacted


def _changed(
    connection: Connection, detector: Detector, kept: _Texts
) -> list[tuple[tuple[object, ...], list[str | None]]]:
    """The rows that hold secrets: what names them, and their texts without."""
    columns = sql.SQL(", ").join(map(sql.Identifier, (*kept.keys, *kept.columns)))
    changed: list[tuple[tuple[object, ...], list[str | None]]] = []
    with connection.cursor(name="kept_texts") as cursor:
        cursor.itersize = _AT_ONCE
        cursor.execute(
            sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY {}").format(
                columns,
                sql.Identifier(kept.table),
                sql.SQL(kept.where),
                sql.SQL(", ").join(map(sql.Identifier, kept.keys)),
            )
        )
        for row in cursor:
            texts: Sequence[str | None] = row[len(kept.keys) :]
            clean = [_clean(detector, text) for text in texts]
            if clean != list(texts):
                changed.append((row[: len(kept.keys)], clean))
    return changed


def _clean(detector: Detector, text: str | None) -> str | None:
    if not text:
        return text
    try:
        return detector.clean(text.encode()).text.decode()
    except BeyondLimitsError:  # the machine is busy; the next change of the rules looks again
        return text


def _assigned(names: Sequence[str], between: LiteralString) -> sql.Composed:
    return sql.SQL(between).join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in names)
