"""What the snippets of a repository are now: their fingerprint, their counts, one to look at."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.store.connections import Database

# No text of Postgres' holds a zero byte, and a hash has 32 bytes: two states cannot be written alike.
_FINGERPRINT = """
    SELECT encode(sha256(coalesce(
        string_agg(int8send(repository_id) || sha256(convert_to(path, 'UTF8')) || sha256(texts), ''::bytea
                   ORDER BY repository_id, path COLLATE "C"),
        '')), 'hex')
    FROM (
        SELECT repository_id, path,
               string_agg(convert_to(symbol, 'UTF8') || '\\x00'::bytea || content_hash, ''::bytea
                          ORDER BY symbol COLLATE "C") AS texts
        FROM snippets
        WHERE vanished_at IS NULL AND (%(id)s::bigint IS NULL OR repository_id = %(id)s)
        GROUP BY repository_id, path
    ) AS files
"""


@dataclass(frozen=True)
class Sample:
    """A snippet to show: where it stands and its code."""

    path: str
    symbol: str
    language: str
    code: str


def live_fingerprint(db: Database, repository_id: int | None = None) -> str:
    """SHA-256 over which snippets there are and what their texts are; of one repository, or of all.

    Made by the server, file by file, so that no more than a digest of each file is in memory at once.
    """
    with db.connect() as connection:
        row = connection.execute(_FINGERPRINT, {"id": repository_id}).fetchone()
    assert row is not None  # an aggregate always returns one row
    return row[0]


def sample(db: Database, repository_id: int) -> Sample | None:
    """A documented function of ordinary length, always the same one; None without snippets."""
    with db.connect() as connection:
        row = connection.execute(
            "SELECT s.path, s.symbol, s.language, s.code FROM snippets s JOIN contents c USING (content_hash)"
            " WHERE s.repository_id = %s AND s.vanished_at IS NULL"
            " ORDER BY c.documentation IS NULL, abs(octet_length(s.code) - 600), s.path, s.symbol LIMIT 1",
            [repository_id],
        ).fetchone()
    return None if row is None else Sample(*row)
