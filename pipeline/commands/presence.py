"""How a command finds the `honeloop up` of its home: a file that is locked for as long as that runs."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from pipeline.config import Settings
from pipeline.errors import HoneloopError


@dataclass(frozen=True)
class Presence:
    """A running `honeloop up`.

    Attributes:
        pid: Its process.
        dagster: The address of Dagster's web server.
        database: Which database it was started with, as a hash: an address may hold a password.
    """

    pid: int
    dagster: str
    database: str


@contextmanager
def claimed(settings: Settings) -> Generator[IO[str]]:
    """The home is this process's to run services for, until the block ends; the file is for `announce`.

    Raises:
        HoneloopError: another process does that already.
    """
    path = _path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HoneloopError(
                f"`honeloop up` runs for {settings.home_path} already.",
                hint="Stop it first, or set HONELOOP_HOME to another directory.",
            ) from error
        file.truncate(0)  # of one that was killed
        try:
            yield file
        finally:
            file.truncate(0)


def announce(file: IO[str], settings: Settings, dagster: str) -> None:
    """Says where the services are, once they answer."""
    json.dump(asdict(Presence(os.getpid(), dagster, _database(settings))), file)
    file.flush()


def running_services(settings: Settings) -> Presence | None:
    """The `honeloop up` of this home and database; None if there is none, or it is still starting."""
    try:
        file = _path(settings).open("r+")
    except (FileNotFoundError, PermissionError):
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            content = file.read()
        else:
            return None  # nobody holds it: what stands in it is of one that was killed
    if not content:
        return None
    presence = Presence(**json.loads(content))
    return presence if presence.database == _database(settings) else None


def _path(settings: Settings) -> Path:
    return settings.home_path / "up.lock"


def _database(settings: Settings) -> str:
    return hashlib.sha256((settings.database_url or "").encode()).hexdigest()
