"""Looking through everything but Dagster's storage, and reaching the database without changing it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

import psycopg
from psycopg.rows import TupleRow

from pipeline.config import Settings
from pipeline.doctor.clones import examine_clones
from pipeline.doctor.files import examine_queue, examine_temporary
from pipeline.doctor.findings import Examination, Finding
from pipeline.doctor.models import examine_models, examine_trainings
from pipeline.doctor.secrets import examine_secrets
from pipeline.doctor.server import examine_server
from pipeline.doctor.tables import examine_tables
from pipeline.errors import HoneloopError
from pipeline.progress import Progress
from pipeline.store.connections import Database, open_database
from pipeline.store.failures import unreachable
from pipeline.store.migrations import applied_in, names_in
from pipeline.store.server import url_for_a_look


def examine(settings: Settings, found: Examination, progress: Progress) -> Database | None:
    """Fills in what is found. Nothing is changed, but that an embedded server that is stopped runs meanwhile.

    Returns:
        The database; None if there is none yet, it cannot be reached, or its schema is not today's.
    """
    if settings.database_url is None:
        if not settings.home_path.is_dir():
            found.notes.append(f"There is nothing under {settings.home_path} yet.")
            return None
        examine_server(settings, found)
    examine_temporary(settings, found)
    examine_trainings(settings, found)
    db = _reached(settings, found)
    if db is not None:
        examine_tables(db, found)
        examine_models(db, settings, found)
        examine_clones(db, settings, found)
        examine_queue(db, settings, found)
        examine_secrets(db, settings, found, progress)
    return db


def _reached(settings: Settings, found: Examination) -> Database | None:
    if settings.database_url is None and not (settings.home_path / "postgres").is_dir():
        found.notes.append("There is no database yet.")
        return None
    try:
        db = Database(url_for_a_look(settings))
        missing = _pending(db, settings)
    except HoneloopError as error:
        if isinstance(error.__cause__, psycopg.OperationalError) and "does not exist" in error.message:
            found.notes.append("There is no database yet.")
        else:
            found.add([Finding("unreachable database", error.message, hint=error.hint)])
        return None
    if missing:
        found.add(
            [
                Finding(
                    "pending migrations",
                    f"{len(missing)} migrations are not applied yet: {', '.join(missing)}.",
                    partial(open_database, settings),
                )
            ]
        )
        return None
    return db


@contextmanager
def _plain(db: Database) -> Generator[psycopg.Connection[TupleRow]]:
    """A connection to a database that may have no vectors yet."""
    try:
        with psycopg.connect(db.url) as connection:
            yield connection
    except psycopg.OperationalError as error:
        raise unreachable(error) from error


def _pending(db: Database, settings: Settings) -> list[str]:
    """The migrations that the database does not have yet, asked without changing anything."""
    wanted = names_in(settings.sql_path)
    with _plain(db) as connection:
        if connection.execute("SELECT to_regclass('_yoyo_migration')").fetchone() == (None,):
            return list(wanted)
        applied = set(applied_in(connection))
    return [name for name in wanted if name not in applied]
