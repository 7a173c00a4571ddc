"""Runs the numbered SQL files of `sql/`, forward and back.

yoyo reads the files and keeps the list of those applied. It would mark a migration as applied in a
transaction after the migration's own, and keep others out by a row that outlives its process; so
transactions and the lock are made here: a process that is killed leaves each migration done and marked, or
neither, and locks nobody out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict
from yoyo import get_backend, read_migrations
from yoyo.backends.base import DatabaseBackend
from yoyo.migrations import Migration

from pipeline.errors import BadInputError, HoneloopError
from pipeline.store.failures import unreachable

# yoyo reports each step at INFO; what ran is in the report that `apply` and `revert` return.
logging.getLogger("yoyo.migrations").setLevel(logging.WARNING)

_TABLE = re.compile(r"^CREATE TABLE (?:IF NOT EXISTS )?(\w+)", re.MULTILINE)


@dataclass(frozen=True)
class MigrationReport:
    """The migrations that were run now, in order, and those in force afterwards."""

    ran: tuple[str, ...]
    applied: tuple[str, ...]


def apply(url: str, directory: Path, only: Collection[str] | None = None) -> MigrationReport:
    """Applies every migration of `directory` that the database at `url` does not have yet.

    Each is a transaction of its own; a second process waits, and then finds nothing to do.

    Args:
        url: The database.
        directory: Holds the migrations.
        only: The ids of those that are applied; None: all.

    Raises:
        HoneloopError: the server is not Postgres 15+ with pgvector 0.8.4+, the database was migrated by a
            newer Honeloop, or a migration fails; that migration is then wholly undone.
    """
    _require_server(url)
    with _alone(url) as backend:
        _require_known(backend, directory)
        ran: list[str] = []
        for migration in backend.to_apply(read_migrations(str(directory))):
            name = str(migration.id)
            if only is None or name in only:
                with _failures("applied", name), backend.transaction():
                    migration.process_steps(backend, "apply")
                    backend.mark_one(migration, log=False)
                ran.append(name)
        return MigrationReport(tuple(ran), _applied(backend))


def revert(url: str, directory: Path, count: int) -> MigrationReport:
    """Reverts the last `count` migrations in one transaction: all of them, or, if one refuses, none.

    Raises:
        BadInputError: `count` exceeds the number of applied migrations, or a migration refuses because it
            would lose what cannot be made again.
        HoneloopError: the server cannot be reached, or the database was migrated by a newer Honeloop, which
            alone knows the way back.
    """
    _require_server(url)
    with _alone(url) as backend:
        _require_known(backend, directory)
        pending: list[Migration] = list(backend.to_rollback(read_migrations(str(directory))))
        if not 1 <= count <= len(pending):
            raise BadInputError(
                f"Cannot revert {count} migrations: {len(pending)} are applied.",
                hint=f"Give a number from 1 to {len(pending)}." if pending else "",
            )
        with backend.transaction():
            for migration in pending[:count]:
                with _failures("reverted", str(migration.id)):
                    migration.process_steps(backend, "rollback")
                    backend.unmark_one(migration, log=False)
        return MigrationReport(tuple(str(m.id) for m in pending[:count]), _applied(backend))


def applied_in(connection: psycopg.Connection[tuple[object, ...]]) -> tuple[str, ...]:
    """The ids of the migrations in force, in order, as the connection's transaction sees them."""
    rows = connection.execute("SELECT migration_id FROM _yoyo_migration ORDER BY migration_id").fetchall()
    return tuple(str(row[0]) for row in rows)


def names_in(directory: Path) -> tuple[str, ...]:
    """The ids of all migrations there are, in order."""
    return tuple(sorted(str(migration.id) for migration in read_migrations(str(directory))))


def tables_in(directory: Path) -> tuple[str, ...]:
    """The names of the tables that the migrations make, in order; not those that come and go with indexes."""
    made = (_TABLE.findall(path.read_text(encoding="utf-8")) for path in directory.glob("*.sql"))
    return tuple(sorted({name for names in made for name in names}))


@contextmanager
def _alone(url: str) -> Generator[DatabaseBackend]:
    """Yoyo's way to the database, for one process at a time; the server lets go of a dead one's lock."""
    with psycopg.connect(url, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(hashtextextended('honeloop.migrate', 0))")
        backend = get_backend(_yoyo_url(url))
        try:
            backend.break_lock()  # yoyo's own, of a process that was killed: nobody else is here
            backend.ensure_internal_schema_updated()
            yield backend
        finally:
            backend.connection.close()


def _applied(backend: DatabaseBackend) -> tuple[str, ...]:
    rows = backend.execute(f"SELECT migration_id FROM {backend.migration_table_quoted}").fetchall()
    return tuple(sorted(str(row[0]) for row in rows))


def _require_known(backend: DatabaseBackend, directory: Path) -> None:
    unknown = sorted(set(_applied(backend)) - set(names_in(directory)))
    if unknown:
        raise HoneloopError(
            f"This database was migrated by a newer Honeloop: {', '.join(unknown)} is not known here.",
            hint="Use that Honeloop, or go back with its `honeloop migrate --down N`. Nothing was changed.",
        )


@contextmanager
def _failures(what: str, name: str) -> Generator[None]:
    """What the database says against a migration, as a sentence."""
    try:
        yield
    except psycopg.Error as error:
        said = error.diag.message_primary or str(error).strip()
        raise BadInputError(
            f"The migration {name} was not {what}: {said}.",
            hint=error.diag.message_hint or "Nothing was changed.",
        ) from error


def _require_server(url: str) -> None:
    try:
        with psycopg.connect(url) as connection:
            if connection.info.server_version < 150000:
                major = connection.info.server_version // 10000
                raise HoneloopError(
                    f"Postgres 15 or newer is needed; this server is {major}.",
                    hint="Point HONELOOP_DATABASE_URL at a newer server, or unset it for the embedded one.",
                )
            row = connection.execute(
                "SELECT coalesce((SELECT extversion FROM pg_extension WHERE extname = 'vector'),"
                " (SELECT default_version FROM pg_available_extensions WHERE name = 'vector'))"
            ).fetchone()
    except psycopg.OperationalError as error:
        raise unreachable(error) from error
    version = row[0] if row else None
    if version is None:
        raise HoneloopError(
            "This Postgres server has no pgvector.", hint="Install pgvector 0.8.4 or newer on the server."
        )
    if tuple(int(part) for part in version.split(".")) < (0, 8, 4):
        raise HoneloopError(
            f"pgvector {version} has known index corruption.",
            hint="Install pgvector 0.8.4 or newer and run ALTER EXTENSION vector UPDATE.",
        )


def _yoyo_url(url: str) -> str:
    """The same place as a URL that yoyo reads: it takes host, port and the rest as query arguments."""
    from urllib.parse import quote, urlencode

    parts = {key: str(value) for key, value in conninfo_to_dict(url).items() if value is not None}
    user, password = parts.pop("user", ""), parts.pop("password", "")
    database = parts.pop("dbname", "")
    host, port = parts.pop("host", ""), parts.pop("port", "")
    authority = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
    if host.startswith("/"):
        parts["host"] = host
    else:
        authority += host + (f":{port}" if port else "")
        port = ""
    if port:
        parts["port"] = port
    return f"postgresql+psycopg://{authority}/{quote(database)}?{urlencode(parts)}"
