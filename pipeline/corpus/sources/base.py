"""What every kind of source gives: a list of files, and the bytes of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.errors import HoneloopError

# Reasons that only a source can know; those that a path or a content tells are in `corpus/skipping.py`.
SYMBOLIC_LINK = "symbolic link"
SUBMODULE = "submodule"
IGNORED = "ignored by .gitignore"  # a directory that is ignored as a whole counts once
NOT_A_FILE = "not a regular file"
OUTSIDE = "outside the distribution"
UNREADABLE = "unreadable"
UNSAFE_PATH = "unsafe path"

# Far beyond any real repository; a tree made to explode stops here instead of filling the memory.
MAX_ENTRIES = 1_000_000


class SourceError(HoneloopError):
    """A source cannot be read at all: it is gone, unreachable, empty, or not what it was registered as."""


class FileUnreadableError(Exception):
    """One file cannot be read; the message says why. The source's other files are unaffected."""


class FileTooLargeError(Exception):
    """One file exceeds the limit it was to be read under."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source.

    Args:
        path: From the source's root, with `/`; always valid text (see `shown_path`).
        handle: What the source itself finds the file by.
        blob_hash: Names the content, if that is known without reading it; else None.
    """

    path: str
    handle: str
    blob_hash: str | None = None


@dataclass
class Listing:
    """The files of a source at one moment.

    Args:
        commit_id: What was listed: a git commit, a distribution's version; None for a directory.
        links: Paths of symbolic links. Never followed: they may lead outside, or back.
        skipped: How many other entries the source itself left out, by reason.
        problems: One clear line each.
        unlisted: Directories (ending in `/`) whose entries could not be listed: what was known of them
            still holds.
    """

    commit_id: str | None
    files: list[SourceFile] = field(default_factory=list[SourceFile])
    links: list[str] = field(default_factory=list[str])
    skipped: Counter[str] = field(default_factory=Counter[str])
    problems: list[str] = field(default_factory=list[str])
    unlisted: list[str] = field(default_factory=list[str])
    _entries: int = 0
    _paths: set[str] = field(default_factory=set[str])

    def add(self, raw_path: bytes, handle: str, blob_hash: str | None = None) -> None:
        """Adds a file by the bytes of its path."""
        path = shown_path(raw_path)
        if path in self._paths:
            self.skipped[UNREADABLE] += 1
            self.problems.append(f"{printable(path)}: left out, two files have this path once it is text")
            return
        if path.encode() != raw_path:
            self.problems.append(f"{printable(path)}: the path is not UTF-8 and is shown with escapes")
        self._paths.add(path)
        self.files.append(SourceFile(path, handle, blob_hash))

    def count_entry(self) -> None:
        """Counts whatever was met: a file, a directory, a link. Raises SourceError beyond MAX_ENTRIES."""
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise SourceError(
                f"it has more than {MAX_ENTRIES:,} files and directories.",
                hint="Register a part of it as a directory.",
            )

    def unlist(self, directory: str, why: object) -> None:
        """Notes that a directory (`""` or ending in `/`) could not be listed."""
        self.unlisted.append(directory)
        self.problems.append(f"{printable(directory)}: the directory cannot be read ({why})")


class Source(Protocol):
    """One place code is read from."""

    def list_files(self) -> Listing:
        """Lists all files. Raises SourceError if the source cannot be read at all."""
        ...

    def read(self, file: SourceFile, max_bytes: int) -> bytes:
        """The bytes of one listed file.

        Raises:
            FileTooLargeError: it has more than `max_bytes`; it was then not read whole.
            FileUnreadableError: it cannot be read.
        """
        ...


def shown_path(raw: bytes) -> str:
    r"""A path as text: UTF-8, and bytes that are not UTF-8 written as `\xe9`."""
    return raw.decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """The text on one line, control characters escaped, so that it can stand in a report or a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def first_line(words: Iterable[object]) -> str:
    """An error's message, in one printable line."""
    return printable(" ".join(str(word) for word in words).strip().rstrip("."))
