"""Whose judgements an import must not bring back: people who asked to be forgotten.

What is kept of them is a hash of the name with a salt of its own, SHA-256. It answers "is it this name?" and
nothing else; but whoever holds the database can try names, and names are easily guessed. Less cannot keep the
promise.

A promise is about the past: who searches or judges here again under the name does so anew, and is recorded;
and so is an imported line that is dated after the day of the promise.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pipeline.store.connections import Connection


@dataclass(frozen=True)
class Promise:
    """That one name's past stays forgotten."""

    salt: bytes
    name_hash: bytes
    at: datetime


@dataclass(frozen=True)
class Promises:
    """All of them, with what was found for each name, as a file holds the same names again and again."""

    each: Sequence[Promise]
    _found: dict[str, datetime | None] = field(default_factory=dict[str, "datetime | None"])

    def bar(self, name: str, at: datetime | None) -> bool:
        """Whether a judgement by `name`, of that date or of none, must stay out."""
        if name not in self._found:
            moments = [promise.at for promise in self.each if _hash(promise.salt, name) == promise.name_hash]
            self._found[name] = max(moments, default=None)
        since = self._found[name]
        return since is not None and (at is None or at <= since)


def promise(connection: Connection, name: str) -> datetime:
    """Promises to keep `name` out from now on. Waits for imports under way to end.

    Returns:
        The moment from which on it holds.
    """
    connection.execute("LOCK TABLE forgotten IN SHARE ROW EXCLUSIVE MODE")
    for known in _read(connection).each:
        if _hash(known.salt, name) == known.name_hash:
            connection.execute("DELETE FROM forgotten WHERE name_hash = %s", [known.name_hash])
    salt = secrets.token_bytes(16)
    row = connection.execute(
        "INSERT INTO forgotten (salt, name_hash, at) VALUES (%s, %s, clock_timestamp()) RETURNING at",
        [salt, _hash(salt, name)],
    ).fetchone()
    assert row is not None  # an insert without a condition returns its row
    return row[0]


def promises(connection: Connection) -> Promises:
    """All that hold until the connection's transaction ends: a new one waits for it."""
    connection.execute("LOCK TABLE forgotten IN SHARE MODE")
    return _read(connection)


def _read(connection: Connection) -> Promises:
    rows = connection.execute("SELECT salt, name_hash, at FROM forgotten ORDER BY at").fetchall()
    return Promises([Promise(bytes(salt), bytes(name_hash), at) for salt, name_hash, at in rows])


def _hash(salt: bytes, name: str) -> bytes:
    return hashlib.sha256(salt + name.encode()).digest()
