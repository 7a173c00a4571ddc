"""One run of the loop at a time on one database: a lock that the server lets go when its holder dies."""

from collections.abc import Generator
from contextlib import contextmanager

from pipeline.errors import HoneloopError
from pipeline.store.connections import Database

LOCK = "honeloop.run_loop"


def run_under_way(db: Database) -> bool:
    """Whether a run of the loop is under way in any process; what it is doing need not be done beside it."""
    with db.connect() as connection:
        row = connection.execute(
            # A lock on one 64-bit key is listed by its two halves.
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND (classid::bigint << 32 | objid::bigint) = hashtextextended(%s, 0))",
            [LOCK],
        ).fetchone()
    return bool(row and row[0])


@contextmanager
def only_one(db: Database) -> Generator[None]:
    """Holds the lock for the block.

    Raises:
        HoneloopError: another process holds it.
    """
    with db.connect(autocommit=True) as connection:
        row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [LOCK]).fetchone()
        if row is None or not row[0]:
            raise HoneloopError(
                "Another run is under way on this database.",
                hint="Wait until it ends; `honeloop status` shows the runs.",
            )
        yield
