"""The queue of searches, and files that are put in place by a rename whose process died before it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import psutil

from pipeline.config import Settings
from pipeline.doctor.findings import Examination, Finding
from pipeline.errors import HoneloopError
from pipeline.search.spool import SearchSpool, queue_path
from pipeline.store.connections import Database

FLUSH_SECONDS = 120.0


def examine_queue(db: Database, settings: Settings, found: Examination) -> None:
    """Looks whether searches wait on disk, or were set aside; a service that runs writes them by itself."""
    path = queue_path(settings)
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as file:
            waiting = _count(file, "records")
            aside = _count(file, "unusable")
    except sqlite3.Error as error:
        found.add(
            [
                Finding(
                    "unreadable queue",
                    f"The queue of searches {path} cannot be read ({error}).",
                    hint="Move it away: the service makes a new one.",
                )
            ]
        )
        return
    if waiting:
        found.add(
            [
                Finding(
                    "waiting searches",
                    f"{waiting:,} searches wait in {path} to be written to the database.",
                    partial(_drain, db, settings),
                )
            ]
        )
    if aside:
        found.notes.append(
            f"{aside:,} records of searches are set aside in {path}: the database refused them. They are in"
            " its table `unusable`, with the reason."
        )


def examine_temporary(settings: Settings, found: Examination) -> None:
    """Looks for files named after the process that was writing them, which has ended."""
    for pattern in ("dagster/.dagster.yaml.*", "postgres/.handle_pids.json.*"):
        found.add(
            Finding("temporary file", f"{path} was not finished.", path.unlink)
            for path in sorted(settings.home_path.glob(pattern))
            if _writer_has_ended(path)
        )


def _writer_has_ended(path: Path) -> bool:
    pid = path.suffix.removeprefix(".")
    return pid.isdigit() and not psutil.pid_exists(int(pid))


def _drain(db: Database, settings: Settings) -> None:
    with SearchSpool(settings, db) as spool:
        if not spool.flush(FLUSH_SECONDS):
            raise HoneloopError(
                f"{spool.depth:,} searches still wait after {FLUSH_SECONDS:g} s.", hint="Run it again."
            )


def _count(file: sqlite3.Connection, table: str) -> int:
    known = file.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone()
    return int(file.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) if known else 0
