"""What `honeloop up` keeps running: each thing that ends by itself is started again, within reason.

What does not belong here: which things these are, and when they are stopped (up.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from pipeline.config import PROJECT_ROOT, Settings
from pipeline.errors import HoneloopError
from pipeline.store.server import database_url
from pipeline.store.server_leftovers import end_orphans, running_postmaster

STOP_SECONDS = 20.0
# Who ends more often than this in so many seconds has a reason, and a person has to look at it.
MOST_DEATHS = 5
WITHIN_SECONDS = 600.0
LONGEST_REASON = 300
LARGEST_LOG = 16 * 1024 * 1024
SET_BACK_SECONDS = 60.0


class Kept(Protocol):
    """Something that is to run."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def log(self) -> Path:
        """Where it says what it does."""
        ...

    def ended(self) -> str | None:
        """What became of it, to be said after its name; None while it runs. Cheap."""
        ...

    def start(self) -> None:
        """Starts it. Raises HoneloopError if it does not start."""
        ...


def require_running(kept: Kept) -> None:
    """Raises HoneloopError, with the end of its log, if it has ended."""
    how = kept.ended()
    if how is not None:
        raise HoneloopError(f"{kept.name} {how}: {_tail(kept.log)}", hint=f"All of it is in {kept.log}.")


@dataclass
class Keeper:
    """Starts one thing again whenever it has ended: at once the first time, then after longer and longer.

    Args:
        kept: What is to run.
        clock: Tells seconds; never goes back.
    """

    kept: Kept
    clock: Callable[[], float] = time.monotonic
    _deaths: deque[float] = field(default_factory=deque[float], init=False)
    _due: float | None = field(default=None, init=False)

    def look(self) -> str | None:
        """Starts it again if it has ended and its turn has come; returns what there is to say.

        Raises:
            HoneloopError: it has ended too often.
        """
        how = self.kept.ended()
        if how is None:
            self._due = None
            return None
        if self._due is None:
            self._due = self.clock() + self._delay(how)
        if self.clock() < self._due:
            return None
        self._due = None
        try:
            self.kept.start()
        except HoneloopError as error:
            why = " ".join(str(error).split())
            return f"{self.kept.name} {how}, and does not start; it is tried again. {why[:LONGEST_REASON]}"
        return f"{self.kept.name} {how}, and was started again."

    def _delay(self, how: str) -> float:
        now = self.clock()
        self._deaths.append(now)
        while self._deaths[0] < now - WITHIN_SECONDS:
            self._deaths.popleft()
        if len(self._deaths) > MOST_DEATHS:
            raise HoneloopError(
                f"{self.kept.name} {how}, the {len(self._deaths)}th time within {WITHIN_SECONDS / 60:.0f}"
                f" minutes; it is not started again. Its log ends: {_tail(self.kept.log)}",
                hint=f"All of it is in {self.kept.log}; `honeloop doctor` looks for what else is wrong.",
            )
        return 0.0 if len(self._deaths) == 1 else 2.0 ** (len(self._deaths) - 1)


class Service:
    """A child process in a session of its own, and its log.

    Args:
        name: Its own, and that of its log.
        command: What is run.
        environment: Of the process.
        logs: The directory of logs.
    """

    def __init__(self, name: str, command: list[str], environment: dict[str, str], logs: Path) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self._command, self._environment = command, environment
        self._process: subprocess.Popen[bytes] | None = None
        self._sessions: set[int] = set()

    def start(self) -> None:
        """Starts it, whatever became of an earlier one."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        _put_aside(self.log)
        with self.log.open("ab") as sink:
            self._process = subprocess.Popen(
                self._command,
                cwd=PROJECT_ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches `up` alone, which then stops the children one by one.
                start_new_session=True,
            )
        self._sessions.add(self._process.pid)

    def ended(self) -> str | None:
        """How it ended; None while it runs."""
        code = None if self._process is None else self._process.poll()
        if code is None:
            return None
        return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with {code}"

    def stop(self) -> None:
        """Ends the child, and then whatever it had started: politely, then not.

        Dagster's code servers end by themselves only while its database answers, and that ends with `up`.
        Those of a daemon that was killed are nobody's children; they are still in its session.
        """
        if self._process is not None:
            for demand in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
                if self._process.poll() is not None:
                    break
                self._process.send_signal(demand)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(STOP_SECONDS)
        _, alive = psutil.wait_procs(self._started(), timeout=1)
        for left in alive:
            with suppress(psutil.NoSuchProcess):
                left.terminate()
        _, alive = psutil.wait_procs(alive, timeout=STOP_SECONDS)
        for left in alive:
            with suppress(psutil.NoSuchProcess):
                left.kill()

    def _started(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) in self._sessions:
                    found.append(process)
        return found


class EmbeddedPostgres:
    """The embedded server, which this process has started or found started.

    Args:
        settings: What is in force; of the embedded server.
    """

    name = "Postgres"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._data = settings.home_path / "postgres"
        self.log = self._data / "log"
        self._pid = running_postmaster(self._data)

    def ended(self) -> str | None:
        """Says so also if another one runs by now, that another command has started."""
        if self._pid is not None and running_postmaster(self._data) == self._pid:
            return None
        return "is gone" if self._pid is None else f"(process {self._pid}) is gone"

    def start(self) -> None:
        """Starts it with the same data and socket, or takes part in one that another command has started."""
        # Processes of a killed server that are at work do not notice; searches cannot wait for their end.
        end_orphans(self._data)
        database_url(self._settings)
        self._pid = running_postmaster(self._data)


class WallClock:
    """Notices when the clock is put back."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def put_back(self) -> float:
        """By how many seconds, since it was asked last; 0 unless that is worth mentioning."""
        # The other clock only goes on; how far this one is ahead of it falls when it is put back.
        before, self._offset = self._offset, time.time() - time.monotonic()
        return before - self._offset if before - self._offset > SET_BACK_SECONDS else 0.0


def _put_aside(log: Path) -> None:
    """Begins a log anew that has grown large; of those before it one is kept."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > LARGEST_LOG:
            log.replace(log.with_name(f"{log.name}.1"))


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4000))
            text = file.read().decode(errors="replace")
    except OSError:
        return "nothing"
    return " | ".join(text.strip().splitlines()[-5:]) or "nothing"
