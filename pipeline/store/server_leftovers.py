"""What a crash can leave of the embedded server: told apart from a server that runs, and cleared away.

Postgres mends its own data. What it cannot know is who still uses it, and whether the process that its lock
file names is Postgres at all: after a crash or a restart of the machine, that number may be anybody's.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from fasteners import InterProcessLock

# Held while a server is made, started or stopped: one for each home, so that every user can have one.
START_LOCK = ".postgres.lock"
LOCK_FILE = "postmaster.pid"
SOCKET_LOCK_FILE = ".s.PGSQL.5432.lock"
# The processes that use the server; the last one stops it. The library's own file.
USERS_FILE = ".handle_pids.json"
VERSION_FILE = "PG_VERSION"
ORPHAN_SECONDS = 5.0


def start_lock(data: Path) -> InterProcessLock:
    """What is held while the server with this data starts or stops."""
    from fasteners import InterProcessLock

    return InterProcessLock(data.parent / START_LOCK)


def clear_unfinished_cluster(data: Path) -> None:
    """Deletes what a killed `initdb` left; waits for one that is at work, which leaves nothing."""
    with start_lock(data):
        shutil.rmtree(unfinished_cluster(data), ignore_errors=True)


def unfinished_cluster(data: Path) -> Path:
    """Where a data directory is made."""
    return data.with_name(f"{data.name}.unfinished")


def running_postmaster(data: Path) -> int | None:
    """The process id of the server that runs on this data directory; None if none does."""
    pid = named_postmaster(data)
    return pid if pid is not None and _is_postmaster(pid, data) else None


def named_postmaster(data: Path) -> int | None:
    """The process id in the lock file, whatever process that is now; None without one."""
    try:
        first = (data / LOCK_FILE).read_text().split("\n", 1)[0].strip()
    except OSError:
        return None
    return int(first) if first.isdigit() else None


def has_stale_lock_file(data: Path) -> bool:
    """Whether there is a lock file though no server runs."""
    return (data / LOCK_FILE).exists() and running_postmaster(data) is None


def orphans(data: Path) -> list[psutil.Process]:
    """Server processes at work in the directory though no server runs: each ends when it notices."""
    if running_postmaster(data) is not None:
        return []
    found: list[psutil.Process] = []
    for process in psutil.process_iter(["name"]):
        try:
            if process.info["name"] == "postgres" and _at_work(process, data):
                found.append(process)
        except psutil.Error:
            continue
    return found


def end_orphans(data: Path) -> None:
    """Ends the processes of a killed server: politely, so that they leave in order, and then not.

    What they had not committed is lost with them, as with the server they belonged to.
    """
    left = orphans(data)
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                end(process)
        _, left = psutil.wait_procs(left, timeout=ORPHAN_SECONDS)


def clear_leftovers(data: Path, patience: float) -> None:
    """Takes away what would keep a server from starting, or from ever being stopped.

    Args:
        data: The data directory.
        patience: How many seconds to wait for the processes of a killed server to end.
    """
    deadline = time.monotonic() + patience
    while left := orphans(data):
        if time.monotonic() > deadline:
            return  # the start will fail, and say that they are there
        psutil.wait_procs(left, timeout=0.2)
    with start_lock(data):
        # One that is about to start has its process already.
        if has_stale_lock_file(data):
            # Both name the killed process, whose number may be somebody else's by now.
            (data / SOCKET_LOCK_FILE).unlink(missing_ok=True)
            (data / LOCK_FILE).unlink(missing_ok=True)
    forget_dead_users(data)


def users(data: Path) -> list[int]:
    """The process ids that are on record as using the server, dead ones among them."""
    try:
        recorded = json.loads((data / USERS_FILE).read_text() or "[]")
    except (OSError, ValueError):
        return []
    return [pid for pid in recorded if isinstance(pid, int)]


def dead_users(data: Path) -> list[int]:
    """Those of the recorded processes that have ended without saying so: killed ones."""
    return [pid for pid in users(data) if not _lives(pid)]


def forget_dead_users(data: Path) -> None:
    """Takes killed processes off the record, so that the last living one stops the server."""
    if not dead_users(data):
        return
    with start_lock(data):
        unfinished = data / f"{USERS_FILE}.{os.getpid()}"
        unfinished.write_text(json.dumps([pid for pid in users(data) if _lives(pid)]))
        os.replace(unfinished, data / USERS_FILE)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _is_postmaster(pid: int, data: Path) -> bool:
    try:
        process = psutil.Process(pid)
        return process.name() == "postgres" and _at_work(process, data)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # cannot be told, so it may be
        return True


def _at_work(process: psutil.Process, data: Path) -> bool:
    """Whether it lives, and works in the directory, as every process of Postgres does in that of its data."""
    if process.status() == psutil.STATUS_ZOMBIE:
        return False
    return Path(process.cwd()) == data.resolve()
