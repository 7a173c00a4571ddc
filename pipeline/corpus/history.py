"""The history of a git repository: its commits, the newest first, and the functions that each changed.

Objects alone are read, as everywhere in this room. A commit's change is what it does to its only parent, or
for a commit without parents to nothing at all; merges have no change of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path, PurePosixPath

import pygit2
from pygit2.enums import DeltaStatus, FileMode, SortMode

from pipeline.corpus import skipping
from pipeline.corpus.bounded.limits import BeyondLimitsError
from pipeline.corpus.changed_functions import Function
from pipeline.corpus.decoding import character_set
from pipeline.corpus.definitions import MAX_PATH_BYTES
from pipeline.corpus.languages import Language, language_of
from pipeline.corpus.sources.base import SourceError, first_line, shown_path
from pipeline.corpus.sources.git import GIT_ERRORS

# Versions of files held parsed: a commit's new version of a file is mostly the next newer one's old version.
_VERSIONS_KEPT = 512
# As many moved files are looked for among the added and deleted ones of a commit.
_RENAME_LIMIT = 50

_ASIDE_DIRECTORIES = frozenset(
    (
        *("test", "tests", "testing", "testdata", "__tests__", "spec", "specs", "fixtures", "e2e"),
        *("benchmark", "benchmarks", "bench", "benches", "example", "examples", "sample", "samples"),
        *("doc", "docs", "demo", "demos", "mocks", "__mocks__"),
    )
)
_ASIDE_NAME = re.compile(
    r"^test_|_tests?\.|\.(?:test|spec|stories)\.|_spec\.|^conftest\.py$|^[a-zA-Z]\w*Tests?\.\w+$|^setup\.py$"
)
_ASIDE_SYMBOL = re.compile(r"(?:^|\.)(?:tests?\.|test_|Test[A-Z_]|Benchmark[A-Z_])")


@dataclass(frozen=True)
class Commit:
    """One commit as the history tells it.

    Attributes:
        id: Its hash.
        message: The whole of it, as text.
        author: Name and e-mail address, for telling programs from people; not to be stored.
        at: When it was committed, UTC.
        parents: How many it has.
        cut_off: Whether its parents are missing here: the history of a shallow clone begins with it.
    """

    id: str
    message: str
    author: str
    at: datetime
    parents: int
    cut_off: bool


@dataclass(frozen=True)
class ChangedFunction:
    """A function as a commit left it.

    Attributes:
        path: Where it then stood.
        symbol: What it was then called.
        code: Its code without documentation.
        before: The same of what it had been; None if it is new.
    """

    path: str
    symbol: str
    code: str
    before: str | None


@dataclass
class Changes:
    """What a commit did.

    Attributes:
        files: How many files it touched.
        functions: The functions whose code it changed, those of tests and examples left out.
        aside: The functions of tests, examples and documentation that it changed.
        code_files: How many of the files are code of the project itself.
    """

    files: int = 0
    functions: list[ChangedFunction] = field(default_factory=list[ChangedFunction])
    aside: list[ChangedFunction] = field(default_factory=list[ChangedFunction])
    code_files: int = 0


class TooManyFilesError(Exception):
    """A commit touches more files than are looked into."""


class History:
    """The commits that lead to one commit.

    Args:
        repository: An opened repository; bare or not, whole or shallow.
        tip: The newest commit.
        max_file_bytes: Larger files are not looked into.
        functions_in: Finds the functions of a file: `Cutter.functions`.

    Raises:
        SourceError: there is no such commit.
    """

    def __init__(
        self,
        repository: pygit2.Repository,
        tip: str,
        max_file_bytes: int,
        functions_in: Callable[[bytes, Language], dict[str, Function]],
    ) -> None:
        self._repository = repository
        self._max_file_bytes = max_file_bytes
        self._functions_in = functions_in
        try:
            self._tip = repository[tip].peel(pygit2.Commit).id
        except GIT_ERRORS as error:
            raise SourceError(f"its commit {tip} cannot be read: {first_line(error.args)}.") from error
        self._cut_off = _shallow_boundary(repository)
        self._functions = lru_cache(maxsize=_VERSIONS_KEPT)(self._functions_of)

    def commits(self, limit: int) -> Iterator[Commit]:
        """The newest `limit` commits by date. Where a history is damaged, it ends."""
        walk = self._repository.walk(self._tip, SortMode.TIME)
        for _ in range(limit):
            try:
                commit = next(walk)
            except StopIteration:
                return
            except GIT_ERRORS:  # a parent is missing
                return
            encoding = _encoding_of(commit)
            author = commit.author.raw_name + b" <" + commit.author.raw_email + b">"
            yield Commit(
                id=str(commit.id),
                message=_text(commit.raw_message, encoding),
                author=_text(author, encoding),
                at=datetime.fromtimestamp(_within_a_calendar(commit.commit_time), UTC),
                parents=len(commit.parent_ids),
                cut_off=str(commit.id) in self._cut_off,
            )

    def leads_to(self, ancestor: str) -> bool:
        """Whether `ancestor` is the tip or stands behind it: if not, history was rewritten since."""
        try:
            return str(self._tip) == ancestor or self._repository.descendant_of(self._tip, ancestor)
        except GIT_ERRORS:
            return False

    def changes(self, commit_id: str, max_files: int) -> Changes:
        """What a commit with at most one parent did.

        Raises:
            TooManyFilesError: it touches more than `max_files` files.
            SourceError: a part of it is missing or damaged.
        """
        try:
            return self._changes(self._repository[commit_id].peel(pygit2.Commit), max_files)
        except GIT_ERRORS as error:
            raise SourceError(f"commit {commit_id}: {first_line(error.args)}.") from error

    def _changes(self, commit: pygit2.Commit, max_files: int) -> Changes:
        if commit.parent_ids:
            parent = self._repository[commit.parent_ids[0]].peel(pygit2.Commit)
            diff = parent.tree.diff_to_tree(commit.tree, context_lines=0)
        else:
            diff = commit.tree.diff_to_tree(swap=True, context_lines=0)
        changes = Changes(files=len(diff))
        if changes.files > max_files:
            raise TooManyFilesError
        # Telling what moved compares contents, which are read whole for it.
        if not any(self._is_large(side) for each in diff.deltas for side in (each.old_file, each.new_file)):
            diff.find_similar(rename_limit=_RENAME_LIMIT)
        deltas = [delta for delta in diff.deltas if delta.status != DeltaStatus.UNMODIFIED]
        # What was in any of the files before, so that a function moved between them is not a changed one.
        before: set[bytes] = set()
        called: dict[str, str] = {}
        after: list[tuple[str, dict[str, Function], dict[str, Function]]] = []
        for delta in deltas:
            old: dict[str, Function] | None = None
            if delta.status not in (DeltaStatus.ADDED, DeltaStatus.COPIED):
                old = self._functions(delta.old_file.raw_path, str(delta.old_file.id), delta.old_file.mode)
                before.update(function.essence for function in (old or {}).values())
                called.update((symbol, function.code) for symbol, function in (old or {}).items())
            if delta.status == DeltaStatus.DELETED:
                continue
            new = self._functions(delta.new_file.raw_path, str(delta.new_file.id), delta.new_file.mode)
            if new is not None:
                after.append((shown_path(delta.new_file.raw_path), new, old or {}))
        for path, functions, own in after:
            aside = is_aside(path)
            changes.code_files += not aside
            for symbol, function in functions.items():
                if function.essence in before:
                    continue
                beside = aside or _ASIDE_SYMBOL.search(symbol)
                # Files may have functions of one name: of the same file first.
                earlier = own[symbol].code if symbol in own else called.get(symbol)
                (changes.aside if beside else changes.functions).append(
                    ChangedFunction(path, symbol, function.code, earlier)
                )
        return changes

    def _is_large(self, file: pygit2.DiffFile) -> bool:
        if file.mode not in (FileMode.BLOB, FileMode.BLOB_EXECUTABLE):
            return False
        return self._repository.odb.read_header(file.id)[1] > self._max_file_bytes

    def _functions_of(self, raw_path: bytes, blob: str, mode: int) -> dict[str, Function] | None:
        """The functions of one version of a file; None if it is no code that would be read."""
        path = shown_path(raw_path)
        odb = self._repository.odb
        if (
            mode not in (FileMode.BLOB, FileMode.BLOB_EXECUTABLE)  # a link, or a submodule
            or len(path.encode()) > MAX_PATH_BYTES
            or skipping.reason_by_path(path, distribution=False) is not None
            or (language_of(path, b"") is None and PurePosixPath(path).suffix)
            or odb.read_header(blob)[1] > self._max_file_bytes
        ):
            return None
        source = odb.read(blob)[1]
        language = language_of(path, source)
        if language is None or skipping.reason_by_bytes(source) is not None:
            return None
        try:
            return self._functions_in(source, language)
        except BeyondLimitsError:
            return None


def is_aside(path: str) -> bool:
    """Whether a file is a test, an example or documentation, by its path: not what a commit is about."""
    *directories, name = PurePosixPath(path).parts
    return not _ASIDE_DIRECTORIES.isdisjoint(part.lower() for part in directories) or bool(
        _ASIDE_NAME.search(name)
    )


def _shallow_boundary(repository: pygit2.Repository) -> frozenset[str]:
    if not repository.is_shallow:
        return frozenset()
    try:
        lines = (Path(repository.path) / "shallow").read_text("ascii").split()
    except (OSError, ValueError):
        return frozenset()
    return frozenset(lines)


def _encoding_of(commit: pygit2.Commit) -> str | None:
    try:
        return commit.message_encoding
    except UnicodeDecodeError:  # any bytes may stand there
        return None


def _text(raw: bytes, encoding: str | None) -> str:
    """Bytes of a commit as text: UTF-8, else as the commit says, else Latin-1, in which all bytes are."""
    for name in ("utf-8", character_set(encoding or ""), "latin-1"):
        try:
            if name is not None:
                return raw.decode(name).replace("\0", "\ufffd")
        except UnicodeError:
            continue
    raise AssertionError("Latin-1 has all bytes")


def _within_a_calendar(seconds: int) -> int:
    """A commit's time may be any 64-bit number; what Postgres and Python can hold ends earlier."""
    return min(max(seconds, 0), 253_402_300_799)
