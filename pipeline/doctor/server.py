"""The embedded Postgres: one that runs for nobody, one that was killed, one that was never finished."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import psutil

from pipeline.config import Settings
from pipeline.doctor.findings import Examination, Finding
from pipeline.store import leftovers
from pipeline.store.server import START_SECONDS, database_url


def examine_server(settings: Settings, found: Examination) -> None:
    """Looks at the embedded server from outside, before anything starts it."""
    data = settings.home_path / "postgres"
    unfinished = leftovers.unfinished_cluster(data)
    if unfinished.exists() and not _being_made(unfinished):
        found.add(
            [
                Finding(
                    "half-made database",
                    f"{unfinished} was not finished.",
                    partial(shutil.rmtree, unfinished),
                )
            ]
        )
    if not data.is_dir():
        return
    if leftovers.has_stale_lock_file(data):
        pid = leftovers.named_postmaster(data)
        found.add(
            [
                Finding(
                    "stale lock file",
                    f"{data / leftovers.LOCK_FILE} names process {pid}, which is not this database's server:"
                    " that was killed. The next start recovers what it had committed.",
                    partial(leftovers.clear_leftovers, data, START_SECONDS),
                )
            ]
        )
    dead, recorded = leftovers.dead_users(data), leftovers.users(data)
    if leftovers.running_postmaster(data) is not None and set(recorded) <= set(dead):
        what = (
            f"Postgres runs (process {leftovers.running_postmaster(data)}), and nobody uses it: the processes"
            " that did were killed."
        )
        # Whoever uses it next is the last to, and stops it: this process, then.
        found.add([Finding("leftover server", what, partial(database_url, settings))])
    elif dead:
        found.add(
            [
                Finding(
                    "dead users of the server",
                    f"{len(dead)} killed processes are on record as using Postgres, which would never be"
                    " stopped.",
                    partial(leftovers.forget_dead_users, data),
                )
            ]
        )


def _being_made(unfinished: Path) -> bool:
    """Whether some `initdb` works there."""
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "initdb" and str(unfinished.resolve()) in (process.info["cmdline"] or []):
            return True
    return False
