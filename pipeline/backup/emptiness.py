"""Whether there is anything in a home or its database that a restore would mix with what it brings."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import psycopg
from psycopg import sql

from pipeline.backup.queue import is_empty
from pipeline.backup.tables import kept_tables
from pipeline.config import Settings
from pipeline.errors import BadInputError
from pipeline.store.connections import Connection
from pipeline.store.server import dagster_database, database_url

# What tells people most about whose database it is.
_TELLING = ("feedback", "model_versions", "repositories", "searches")
SHOWN = 5
_HINT = "Restore into an empty one: set HONELOOP_HOME (and HONELOOP_DATABASE_URL, if it is set) to another."


def require_empty_home(settings: Settings, expected: Collection[str]) -> None:
    """Raises BadInputError if the home has checkpoints besides the expected ones, or searches that wait."""
    there = settings.checkpoints_path
    found = sorted(path.name for path in there.iterdir()) if there.is_dir() else []
    others = [name for name in found if not name.startswith(".") and name not in expected]
    if others:
        raise BadInputError(
            f"{settings.home_path} is not empty: it has the checkpoint {others[0][:12]}"
            f"{f' and {len(others) - 1} more' if others[1:] else ''}.",
            hint=_HINT,
        )
    if not is_empty(settings):
        raise BadInputError(
            f"{settings.home_path} is not empty: searches wait in its queue to be recorded.", hint=_HINT
        )


def require_empty_tables(connection: Connection, sql_path: Path) -> None:
    """Raises BadInputError, saying how many rows there are, if any table of Honeloop's has one."""
    counts: dict[str, int] = {}
    for name in kept_tables(connection, sql_path):
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name))).fetchone()
        if row is not None and row[0]:
            counts[name] = row[0]
    if counts:
        first = sorted(counts, key=lambda name: (name not in _TELLING, name))[:SHOWN]
        listed = ", ".join(f"{counts[name]:,} {name.replace('_', ' ')}" for name in first)
        listed += ", and more" if len(counts) > SHOWN else ""
        raise BadInputError(f"The database is not empty: it has {listed}.", hint=_HINT)


def require_no_runs(connection: Connection, settings: Settings) -> None:
    """Raises BadInputError if Dagster knows of runs: what they made is not in the backup.

    Args:
        connection: To Honeloop's own database, on the same server.
        settings: Say where Dagster's is.
    """
    name = dagster_database(settings)
    if connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
        return
    with psycopg.connect(database_url(settings, name)) as runs:
        row = runs.execute("SELECT to_regclass('runs') IS NOT NULL").fetchone()
        if row is None or not row[0]:
            return
        row = runs.execute("SELECT count(*) FROM runs").fetchone()
    if row is not None and row[0]:
        raise BadInputError(
            f"Dagster's database {name} is not empty: it has {row[0]:,} runs of another life.", hint=_HINT
        )
