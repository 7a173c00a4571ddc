"""Locks by name that the server holds for a connection, and lets go when it or its process dies."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, suppress

import psycopg

from pipeline.store.connections import Connection, Database

# Shared by whoever has people's queries in memory to learn from; had alone by whoever makes them forgotten.
LEARNING_LOCK = "honeloop.learning"


def try_lock(connection: Connection, name: str) -> bool:
    """Takes the lock until the connection closes, unless another connection has it; whether it did."""
    row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name]).fetchone()
    return row is not None and bool(row[0])


def unlock(connection: Connection, name: str) -> None:
    """Lets the lock go now: the server notices only a moment later that a connection was closed."""
    with suppress(psycopg.Error):  # whose server is away holds nothing
        connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])


def wait_for_lock(connection: Connection, name: str) -> None:
    """Takes the lock until the connection closes; waits for whoever has it."""
    connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [name])


@contextmanager
def shared(db: Database, name: str) -> Generator[None]:
    """Shares the lock with others who share it, for the block; waits for whoever has it alone."""
    with db.connect(autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock_shared(hashtextextended(%s, 0))", [name])
        try:
            yield
        finally:
            with suppress(psycopg.Error):  # as in `unlock`
                connection.execute("SELECT pg_advisory_unlock_shared(hashtextextended(%s, 0))", [name])


def learning(db: Database) -> AbstractContextManager[None]:
    """Shares `LEARNING_LOCK` for the block; waits for whoever has it alone."""
    return shared(db, LEARNING_LOCK)


@contextmanager
def locked_if_free(db: Database, name: str) -> Generator[bool]:
    """Holds the lock for the block if nobody else does, and says whether it does."""
    with db.connect(autocommit=True) as connection:
        locked = try_lock(connection, name)
        try:
            yield locked
        finally:
            if locked:
                unlock(connection, name)


def is_held(db: Database, name: str) -> bool:
    """Whether any connection to this database holds the lock now."""
    with db.connect() as connection:
        row = connection.execute(
            # A lock on one 64-bit key is listed by its two halves.
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND (classid::bigint << 32 | objid::bigint) = hashtextextended(%s, 0))",
            [name],
        ).fetchone()
    return bool(row and row[0])
