"""Reads a git repository through libgit2: objects only, never its work tree.

Nothing a repository's configuration names is ever run: libgit2 has no hooks, and filters
act on check-out, which does not happen here.
"""

from __future__ import annotations

import os
from pathlib import Path

import pygit2
from pygit2.enums import FileMode, Option, RepositoryOpenFlag

from pipeline.corpus.sources.base import (
    SUBMODULE,
    UNSAFE_PATH,
    FileTooLargeError,
    FileUnreadableError,
    Listing,
    SourceError,
    SourceFile,
    first_line,
    printable,
    shown_path,
)

# A tree is read whole, so that one of a gigabyte, which packs into a megabyte, would be held in memory.
MAX_TREE_BYTES = 64_000_000

# NotFoundError is a KeyError too, InvalidSpecError a ValueError.
GIT_ERRORS = (pygit2.GitError, KeyError, ValueError, OSError)


def open_repository(path: Path) -> pygit2.Repository:
    """Opens the repository at `path`: a work tree (also a linked one), a `.git` directory or a bare one.

    Raises:
        SourceError: there is none at exactly this path, or libgit2 cannot read it.
    """
    trust_any_owner()
    try:
        return pygit2.Repository(str(path), RepositoryOpenFlag.NO_SEARCH)
    except GIT_ERRORS as error:
        if not path.exists():
            raise SourceError(f"{path} does not exist.", hint="Was it moved or unmounted?") from error
        if "not found" not in str(error):
            raise SourceError(f"{path} cannot be opened: {first_line(error.args)}.") from error
        top = pygit2.discover_repository(str(path)) if path.is_dir() else None
        where = Path(top).parent if top and Path(top).name == ".git" else top
        raise SourceError(
            f"{path} is not a git repository.",
            hint=f"It lies inside {where}: register that, or this as --kind directory." if where else "",
        ) from error


def trust_any_owner() -> None:
    """Lets libgit2 open repositories that belong to another user, in this process.

    The check it does by default protects against configuration that runs programs. Here objects are read and
    nothing is run, so a scheduler's service account may read everyone's repositories.
    """
    if pygit2.option(Option.GET_OWNER_VALIDATION):
        pygit2.option(Option.SET_OWNER_VALIDATION, False)


def resolve_commit(repository: pygit2.Repository, ref: str | None) -> pygit2.Commit:
    """The commit a ref names: a branch, a tag, a hash or any other revision; None is HEAD.

    Raises:
        SourceError: nothing was committed yet, or the ref names no commit here.
    """
    if ref is None:
        try:
            return repository.head.peel(pygit2.Commit)
        except GIT_ERRORS as error:
            if repository.is_empty or repository.head_is_unborn:
                raise SourceError(
                    "the repository has no commit at HEAD yet.",
                    hint="Commit something, or give --ref with a branch that has commits.",
                ) from error
            raise SourceError(f"HEAD cannot be read: {first_line(error.args)}.") from error
    try:
        found = repository.revparse_single(ref)
    except GIT_ERRORS as error:
        branches = sorted(shown_path(name) for name in repository.raw_listall_branches())[:10]
        raise SourceError(
            f"the ref {printable(ref)!r} does not exist in it.",
            hint=f"Branches there: {printable(', '.join(branches))}." if branches else "It has no branches.",
        ) from error
    try:
        return found.peel(pygit2.Commit)
    except GIT_ERRORS as error:
        raise SourceError(
            f"the ref {printable(ref)!r} names a {found.type_str}, not a commit.",
            hint="Give a branch, a tag or a commit.",
        ) from error


class GitSource:
    """The files of one commit."""

    def __init__(self, repository: pygit2.Repository, ref: str | None) -> None:
        self._repository = repository
        self._ref = ref

    def list_files(self) -> Listing:
        """Lists the commit's tree. Raises SourceError if the ref names no commit."""
        commit = resolve_commit(self._repository, self._ref)
        listing = Listing(str(commit.id))
        pending: list[tuple[bytes, str]] = [(b"", str(commit.tree_id))]
        while pending:
            prefix, tree_id = pending.pop()
            try:
                self._list_tree(prefix, tree_id, listing, pending)
            except GIT_ERRORS as error:  # a damaged repository, or a partial clone
                if not prefix:
                    raise SourceError(f"its tree {tree_id} cannot be read.") from error
                listing.unlist(shown_path(prefix), f"tree {tree_id}: {first_line(error.args)}")
        listing.files.sort(key=lambda file: file.path)
        return listing

    def _list_tree(
        self, prefix: bytes, tree_id: str, listing: Listing, pending: list[tuple[bytes, str]]
    ) -> None:
        if self._repository.odb.read_header(tree_id)[1] > MAX_TREE_BYTES:
            raise ValueError(f"it takes more than {MAX_TREE_BYTES:,} bytes")
        tree = self._repository[tree_id]
        if not isinstance(tree, pygit2.Tree):
            raise ValueError("it is none")
        for entry in tree:
            listing.count_entry()
            name = entry.raw_name or b""
            path = prefix + name
            if _is_unsafe(name):
                listing.skipped[UNSAFE_PATH] += 1
                shown = printable(shown_path(path))
                listing.problems.append(f"{shown}: left out, no git would write a file there")
            elif entry.filemode == FileMode.TREE:
                pending.append((path + b"/", str(entry.id)))
            elif entry.filemode == FileMode.COMMIT:
                listing.skipped[SUBMODULE] += 1
                shown = printable(shown_path(path))
                listing.problems.append(f"{shown}: a submodule, register it as a repository of its own")
            elif entry.filemode == FileMode.LINK:
                listing.links.append(shown_path(path))
            else:
                blob = str(entry.id)
                listing.add(path, blob, blob)

    def read(self, file: SourceFile, max_bytes: int) -> bytes:
        """The blob's bytes as committed. Raises FileTooLargeError or FileUnreadableError."""
        odb = self._repository.odb
        try:
            _, size = odb.read_header(file.handle)
            if size > max_bytes:
                raise FileTooLargeError
            return odb.read(file.handle)[1]
        except GIT_ERRORS as error:
            raise FileUnreadableError(f"blob {file.handle}: {first_line(error.args)}") from error


def _is_unsafe(name: bytes) -> bool:
    """Whether a tree's entry would lead out of the tree, or into the repository's own files, if checked out.

    Here nothing is written; but a path is shown, and people and their tools may follow it.
    """
    return name.lower() in {b"", b".", b"..", b".git"} or b"/" in name


def is_git_directory(path: Path) -> bool:
    """Whether a git repository stands at exactly this path."""
    if not (path / ".git").exists() and not (path / "HEAD").is_file():
        return False
    try:
        open_repository(path)
    except SourceError:
        return os.path.lexists(path / ".git")  # a broken one is still meant as one, and gets a clear error
    return True
