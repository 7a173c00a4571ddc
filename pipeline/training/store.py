"""The statements of this room: documented contents, what negatives must be like, training sets in and out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from pipeline.store.connections import Connection
from pipeline.store.cursors import server_cursor
from pipeline.training.pairs import Negative, Pair, TrainingSet

_DOCUMENTED = """
SELECT DISTINCT ON (c.content_hash) c.content_hash, c.documentation, s.language
FROM contents c JOIN snippets s ON s.content_hash = c.content_hash
WHERE s.vanished_at IS NULL AND c.documentation IS NOT NULL AND c.undocumented_text IS NOT NULL
ORDER BY c.content_hash, s.id
"""

# The last part of each live snippet's symbol: `run` of `Engine.run@2` and of `run#3` (a part, a namesake).
_CONTENTS = """
SELECT c.content_hash, c.text, c.undocumented_text, c.documentation IS NOT NULL,
    coalesce((
        SELECT array_agg(DISTINCT (regexp_match(s.symbol, '([^.:@#]*)(?:[@#].*)?$'))[1])
        FROM snippets s WHERE s.content_hash = c.content_hash AND s.vanished_at IS NULL
    ), '{}'),
    coalesce((
        SELECT array_agg(DISTINCT
            s.repository_id || ' ' || s.path || ' ' || regexp_replace(s.symbol, '@[0-9]+$', ''))
        FROM snippets s WHERE s.content_hash = c.content_hash AND s.vanished_at IS NULL
    ), '{}')
FROM contents c WHERE c.content_hash = ANY(%s)
"""

_PAIRS = """
SELECT p.id, p.split, p.origin, p.query, p.positive_hash, p.positive_text, p.weight, p.language, p.group_key,
    coalesce(c.undocumented_text, c.text), p.because, p.copy_group, p.spared
FROM training_pairs p JOIN contents c ON c.content_hash = p.positive_hash
WHERE p.training_set_id = %s ORDER BY p.id
"""

_NEGATIVES = """
SELECT n.pair_id, n.negative_hash, n.negative_text, n.reason, n.positive_score, n.negative_score,
    n.weight, coalesce(c.undocumented_text, c.text), n.copy_group
FROM training_negatives n
JOIN training_pairs p ON p.id = n.pair_id
JOIN contents c ON c.content_hash = n.negative_hash
WHERE p.training_set_id = %s
ORDER BY n.pair_id, CASE n.reason WHEN 'rejected' THEN 1 WHEN 'passed-over' THEN 2 ELSE 3 END,
    n.negative_score DESC NULLS LAST, n.negative_hash
