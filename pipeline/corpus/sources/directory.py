"""Reads a directory tree.

Symbolic links are never followed, so nothing outside the tree is read and no loop is entered.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from pipeline.corpus.sources.base import (
    IGNORED,
    NOT_A_FILE,
    Listing,
    SourceError,
    SourceFile,
    first_line,
    printable,
    shown_path,
)
from pipeline.corpus.sources.ignoring import IgnoreRules, rules_in
from pipeline.corpus.sources.reading import read_regular_file

# A version control system's own files.
_VERSION_CONTROL = frozenset({".git", ".hg", ".svn", ".bzr", ".jj"})

_Pending = list[tuple[str, bytes, IgnoreRules | None]]


class DirectorySource:
    """The files of a directory tree that its `.gitignore` files do not leave out.

    Args:
        root: The directory.
        excluded: Directories not entered, such as Honeloop's own home.
    """

    def __init__(self, root: Path, excluded: Collection[Path] = ()) -> None:
        self._root = root
        self._excluded = {os.path.realpath(path) for path in excluded}

    def list_files(self) -> Listing:
        """Lists the tree. Raises SourceError if its root cannot be listed."""
        if not self._root.is_dir():
            what = "is not a directory" if self._root.exists() else "does not exist"
            raise SourceError(f"{self._root} {what}.", hint="Was it moved or unmounted?")
        listing = Listing(None)
        pending: _Pending = [(str(self._root), b"", None)]
        while pending:
            directory, prefix, above = pending.pop()
            try:
                with os.scandir(directory) as scan:
                    entries = list(scan)
            except OSError as error:
                why = error.strerror or first_line(error.args)
                if not prefix:
                    raise SourceError(
                        f"{self._root} cannot be read ({why}).", hint="Check its permissions."
                    ) from error
                listing.unlist(shown_path(prefix), why)
                continue
            self._list_entries(entries, prefix, above, listing, pending)
        listing.files.sort(key=lambda file: file.path)
        return listing

    def _list_entries(
        self,
        entries: list[os.DirEntry[str]],
        prefix: bytes,
        above: IgnoreRules | None,
        listing: Listing,
        pending: _Pending,
    ) -> None:
        rules = above
        for entry in entries:
            if entry.name == ".gitignore":
                rules = rules_in(os.path.dirname(entry.path), os.fsdecode(prefix), above, listing.problems)
        for entry in entries:
            listing.count_entry()
            path = prefix + os.fsencode(entry.name)
            try:
                is_directory = entry.is_dir(follow_symlinks=False)
                is_file = entry.is_file(follow_symlinks=False)
                is_link = entry.is_symlink()
            except OSError as error:
                listing.problems.append(f"{printable(shown_path(path))}: {error.strerror}")
                continue
            if is_directory and self._never_entered(entry):
                continue
            if rules is not None and rules.ignores(os.fsdecode(path) + ("/" if is_directory else "")):
                listing.skipped[IGNORED] += 1
            elif is_link:
                listing.links.append(shown_path(path))
            elif is_directory:
                pending.append((entry.path, path + b"/", rules))
            elif is_file:
                listing.add(path, entry.path)
            else:
                listing.skipped[NOT_A_FILE] += 1

    def _never_entered(self, entry: os.DirEntry[str]) -> bool:
        return entry.name in _VERSION_CONTROL or os.path.realpath(entry.path) in self._excluded

    def read(self, file: SourceFile, max_bytes: int) -> bytes:
        """The file's bytes. Raises FileTooLargeError or FileUnreadableError."""
        return read_regular_file(file.handle, max_bytes, follow_link=False)
