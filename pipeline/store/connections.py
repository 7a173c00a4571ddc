"""Connections to Honeloop's database, with pgvector's types registered."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from pipeline.config import Settings
from pipeline.store import migrations
from pipeline.store.failures import explained, unreachable
from pipeline.store.server import DATABASE, database_url
from pipeline.store.vector_types import register_vectors

Connection = psycopg.Connection[TupleRow]


@dataclass(frozen=True)
class Database:
    """Where the database is. Cheap to copy and to send to another process."""

    url: str

    @contextmanager
    def connect(self, *, autocommit: bool = False, **options: Any) -> Generator[Connection]:
        """A connection in a transaction that commits at the end of the block and rolls back on an error.

        Args:
            autocommit: Commit each statement by itself; `with connection.transaction()` still works.
            options: Passed to `psycopg.connect`.

        Raises:
            DatabaseAwayError: the server cannot be reached, or went away within the block.
            HoneloopError: its disk is full.
        """
        try:
            connection = psycopg.connect(self.url, autocommit=autocommit, **options)
        except psycopg.OperationalError as error:
            raise unreachable(error) from error
        try:
            with connection:
                register_vectors(connection)
                yield connection
        except psycopg.Error as error:
            known = explained(error)
            if known is None:
                raise
            raise known from error


def open_database(settings: Settings) -> Database:
    """The database, its server started, created if missing and migrated to the newest schema."""
    url = database_url(settings)
    if settings.database_url is None:
        create_database(settings, DATABASE)
    migrations.apply(url, settings.sql_path)
    return Database(url)


def create_database(settings: Settings, name: str) -> None:
    """Creates the database `name` on the server in use, unless it is there."""
    # Every server has template1, whatever the configured URL names.
    with psycopg.connect(database_url(settings, "template1"), autocommit=True) as connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone()
        if found is None:
            try:
                connection.execute(
                    sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))
                )
            except psycopg.errors.DuplicateDatabase:  # another process was faster
                return
            except psycopg.errors.UniqueViolation:
                return
