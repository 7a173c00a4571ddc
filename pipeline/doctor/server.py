"""The embedded Postgres: one that runs for nobody, one that was killed, one that was never finished."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import psutil

from pipeline.config import Settings
from pipeline.doctor.findings import Examination, Finding
from pipeline.store.server import START_SECONDS, database_url
from pipeline.store.server_leftovers import (
    LOCK_FILE,
    clear_leftovers,
    clear_unfinished_cluster,
    dead_users,
    forget_dead_users,
    has_stale_lock_file,
    named_postmaster,
    running_postmaster,
    unfinished_cluster,
    users,
)


def examine_server(settings: Settings, found: Examination) -> None:
    """Looks at the embedded server from outside, before anything starts it."""
    data = settings.home_path / "postgres"
    unfinished = unfinished_cluster(data)
    if unfinished.exists() and not _being_made(unfinished):
        found.add(
            [
                Finding(
                    "half-made database",
                    f"{unfinished} was not finished.",
                    partial(clear_unfinished_cluster, data),
                )
            ]
        )
    if not data.is_dir():
        return
    if has_stale_lock_file(data):
        pid = named_postmaster(data)
        found.add(
            [
                Finding(
                    "stale lock file",
                    f"{data / LOCK_FILE} names process {pid}, which is not this database's server:"
                    " that was killed. The next start recovers what it had committed.",
                    partial(clear_leftovers, data, START_SECONDS),
                )
            ]
        )
    dead, recorded, pid = dead_users(data), users(data), running_postmaster(data)
    if pid is not None and set(recorded) <= set(dead):
        what = f"Postgres runs (process {pid}), and nobody uses it: the processes that did were killed."
        # Whoever uses it next is the last to, and stops it: this process, then.
        found.add([Finding("leftover server", what, partial(database_url, settings))])
    elif dead:
        found.add(
            [
                Finding(
                    "dead users of the server",
                    f"{len(dead)} killed processes are on record as using Postgres, which would never be"
                    " stopped.",
                    partial(forget_dead_users, data),
                )
            ]
        )


def _being_made(unfinished: Path) -> bool:
    """Whether some `initdb` works there."""
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "initdb" and str(unfinished.resolve()) in (process.info["cmdline"] or []):
            return True
    return False
