"""One run of the loop at a time on one database: a lock that the server lets go when its holder dies."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import psycopg

from pipeline.errors import HoneloopError
from pipeline.store.connections import Connection, Database
from pipeline.store.locks import is_held, try_lock, unlock, wait_for_lock

LOCK = "honeloop.run_loop"
# Held beside it, and only beside it, by a run that fine-tunes.
FINE_TUNING_LOCK = "honeloop.run_loop.fine_tuning"


def run_under_way(db: Database) -> bool:
    """Whether a run of the loop is under way in any process; what it is doing need not be done beside it."""
    return is_held(db, LOCK)


def fine_tuning_under_way(db: Database) -> bool:
    """Whether a run of the loop that fine-tunes is under way in any process, whatever it is at now."""
    return is_held(db, FINE_TUNING_LOCK)


@contextmanager
def only_one(db: Database, *, fine_tunes: bool = False) -> "Generator[OnlyOne]":
    """Holds the lock for the block.

    Args:
        db: The loop's.
        fine_tunes: Whether fine-tuning is part of what is done meanwhile.

    Raises:
        HoneloopError: another process holds it.
    """
    lock = OnlyOne(db, fine_tunes=fine_tunes)
    try:
        lock.require()
        yield lock
    finally:
        lock.let_go()


class OnlyOne:
    """The lock of the run under way. Made by `only_one`."""

    def __init__(self, db: Database, *, fine_tunes: bool = False) -> None:
        self._db = db
        self._fine_tunes = fine_tunes
        self._held = ExitStack()
        self._connection: Connection | None = None

    def require(self) -> None:
        """Sees to it that the lock is held: a server that was stopped has forgotten it.

        Raises:
            HoneloopError: another process holds it.
            DatabaseAwayError: the database is away.
        """
        try:
            if self._connection is not None:
                self._connection.execute("SELECT 1")
                return
        except psycopg.Error:
            self.let_go()
        connection = self._held.enter_context(self._db.connect(autocommit=True))
        if not try_lock(connection, LOCK):
            raise HoneloopError(
                "Another run is under way on this database.",
                hint="Wait until it ends; `honeloop status` shows the runs.",
            )
        self._held.callback(unlock, connection, LOCK)
        if self._fine_tunes:
            wait_for_lock(
                connection, FINE_TUNING_LOCK
            )  # of one that ended just now, for a moment at the most
            self._held.callback(unlock, connection, FINE_TUNING_LOCK)
        self._connection = connection

    def let_go(self) -> None:
        """Others may run, at once."""
        self._connection = None
        self._held.close()
