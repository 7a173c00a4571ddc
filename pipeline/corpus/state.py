"""What the snippets of a repository are now: their fingerprint, their counts, one to look at."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pipeline.store.connections import Database


@dataclass(frozen=True)
class Sample:
    """A snippet to show: where it stands and its code."""

    path: str
    symbol: str
    language: str
    code: str


def live_fingerprint(db: Database, repository_id: int | None = None) -> str:
    """SHA-256 over which snippets there are and what their texts are; of one repository, or of all."""
    digest = hashlib.sha256()
    with db.connect() as connection, connection.cursor(name="live_fingerprint") as cursor:
        cursor.execute(
            "SELECT repository_id, path, symbol, content_hash FROM snippets WHERE vanished_at IS NULL"
            " AND (%(id)s::bigint IS NULL OR repository_id = %(id)s)"
            ' ORDER BY repository_id, path COLLATE "C", symbol COLLATE "C"',
            {"id": repository_id},
        )
        for repository, path, symbol, content in cursor:
            digest.update(f"{repository}\0{path}\0{symbol}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def sample(db: Database, repository_id: int) -> Sample | None:
    """A documented function of ordinary length, always the same one; None without snippets."""
    with db.connect() as connection:
        row = connection.execute(
            "SELECT s.path, s.symbol, s.language, s.code FROM snippets s JOIN contents c USING (content_hash)"
            " WHERE s.repository_id = %s AND s.vanished_at IS NULL"
            " ORDER BY c.documentation IS NULL, abs(length(s.code) - 600), s.path, s.symbol LIMIT 1",
            [repository_id],
        ).fetchone()
    return None if row is None else Sample(*row)
