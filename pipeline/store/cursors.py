"""Reading many rows, a few at a time, out of a cursor that the server keeps."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import psycopg
from psycopg.rows import TupleRow

from pipeline.store.connections import Connection


@contextmanager
def server_cursor(
    connection: Connection, name: str, *, binary: bool = False
) -> Generator[psycopg.ServerCursor[TupleRow]]:
    """A cursor of this name, which is closed at the end of the block, even if the server is gone by then.

    psycopg asks the server to close it first, and where that fails leaves it open, to be warned of later, by
    whoever happens to be running.

    Raises:
        psycopg.Error: the server went away, here at the latest.
    """
    cursor = connection.cursor(name, binary=binary)
    try:
        yield cursor
    finally:
        try:
            cursor.close()
        except psycopg.Error:
            cursor.close()  # the connection is closed now, so nothing is asked of it
            raise
