"""One run of the loop at a time on one database: a lock that the server lets go when its holder dies."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import psycopg

from pipeline.errors import HoneloopError
from pipeline.store.connections import Connection, Database
from pipeline.store.locks import is_held, try_lock, unlock

LOCK = "honeloop.run_loop"


def run_under_way(db: Database) -> bool:
    """Whether a run of the loop is under way in any process; what it is doing need not be done beside it."""
    return is_held(db, LOCK)


@contextmanager
def only_one(db: Database) -> "Generator[OnlyOne]":
    """Holds the lock for the block.

    Raises:
        HoneloopError: another process holds it.
    """
    lock = OnlyOne(db)
    try:
        lock.require()
        yield lock
    finally:
        lock.let_go()


class OnlyOne:
    """The lock of the run under way. Made by `only_one`."""

    def __init__(self, db: Database) -> None:
        self._db = db
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
        self._connection = connection

    def let_go(self) -> None:
        """Others may run, at once."""
        self._connection = None
        self._held.close()
