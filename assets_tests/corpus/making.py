"""Makes real git repositories and directory trees for the tests of this room."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pygit2
from pygit2.enums import FileMode, ObjectType

AUTHOR = pygit2.Signature("A. Author", "author@example.org", 1_700_000_000, 0)

# A file's content, or the mode of an entry and what it names: a link's target, a submodule's commit.
Entry = str | bytes | tuple[FileMode, str]


def function(name: str, says: str = "") -> str:
    """A small Python function with a docstring."""
    says = says or f"Gives back what {name} was called with."
    return f'def {name}(value):\n    """{says}"""\n    return value\n'


class GitRepository:
    """A git repository whose commits are written as objects; nothing is checked out unless said."""

    def __init__(self, path: Path, *, bare: bool = False) -> None:
        self.path = path
        self.git = pygit2.init_repository(str(path), bare=bare, initial_head="main")
        self._minutes = 0

    def commit(
        self,
        files: Mapping[str | bytes, Entry],
        ref: str = "refs/heads/main",
        *,
        message: str | bytes = "A commit",
        author: pygit2.Signature = AUTHOR,
        parents: Sequence[str] | None = None,
    ) -> str:
        """Commits exactly these files, and moves `ref` there; returns the commit.

        Its parent is what `ref` names, unless `parents` are given. Each commit is a minute after the last.
        """
        entries: dict[bytes, tuple[FileMode, str]] = {}
        for path, content in files.items():
            raw = path.encode() if isinstance(path, str) else path
            if isinstance(content, tuple):
                mode, target = content
                is_link = mode == FileMode.LINK
                entries[raw] = (mode, str(self.git.create_blob(target.encode())) if is_link else target)
            else:
                data = content.encode() if isinstance(content, str) else content
                entries[raw] = (FileMode.BLOB, str(self.git.create_blob(data)))
        known = self.git.references.get(ref)
        if parents is None:
            parents = [str(known.peel(pygit2.Commit).id)] if known is not None else []
        self._minutes += 1
        # Raw, because pygit2 takes a message as text only, and it need not be; nor need it have a parent.
        lines = [f"tree {self._tree(entries)}", *(f"parent {parent}" for parent in parents)]
        moment = f"{author.time + 60 * self._minutes} +0000"
        lines += [f"{role} {author.name} <{author.email}> {moment}" for role in ("author", "committer")]
        raw = message.encode() if isinstance(message, str) else message
        commit = self.git.odb.write(ObjectType.COMMIT, "\n".join([*lines, "", ""]).encode() + raw)
        self.git.references.create(ref, commit, force=True)
        return str(commit)

    def _tree(self, entries: Mapping[bytes, tuple[FileMode, str]]) -> str:
        # Raw, because pygit2 takes names as text only, and a path need not be.
        here: dict[bytes, tuple[FileMode, str]] = {}
        below: dict[bytes, dict[bytes, tuple[FileMode, str]]] = {}
        for path, entry in entries.items():
            first, slash, rest = path.partition(b"/")
            if slash:
                below.setdefault(first, {})[rest] = entry
            else:
                here[first] = entry
        for name, inside in below.items():
            here[name] = (FileMode.TREE, self._tree(inside))
        in_order = sorted(here.items(), key=lambda e: e[0] + (b"/" if e[1][0] == FileMode.TREE else b""))
        raw = b"".join(f"{mode:o} ".encode() + n + b"\0" + bytes.fromhex(oid) for n, (mode, oid) in in_order)
        return str(self.git.odb.write(ObjectType.TREE, raw))

    def check_out(self) -> None:
        """Writes the work tree of HEAD."""
        self.git.checkout_head(strategy=pygit2.enums.CheckoutStrategy.FORCE)


def write_tree(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Writes files under a directory, made if need be."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


@contextmanager
def as_nobody() -> Generator[None]:
    """Runs a block as a user without rights, whom file permissions bind; root is bound by none.

    On Linux only this thread, and those that it starts, look at files as that user: others may start
    processes meanwhile.
    """
    nobody = 65534
    if os.geteuid() != 0:
        yield
        return
    become = ctypes.CDLL(None).setfsuid if sys.platform == "linux" else os.seteuid
    become(nobody)
    try:
        yield
    finally:
        become(0)
