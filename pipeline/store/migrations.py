"""Runs the numbered SQL files of `sql/`, forward and back, with yoyo."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict
from yoyo import get_backend, read_migrations
from yoyo.backends.base import DatabaseBackend

from pipeline.errors import BadInputError, HoneloopError

# yoyo reports each step at INFO; what ran is in the report that `apply` and `revert` return.
logging.getLogger("yoyo.migrations").setLevel(logging.WARNING)


@dataclass(frozen=True)
class MigrationReport:
    """The migrations that were run now, in order, and those in force afterwards."""

    ran: tuple[str, ...]
    applied: tuple[str, ...]


def apply(url: str, directory: Path) -> MigrationReport:
    """Applies every migration of `directory` that the database at `url` does not have yet.

    Raises:
        HoneloopError: the server is not Postgres 15+ with pgvector 0.8.4+, or a migration fails; that
            migration is then wholly undone.
    """
    _require_server(url)
    backend = get_backend(_yoyo_url(url))
    try:
        _wait_for_others(backend)
        pending = backend.to_apply(read_migrations(str(directory)))
        ran = tuple(str(m.id) for m in pending)
        try:
            backend.apply_migrations(pending)
        except psycopg.Error as error:
            raise _failed("applied", error) from error
        return MigrationReport(ran, _applied(backend, directory))
    finally:
        backend.connection.close()


def revert(url: str, directory: Path, count: int) -> MigrationReport:
    """Reverts the last `count` migrations; stops at the first that would lose what cannot be made again.

    Raises:
        BadInputError: `count` exceeds the number of applied migrations, or a migration refuses.
    """
    backend = get_backend(_yoyo_url(url))
    try:
        _wait_for_others(backend)
        pending = list(backend.to_rollback(read_migrations(str(directory))))
        if not 1 <= count <= len(pending):
            raise BadInputError(
                f"Cannot revert {count} migrations: {len(pending)} are applied.",
                hint=f"Give a number from 1 to {len(pending)}." if pending else "",
            )
        ran: list[str] = []
        for migration in pending[:count]:
            try:
                backend.rollback_one(migration)
            except psycopg.Error as error:
                raise _failed("reverted", error, str(migration.id)) from error
            ran.append(str(migration.id))
        return MigrationReport(tuple(ran), _applied(backend, directory))
    finally:
        backend.connection.close()


def _wait_for_others(backend: DatabaseBackend) -> None:
    """No other process migrates until this connection closes.

    By a lock that the server lets go when this process dies. yoyo's own is a row in a table, which a killed
    process leaves there: every later start would wait for it, and fail. Whoever holds this one knows that.
    """
    backend.execute("SELECT pg_advisory_lock(hashtextextended('honeloop.migrations', 0))")
    backend.break_lock()


def _applied(backend: DatabaseBackend, directory: Path) -> tuple[str, ...]:
    return tuple(sorted(str(m.id) for m in backend.to_rollback(read_migrations(str(directory)))))


def _failed(what: str, error: psycopg.Error, name: str = "") -> HoneloopError:
    diagnostic = error.diag
    return BadInputError(
        f"The migration {name} was not {what}: {diagnostic.message_primary or error}.".replace("  ", " "),
        hint=diagnostic.message_hint or "Nothing was changed.",
    )


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
        raise HoneloopError(
            f"The database cannot be reached: {str(error).strip()}.",
            hint="Check HONELOOP_DATABASE_URL and that the server runs; unset it for the embedded one.",
        ) from error
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