"""


@dataclass(frozen=True)
class Content:
    """A content with what tells whether it is a fair negative.

    Attributes:
        text: As it is embedded.
        undocumented: Without its documentation; None if it has none, or if nothing else would be left.
        documented: Whether it has documentation.
        names: The last parts of the symbols it has in live files.
        places: Where it stands in them: repository, path and symbol.
    """

    text: str
    undocumented: str | None
    documented: bool
    names: frozenset[str]
    places: frozenset[str] = frozenset()

    def is_around(self, other: Content) -> bool:
        """Whether `other` is defined inside this: a method in its class, a function in a function."""
        return any(inner.startswith(f"{outer}.") for outer in self.places for inner in other.places)

    @property
    def code(self) -> str:
        """What there is of it besides documentation, if anything is."""
        return self.text if self.undocumented is None else self.undocumented

    @property
    def without_documentation(self) -> str | None:
        """Its text without documentation, or None if it is nothing but documentation and a signature."""
        return None if self.documented and self.undocumented is None else self.code


def documented(connection: Connection) -> Iterator[tuple[bytes, str, str]]:
    """Content hash, documentation and language of each live content that has both code and documentation."""
    with server_cursor(connection, "documented") as cursor:
        cursor.itersize = 10_000
        cursor.execute(_DOCUMENTED)
        yield from cursor


def contents(connection: Connection, hashes: Sequence[bytes]) -> dict[bytes, Content]:
    """The contents with these hashes."""
    return {
        content_hash: Content(text, undocumented, documented, frozenset(names), frozenset(where))
        for content_hash, text, undocumented, documented, names, where in connection.execute(
            _CONTENTS, [list(hashes)]
        )
    }


def find_set(connection: Connection, pairs_fingerprint: str) -> int | None:
    """The newest stored set of these pairs."""
    row = connection.execute(
        "SELECT id FROM training_sets WHERE pairs_fingerprint = %s ORDER BY id DESC LIMIT 1",
        [pairs_fingerprint],
    ).fetchone()
    return None if row is None else row[0]


def newest_set(connection: Connection) -> int | None:
    """The set that was stored last."""
    row = connection.execute("SELECT max(id) FROM training_sets").fetchone()
    return None if row is None else row[0]


def save_set(
    connection: Connection,
    *,
    fingerprint: str,
    pairs_fingerprint: str,
    model_version: str,
    counts: Mapping[str, Any],
    settings: Mapping[str, Any],
    pairs: Sequence[Pair],
) -> int:
    """Stores a set whole; of one that is there already, by its fingerprint, only how it came about now."""
    row = connection.execute(
        """
        INSERT INTO training_sets (fingerprint, pairs_fingerprint, model_version, counts, settings)
        VALUES (%s, %s, %s, %s, %s)
        ON CONFLICT (fingerprint) DO UPDATE
        SET pairs_fingerprint = excluded.pairs_fingerprint, counts = excluded.counts,
            settings = excluded.settings
        RETURNING id, xmax = 0
        """,
        [fingerprint, pairs_fingerprint, model_version, Jsonb(dict(counts)), Jsonb(dict(settings))],
    ).fetchone()
    assert row is not None  # both ways return a row
    set_id, is_new = row
    if is_new:
        _copy_pairs(connection, set_id, pairs)
    return set_id


def load_set(connection: Connection, set_id: int, *, reused: bool) -> TrainingSet | None:
    """The set with this id, or None."""
    row = connection.execute(
        "SELECT fingerprint, pairs_fingerprint, model_version, counts FROM training_sets WHERE id = %s",
        [set_id],
    ).fetchone()
    if row is None:
        return None
    negatives: dict[int, list[Negative]] = {}
    for pair_id, content_hash, text, reason, positive, negative, weight, code, group in connection.execute(
        _NEGATIVES, [set_id]
    ):
        negatives.setdefault(pair_id, []).append(
            Negative(
                content_hash,
                text,
                reason,
                positive,
                negative,
                None if code == text else code,
                weight,
                group,
            )
        )
    pairs = tuple(
        Pair(
            id=pair_id,
            split=split,
            origin=origin,
            query=query,
            positive_hash=positive_hash,
            positive_text=text,
            weight=weight,
            language=language,
            group_key=key,
            negatives=tuple(negatives.get(pair_id, ())),
            positive_code=None if code == text else code,
            because=because,
            copy_group=group,
            spared=frozenset(spared),
        )
        for (
            pair_id,
            split,
            origin,
            query,
            positive_hash,
            text,
            weight,
            language,
            key,
            code,
            because,
            group,
            spared,
        ) in connection.execute(_PAIRS, [set_id])
    )
    return TrainingSet(set_id, *row, pairs=pairs, reused=reused)


def _copy_pairs(connection: Connection, set_id: int, pairs: Sequence[Pair]) -> None:
    # COPY returns no ids, so they are drawn beforehand.
    ids = [
        row[0]
        for row in connection.execute(
            "SELECT nextval(pg_get_serial_sequence('training_pairs', 'id')) FROM generate_series(1, %s)",
            [len(pairs)],
        )
    ]
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY training_pairs (id, training_set_id, split, origin, query, positive_hash, positive_text, "
            "weight, language, group_key, because, copy_group, spared) FROM STDIN"
        ) as copy,
    ):
        for pair_id, pair in zip(ids, pairs, strict=True):
            copy.write_row(
                (
                    pair_id,
                    set_id,
                    pair.split,
                    pair.origin,
                    pair.query,
                    pair.positive_hash,
                    pair.positive_text,
                    pair.weight,
                    pair.language,
                    pair.group_key,
                    Jsonb(dict(pair.because)),
                    pair.copy_group,
                    sorted(pair.spared),
                )
            )
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY training_negatives (pair_id, negative_hash, negative_text, reason, positive_score, "
            "negative_score, weight, copy_group) FROM STDIN"
        ) as copy,
    ):
        for pair_id, pair in zip(ids, pairs, strict=True):
            for negative in pair.negatives:
                copy.write_row(
                    (
                        pair_id,
                        negative.content_hash,
                        negative.text,
                        negative.reason,
                        negative.positive_score,
                        negative.negative_score,
                        negative.weight,
                        negative.copy_group,
                    )
                )
