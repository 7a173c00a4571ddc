"""That one run of the loop at a time is under way on a database, in any process.

What does not belong here: what the run does (in_process.py).
"""

from contextlib import ExitStack

import psycopg

from pipeline.errors import HoneloopError
from pipeline.store.connections import Connection, Database
from pipeline.store.locks import is_held, try_lock

LOCK = "honeloop.run_loop"


class OnlyOne:
    """The lock of the run under way, which the server lets go when this process dies, however it dies.

    Entering it raises HoneloopError if another run holds it.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._held = ExitStack()
        self._connection: Connection | None = None

    def __enter__(self) -> "OnlyOne":
        self.require()
        return self

    def __exit__(self, *exception: object) -> None:
        self._held.close()

    def require(self) -> None:
        """Sees to it that the lock is held: a server that was stopped has forgotten it.

        Raises:
            HoneloopError: another run holds it.
            UnavailableError: the database is away.
        """
        try:
            if self._connection is not None:
                self._connection.execute("SELECT 1")
                return
        except psycopg.Error:
            self._connection = None
            self._held.close()
        connection = self._held.enter_context(self._db.connect(autocommit=True))
        if not try_lock(connection, LOCK):
            raise HoneloopError(
                "Another run is under way on this database.",
                hint="Wait until it ends; `honeloop status` shows the runs.",
            )
        self._connection = connection


def run_under_way(db: Database) -> bool:
    """Whether a run of the loop is under way in any process; what it is doing need not be done beside it."""
    return is_held(db, LOCK)
