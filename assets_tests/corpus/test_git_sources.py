"""Reading files from git repositories, where they stand and through clones of their URLs."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import FileMode, ObjectType

from assets_tests.corpus.making import AUTHOR, GitRepository, function, write_tree
from pipeline.config import Settings
from pipeline.corpus.repositories import add_repository
from pipeline.corpus.sources import base
from pipeline.corpus.sources.base import (
    FileTooLargeError,
    FileUnreadableError,
    Listing,
    Source,
    SourceError,
)
from pipeline.corpus.sources.clones import clone_path, fetched_clone
from pipeline.corpus.sources.git import GitSource, open_repository
from pipeline.corpus.sources.opening import current_commit
from pipeline.store.connections import Database

LARGE = 10_000_000


def paths(listing: Listing) -> list[str]:
    return [file.path for file in listing.files]


def contents(source: Source) -> dict[str, bytes]:
    return {file.path: source.read(file, LARGE) for file in source.list_files().files}


def git_source(path: Path, ref: str | None = None) -> GitSource:
    return GitSource(open_repository(path), ref)


@pytest.fixture
def origin(tmp_path: Path) -> GitRepository:
    repository = GitRepository(tmp_path / "origin")
    repository.commit({"a.py": function("a"), "lib/b.py": function("b")})
    return repository


def test_git_gives_what_is_committed_and_not_the_work_tree(origin: GitRepository) -> None:
    origin.check_out()
    write_tree(origin.path, {"a.py": "changed = True\n", "new.py": "untracked = True\n"})
    expected = {"a.py": function("a").encode(), "lib/b.py": function("b").encode()}
    assert contents(git_source(origin.path)) == expected
    assert contents(git_source(origin.path / ".git")) == expected


def test_git_never_touches_the_repository(origin: GitRepository) -> None:
    origin.check_out()
    before = {p: p.stat().st_mtime_ns for p in origin.path.rglob("*")}
    contents(git_source(origin.path, "main"))
    assert {p: p.stat().st_mtime_ns for p in origin.path.rglob("*")} == before


def test_every_way_to_name_a_commit(origin: GitRepository) -> None:
    first = str(origin.git.head.target)
    second = origin.commit({"a.py": function("second")})
    origin.git.create_tag("v1", pygit2.Oid(hex=first), ObjectType.COMMIT, AUTHOR, "annotated")
    origin.git.references.create("refs/tags/light", first)
    origin.git.references.create("refs/heads/topic/x", first)
    for ref, commit in {
        None: second,
        "main": second,
        "refs/heads/main": second,
        "v1": first,
        "light": first,
        "topic/x": first,
        "main~1": first,
        first: first,
        first[:10]: first,
    }.items():
        assert git_source(origin.path, ref).list_files().commit_id == commit, ref


@pytest.mark.parametrize("ref", ["nope", "main~7", "0" * 40, "--help", "a..b", "refs/heads/", "main:a.py"])
def test_a_ref_that_names_no_commit(origin: GitRepository, ref: str) -> None:
    with pytest.raises(SourceError, match=r"does not exist|not a commit"):
        git_source(origin.path, ref).list_files()


def test_the_branches_there_are_named_when_a_ref_is_not_found(origin: GitRepository) -> None:
    with pytest.raises(SourceError) as error:
        git_source(origin.path, "mian").list_files()
    assert error.value.hint == "Branches there: main."


@pytest.mark.parametrize("bare", [True, False])
def test_a_repository_without_commits(tmp_path: Path, bare: bool) -> None:
    GitRepository(tmp_path / "new", bare=bare)
    with pytest.raises(SourceError, match="no commit at HEAD yet"):
        git_source(tmp_path / "new").list_files()
    with pytest.raises(SourceError, match="does not exist") as error:
        git_source(tmp_path / "new", "main").list_files()
    assert "no branches" in error.value.hint


def test_head_on_an_unborn_branch_of_a_repository_that_has_others(origin: GitRepository) -> None:
    origin.git.set_head("refs/heads/unborn")
    with pytest.raises(SourceError, match="no commit at HEAD yet"):
        git_source(origin.path).list_files()
    assert paths(git_source(origin.path, "main").list_files()) == ["a.py", "lib/b.py"]


def test_an_empty_commit_is_an_empty_source(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path)
    repository.commit({})
    assert paths(git_source(tmp_path).list_files()) == []


def test_bare_repositories_and_linked_worktrees(origin: GitRepository, tmp_path: Path) -> None:
    bare = GitRepository(tmp_path / "bare.git", bare=True)
    bare.commit({"c.py": function("c")})
    assert paths(git_source(bare.path).list_files()) == ["c.py"]

    origin.check_out()
    origin.commit({"topic.py": function("topic")}, "refs/heads/topic")
    origin.git.add_worktree("linked", str(tmp_path / "linked"), origin.git.references["refs/heads/topic"])
    assert (tmp_path / "linked" / ".git").is_file()
    assert paths(git_source(tmp_path / "linked").list_files()) == ["topic.py"]
    assert paths(git_source(origin.path).list_files()) == ["a.py", "lib/b.py"]


def test_links_submodules_and_names_that_are_no_text(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path)
    repository.commit(
        {
            "real.py": function("real"),
            "link.py": (FileMode.LINK, "real.py"),
            "out.py": (FileMode.LINK, "../../../etc/passwd"),
            "libs/other": (FileMode.COMMIT, "1" * 40),
            b"caf\xe9.py": function("coffee"),
            "日本.py": function("japan"),
        }
    )
    listing = git_source(tmp_path).list_files()
    assert paths(listing) == ["caf\\xe9.py", "real.py", "日本.py"]
    assert sorted(listing.links) == ["link.py", "out.py"]
    assert listing.skipped == {"submodule": 1}
    assert listing.problems == [
        "caf\\xe9.py: the path is not UTF-8 and is shown with escapes",
        "libs/other: a submodule, register it as a repository of its own",
    ]


def test_two_names_that_become_the_same_text(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path)
    repository.commit({b"a\xe9.py": function("one"), b"a\\xe9.py": function("two")})
    listing = git_source(tmp_path).list_files()
    assert paths(listing) == ["a\\xe9.py"]
    assert any("two files have this path" in problem for problem in listing.problems)


def test_a_missing_blob_is_one_files_problem_and_a_missing_tree_one_directorys(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path)
    repository.commit({"a.py": function("a"), "lib/b.py": function("b"), "lib/c.py": function("c")})
    tree = repository.git.head.peel(pygit2.Commit).tree

    def lose(oid: pygit2.Oid) -> None:
        name = str(oid)
        (tmp_path / ".git" / "objects" / name[:2] / name[2:]).unlink()

    lose(tree["a.py"].id)
    source = git_source(tmp_path)
    files = {file.path: file for file in source.list_files().files}
    with pytest.raises(FileUnreadableError, match="blob"):
        source.read(files["a.py"], LARGE)
    assert source.read(files["lib/b.py"], LARGE) == function("b").encode()

    lose(tree["lib"].id)
    listing = git_source(tmp_path).list_files()
    assert (paths(listing), listing.unlisted) == (["a.py"], ["lib/"])
    assert listing.problems[0].startswith("lib/: the directory cannot be read")

    lose(tree.id)
    with pytest.raises(SourceError, match="tree"):
        git_source(tmp_path).list_files()


def test_a_blob_over_the_limit_is_not_read(origin: GitRepository) -> None:
    source = git_source(origin.path)
    file = source.list_files().files[0]
    size = len(function("a"))
    assert source.read(file, size) == function("a").encode()
    with pytest.raises(FileTooLargeError):
        source.read(file, size - 1)


def test_nothing_that_a_repository_configures_is_run(
    origin: GitRepository, tmp_path: Path, settings: Settings
) -> None:
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    trap.chmod(0o755)
    for key in ("filter.evil.smudge", "filter.evil.clean", "core.fsmonitor", "core.sshCommand", "core.pager"):
        origin.git.config[key] = str(trap)
    for hook in ("post-checkout", "reference-transaction", "post-merge", "pre-auto-gc", "upload-pack"):
        shutil.copy(trap, origin.path / ".git" / "hooks" / hook)
    origin.commit({".gitattributes": "*.py filter=evil\n", "a.py": function("a")})
    assert contents(git_source(origin.path))["a.py"] == function("a").encode()
    clone = GitSource(fetched_clone(f"file://{origin.path}", None, settings), None)
    assert contents(clone)["a.py"] == function("a").encode()
    assert not (tmp_path / "sprung").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_a_repository_that_belongs_to_someone_else(origin: GitRepository, settings: Settings) -> None:
    for path in [origin.path, *origin.path.rglob("*")]:
        os.chown(path, 65534, 65534)
    assert paths(git_source(origin.path).list_files()) == ["a.py", "lib/b.py"]
    clone = fetched_clone(f"file://{origin.path}", None, settings)
    assert paths(GitSource(clone, None).list_files()) == ["a.py", "lib/b.py"]


@pytest.mark.parametrize("leaf", ["x.py", "link", "sub"])
def test_a_tree_that_explodes_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaf: str) -> None:
    repository = GitRepository(tmp_path)
    mode = {"x.py": FileMode.BLOB, "link": FileMode.LINK, "sub": FileMode.COMMIT}[leaf]
    oid = repository.git.create_blob(b"x = 1\n")
    tree = repository.git.odb.write(ObjectType.TREE, f"{mode:o} {leaf}\0".encode() + oid.raw)
    for _ in range(9):  # ten directories in each of ten directories, nine levels down: a few objects in all
        ten = b"".join(f"40000 {n}\0".encode() + tree.raw for n in range(10))
        tree = repository.git.odb.write(ObjectType.TREE, ten)
    repository.git.create_commit("refs/heads/main", AUTHOR, AUTHOR, "A bomb", tree, [])
    monkeypatch.setattr(base, "MAX_ENTRIES", 5_000)
    with pytest.raises(SourceError, match="more than 5,000 files and directories"):
        git_source(tmp_path).list_files()


def test_the_newest_commit_is_known_without_an_extraction(
    db: Database, origin: GitRepository, settings: Settings, tmp_path: Path
) -> None:
    first = str(origin.git.head.target)
    origin.git.create_tag("v1", origin.git.head.target, ObjectType.COMMIT, AUTHOR, "annotated")
    newest = origin.commit({"a.py": function("newest")})
    url = f"file://{origin.path}"
    for number, (location, ref, commit) in enumerate(
        [
            (str(origin.path), None, newest),
            (str(origin.path), "v1", first),
            (url, None, newest),
            (url, "main", newest),
            (url, "refs/heads/main", newest),
            (url, "v1", first),
            (url, first, first),
            (url, "main~1", None),
            (url, "gone", None),
            ("click", None, importlib.metadata.version("click")),
        ]
    ):
        assert current_commit(add_repository(db, f"r{number}", location, ref=ref), settings) == commit
    plain = add_repository(db, "plain", str(write_tree(tmp_path / "plain", {})))
    assert current_commit(plain, settings) is None
    assert not (settings.home_path / "clones").exists()
    for name, location in (("lost", f"{url}-not-there"), ("moved", str(origin.path))):
        lost = add_repository(db, name, location)
        if name == "moved":
            shutil.rmtree(origin.path)
        with pytest.raises(SourceError):
            current_commit(lost, settings)


# Clones of URLs


def test_a_clone_is_bare_and_follows_its_url(origin: GitRepository, settings: Settings) -> None:
    url = f"file://{origin.path}"

    def read(ref: str | None) -> list[str]:
        return paths(GitSource(fetched_clone(url, ref, settings), ref).list_files())

    origin.commit({"topic.py": function("topic")}, "refs/heads/topic")
    assert read(None) == ["a.py", "lib/b.py"]
    assert read("topic") == ["topic.py"]
    clone = pygit2.Repository(str(clone_path(url, settings)))
    assert clone.is_bare

    origin.commit({"a.py": function("a"), "new.py": function("new")})
    assert read(None) == ["a.py", "new.py"]

    # History rewritten, a branch deleted, and another branch made the default one.
    rewritten = origin.commit({"rewritten.py": function("r")}, "refs/heads/next")
    origin.git.references.create("refs/heads/main", rewritten, force=True)
    origin.git.branches["topic"].delete()
    origin.git.references.create("refs/heads/topic/part", rewritten)
    assert read("main") == ["rewritten.py"]
    assert read("topic/part") == ["rewritten.py"]
    with pytest.raises(SourceError, match="'topic' does not exist"):
        read("topic")
    origin.commit({"trunk.py": function("t")}, "refs/heads/trunk")
    origin.git.set_head("refs/heads/trunk")
    assert read(None) == ["trunk.py"]


def test_a_ref_that_is_no_branch_is_fetched_when_it_is_asked_for(
    origin: GitRepository, settings: Settings
) -> None:
    url = f"file://{origin.path}"
    origin.commit({"pull.py": function("pull")}, "refs/pull/7/head")
    assert "refs/pull/7/head" not in fetched_clone(url, None, settings).references
    clone = fetched_clone(url, "refs/pull/7/head", settings)
    assert paths(GitSource(clone, "refs/pull/7/head").list_files()) == ["pull.py"]


def test_what_a_killed_or_damaged_clone_left_is_made_anew(origin: GitRepository, settings: Settings) -> None:
    url = f"file://{origin.path}"
    path = clone_path(url, settings)
    write_tree(path.with_suffix(".partial"), {"HEAD": "half", "objects/x": "half"})
    assert paths(GitSource(fetched_clone(url, None, settings), None).list_files()) == ["a.py", "lib/b.py"]
    (path / "HEAD").unlink()
    assert paths(GitSource(fetched_clone(url, None, settings), None).list_files()) == ["a.py", "lib/b.py"]
    assert sorted(p.suffix for p in path.parent.iterdir()) == [".git", ".lock"]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        yield server.getsockname()[1]


def test_urls_that_cannot_be_read(settings: Settings, tmp_path: Path, silent_port: int) -> None:
    hurried = settings.model_copy(update={"fetch_timeout_seconds": 1})
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = unused.getsockname()[1]
        for url in (
            f"file://{tmp_path}/nowhere.git",
            f"file://{tmp_path}",
            f"https://127.0.0.1:{closed}/x.git",
            f"ssh://git@127.0.0.1:{closed}/x.git",
            f"https://127.0.0.1:{silent_port}/x.git",
            "https://no-such-host.invalid/x.git",
        ):
            with pytest.raises(SourceError, match="cannot be fetched") as error:
                fetched_clone(url, None, hurried)
            assert url in error.value.message
            assert error.value.hint
            assert not clone_path(url, settings).exists()
