"""Writing the file of a backup: beside its place, with hashes taken on the way, put in place by one
rename.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.backup.manifest import ABOUT, CHUNK, MANIFEST, OPENING, SEAL, Manifest, Member
from pipeline.durable import force_to_disk
from pipeline.errors import BadInputError, HoneloopError

# What it holds of people is nobody else's business.
MODE = 0o600


class Writer:
    """Members being added to a backup."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file
        self._members: dict[str, Member] = {}

    @contextmanager
    def member(self, name: str, *, compressed: bool = True) -> Generator[Pieces]:
        """A member to be written piece by piece."""
        info = zipfile.ZipInfo(name)  # dated 1980: when it is from is in the manifest
        info.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
        info.external_attr = MODE << 16
        with self._file.open(info, "w", force_zip64=True) as sink:
            pieces = Pieces(sink.write)
            yield pieces
            pieces.flush()
        self._members[name] = Member(length=pieces.length, sha256=pieces.digest.hexdigest())

    def add(self, name: str, content: bytes) -> None:
        """A small member at once."""
        with self.member(name) as pieces:
            pieces.write(content)

    def seal(self, manifest: Manifest) -> None:
        """Adds the manifest, which lists all members that were added; it comes last."""
        content = manifest.model_copy(update={"members": self._members}).model_dump_json(indent=1).encode()
        self.add(MANIFEST, content)
        self._file.comment = SEAL + hashlib.sha256(content).hexdigest().encode()


class Pieces:
    """Gathers pieces, as small as one row, hashes them and hands them on, a megabyte at a time."""

    def __init__(self, hand_on: Callable[[bytes], object]) -> None:
        self._hand_on = hand_on
        self._waiting = bytearray()
        self.length = 0
        self.digest = hashlib.sha256()

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Adds a piece."""
        self._waiting += piece
        if len(self._waiting) >= CHUNK:
            self.flush()

    def flush(self) -> None:
        """Hands on what waits."""
        gathered = bytes(self._waiting)
        self._waiting.clear()
        self.digest.update(gathered)
        self.length += len(gathered)
        self._hand_on(gathered)


@contextmanager
def writing(path: Path, *, force: bool) -> Generator[Writer]:
    """A backup that is at `path` when the block ends, and not at all if it raises.

    Args:
        path: Where it goes; readable by its owner only.
        force: Replace a file that is there.

    Raises:
        BadInputError: a file is there already, or there can be none.
        HoneloopError: the disk is full or may not be written to, or another process is writing this backup.
    """
    _require_place(path, force=force)
    unfinished = path.with_name(f".{path.name}.unfinished")
    with _clear_errors(path):
        descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
        with os.fdopen(descriptor, "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise HoneloopError(
                    f"Another process is writing {path}.", hint="Wait for it, or give another name."
                ) from error
            try:
                os.fchmod(descriptor, MODE)
                file.truncate(0)  # what a killed process left
                with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
                    writer = Writer(archive)
                    writer.add(OPENING, ABOUT)
                    yield writer
                file.flush()
                os.fsync(descriptor)
                _require_place(path, force=force)
                os.replace(unfinished, path)
            except BaseException:
                with suppress(OSError):
                    unfinished.unlink()
                raise
        force_to_disk(path.parent)


def _require_place(path: Path, *, force: bool) -> None:
    if path.is_dir():
        raise BadInputError(f"{path} is a directory.", hint="Give the name of a file in it.")
    if not path.parent.is_dir():
        raise BadInputError(f"There is no directory {path.parent}.", hint="Make it, or give another place.")
    if path.exists() and not force:
        raise BadInputError(
            f"{path} is there already.", hint="Give another name, or say --force to replace it."
        )


@contextmanager
def _clear_errors(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HoneloopError(
                f"The disk of {path} is full.",
                hint="Make room, or give another place; nothing was left there.",
            ) from error
        raise HoneloopError(
            f"The backup could not be written to {path}: {error.strerror or error}.",
            hint="Check that its directory may be written to; nothing was left there.",
        ) from error
