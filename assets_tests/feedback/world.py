"""A small world to judge in: repositories with snippets, and searches that showed some of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.store.connections import Database

Code = Mapping[str, Mapping[str, str]]


def content_hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def add_code(db: Database, files: Code, repository: str = "demo", language: str = "python") -> dict[str, int]:
    """Adds snippets given as {path: {symbol: text}}, in that order in each file; ids by "path:symbol"."""
    ids: dict[str, int] = {}
    with db.connect() as connection:
        connection.execute(
            "INSERT INTO repositories (name, kind, location) VALUES (%s, 'directory', '/x') "
            "ON CONFLICT DO NOTHING",
            [repository],
        )
        for path, symbols in files.items():
            for position, (symbol, text) in enumerate(symbols.items()):
                connection.execute(
                    "INSERT INTO contents (content_hash, text) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                    [content_hash(text), text],
                )
                row = connection.execute(
                    "INSERT INTO snippets (repository_id, path, symbol, kind, language, signature, code, "
                    "start_line, end_line, content_hash) "
                    "SELECT id, %s, %s, 'function', %s, %s, %s, %s, %s, %s FROM repositories WHERE name = %s "
                    "RETURNING id",
                    [
                        path,
                        symbol,
                        language,
                        f"def {symbol}",
                        text,
                        1 + 10 * position,
                        9 + 10 * position,
                        content_hash(text),
                        repository,
                    ],
                ).fetchone()
                assert row is not None
                ids[f"{path}:{symbol}"] = row[0]
    return ids


def vanish(db: Database, snippet_id: int) -> None:
    with db.connect() as connection:
        connection.execute("UPDATE snippets SET vanished_at = now() WHERE id = %s", [snippet_id])


def show(db: Database, query: str, snippet_ids: Sequence[int], user: str | None = None) -> str:
    """A search that was answered with these snippets at ranks 1, 2, …"""
    with db.connect() as connection:
        row = connection.execute(
            "INSERT INTO searches (query, source, user_name) VALUES (%s, 'search', %s) RETURNING id::text",
            [query, user],
        ).fetchone()
        assert row is not None
        for rank, snippet_id in enumerate(snippet_ids, start=1):
            connection.execute(
                "INSERT INTO impressions (search_id, snippet_id, rank, score) VALUES (%s, %s, %s, 0.5)",
                [row[0], snippet_id, rank],
            )
    return row[0]


def write_lines(path: Path, *lines: Mapping[str, object] | bytes) -> Path:
    """A file with one line each: JSON, or the bytes as they are."""
    path.write_bytes(
        b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    )
    return path
