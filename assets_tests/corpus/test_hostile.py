"""Repositories made to do harm: to read what they may not, to run something, to fill the memory."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
import zlib
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import ObjectType

from assets_tests.corpus.conftest import Extract
from assets_tests.corpus.making import AUTHOR, GitRepository, function, write_tree
from pipeline.config import PROJECT_ROOT, Settings
from pipeline.corpus.changed_functions import functions_in
from pipeline.corpus.history import History
from pipeline.corpus.repositories import add_repository
from pipeline.corpus.sources import git
from pipeline.corpus.sources.base import SourceError
from pipeline.corpus.sources.clones import clone_path, fetched_clone, remote_commit
from pipeline.corpus.sources.git import GitSource, open_repository
from pipeline.store.connections import Database

A = function("a")
GIGABYTE = 1 << 30


def committed(repository: GitRepository, entries: list[tuple[str, bytes, pygit2.Oid]]) -> None:
    """Commits a tree of exactly these entries (mode, name, object), whatever git itself would say of them."""
    raw = b"".join(f"{mode} ".encode() + name + b"\0" + oid.raw for mode, name, oid in entries)
    tree = repository.git.odb.write(ObjectType.TREE, raw)
    repository.git.create_commit("refs/heads/main", AUTHOR, AUTHOR, "A commit", tree, [])


def test_names_that_lead_out_of_the_tree(db: Database, tmp_path: Path, extract: Extract) -> None:
    repository = GitRepository(tmp_path / "git")
    blob = repository.git.create_blob(A.encode())
    inner = repository.git.odb.write(ObjectType.TREE, b"100644 post-checkout.py\0" + blob.raw)
    hooks = repository.git.odb.write(ObjectType.TREE, b"40000 hooks\0" + inner.raw)
    names = [b"../evil.py", b"/etc/evil.py", b"..", b".", b".git", b".GIT", b"a/../../evil.py"]
    entries = [("100644", b"good.py", blob), *(("100644", name, blob) for name in names)]
    entries += [("40000", b"..", inner), ("40000", b".git", hooks), ("40000", b".Git", hooks)]
    committed(repository, entries)
    report = extract("code", repository.path)
    assert (report.files_parsed, report.files_skipped) == (1, {"unsafe path": 10})
    assert len(report.problems) == 10
    assert all(problem.endswith("left out, no git would write a file there") for problem in report.problems)
    with db.connect() as connection:
        paths = connection.execute("SELECT DISTINCT path FROM snippets").fetchall()
    assert paths == [("good.py",)]


def test_a_tree_that_is_none_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = GitRepository(tmp_path)
    blob = repository.git.create_blob(A.encode())
    large = repository.git.odb.write(
        ObjectType.TREE, b"".join(f"100644 f{n:04}.py\0".encode() + blob.raw for n in range(100))
    )
    committed(repository, [("100644", b"good.py", blob), ("40000", b"large", large), ("40000", b"no", blob)])
    monkeypatch.setattr(git, "MAX_TREE_BYTES", 1_000)
    listing = GitSource(open_repository(tmp_path), None).list_files()
    assert [file.path for file in listing.files] == ["good.py"]
    assert sorted(listing.unlisted) == ["large/", "no/"]


@pytest.mark.parametrize("kind", ["git", "directory"])
def test_links_to_files_and_directories_outside_are_not_followed(
    db: Database, tmp_path: Path, extract: Extract, kind: str
) -> None:
    outside = write_tree(
        tmp_path / "outside", {"private.py": function("private"), "inner/deep.py": function("deep")}
    )
    tree = write_tree(tmp_path / "tree", {"good.py": A})
    for name, target in {
        "file.py": outside / "private.py",
        "directory": outside,
        "relative": Path("../outside"),
        "chain": Path("directory"),
        "passwd.py": Path("/etc/passwd"),
        "fd.py": Path("/proc/self/environ"),
    }.items():
        (tree / name).symlink_to(target)
    if kind == "git":
        subprocess.run(["git", "init", "-q", str(tree)], check=True)
        subprocess.run(["git", "-C", str(tree), "add", "-A"], check=True)
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(tree), *who, "commit", "-qm", "Links"], check=True)
    report = extract("code", tree, kind=kind)
    assert (report.files_parsed, report.files_skipped) == (1, {"symbolic link": 6})
    with db.connect() as connection:
        code = connection.execute("SELECT string_agg(code, '') FROM snippets").fetchone()
    assert code == (A.rstrip("\n"),)


def test_a_file_that_becomes_a_link_after_it_was_listed(tmp_path: Path) -> None:
    from pipeline.corpus.sources.base import FileUnreadableError
    from pipeline.corpus.sources.directory import DirectorySource

    tree = write_tree(tmp_path / "tree", {"a.py": A})
    source = DirectorySource(tree)
    (file,) = source.list_files().files
    (tree / "a.py").unlink()
    (tree / "a.py").symlink_to("/etc/passwd")
    with pytest.raises(FileUnreadableError):
        source.read(file, 1_000_000)


def test_nothing_that_a_repository_brings_along_is_run(tmp_path: Path, settings: Settings) -> None:
    origin = GitRepository(tmp_path / "origin")
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    trap.chmod(0o755)
    evil = f"!{trap}"
    keys = ("filter.evil.smudge", "filter.evil.clean", "filter.evil.process", "diff.evil.textconv")
    keys += ("diff.evil.command", "core.fsmonitor", "core.sshCommand", "core.pager", "core.editor")
    keys += (
        "core.hooksPath",
        "gpg.program",
        "credential.helper",
        "uploadpack.packObjectsHook",
        "core.gitProxy",
    )
    for key in keys:
        origin.git.config[key] = str(trap)
    included = tmp_path / "included.cfg"
    included.write_text(f"[core]\n\tfsmonitor = {trap}\n\tsshCommand = {trap}\n[alias]\n\tlog = {evil}\n")
    with (origin.path / ".git" / "config").open("a") as config:
        config.write(f'[include]\n\tpath = {included}\n[includeIf "gitdir:/**"]\n\tpath = {included}\n')
        config.write('[protocol "ext"]\n\tallow = always\n')
    for hook in ("post-checkout", "reference-transaction", "post-merge", "upload-pack", "fsmonitor-watchman"):
        (origin.path / ".git" / "hooks" / hook).write_bytes(trap.read_bytes())
        (origin.path / ".git" / "hooks" / hook).chmod(0o755)
    attributes = "*.py filter=evil diff=evil\n"
    origin.commit({".gitattributes": attributes, "a.py": A})
    second = origin.commit({".gitattributes": attributes, "a.py": A.replace("return", "yield"), "b.py": A})
    # Objects of another repository may be borrowed, as clones on one machine do; one that is gone is none.
    (origin.path / ".git" / "objects" / "info").mkdir(exist_ok=True)
    (origin.path / ".git" / "objects" / "info" / "alternates").write_text(f"/nowhere\n{evil}\n")

    for repository in (open_repository(origin.path), fetched_clone(f"file://{origin.path}", None, settings)):
        source = GitSource(repository, None)
        files = {file.path: source.read(file, 1_000_000) for file in source.list_files().files}
        assert files["b.py"] == A.encode()
        changes = History(repository, second, 1_000_000, functions_in).changes(second, 20)
        assert [each.symbol for each in changes.functions] == ["a"]
    assert remote_commit(f"file://{origin.path}", None, settings) == second
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "ref", ["--upload-pack=touch sprung", "-x", "refs/heads/--upload-pack=x", "main;touch sprung"]
)
def test_a_ref_that_would_be_an_option(
    tmp_path: Path, settings: Settings, ref: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    origin = GitRepository(tmp_path / "origin")
    origin.commit({"a.py": A})
    url = f"file://{origin.path}"
    clone = fetched_clone(url, ref, settings)
    with pytest.raises(SourceError, match="does not exist"):
        GitSource(clone, ref).list_files()
    assert remote_commit(url, ref, settings) is None
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("url", ["http://example.org/x.git", "https://someone:s3cret@example.org/x.git"])
def test_what_was_registered_when_more_was_allowed_is_not_read(
    db: Database, settings: Settings, extract: Extract, url: str
) -> None:
    add_repository(db, "code", "https://example.org/x.git")
    with db.connect() as connection:
        connection.execute("UPDATE repositories SET location = %s", [url])
    report = extract("code")
    assert report.failed
    assert "s3cret" not in str(report)
    assert not clone_path(url, settings).exists()


def test_credentials_that_the_users_own_git_adds_are_kept_nowhere(tmp_path: Path, settings: Settings) -> None:
    origin = GitRepository(tmp_path / "origin")
    origin.commit({"a.py": A})
    url = f"file://{origin.path}"
    clone = fetched_clone(url, None, settings)
    fetched_clone(url, None, settings)
    kept = [path for path in Path(clone.path).rglob("*") if path.is_file() and "objects" not in path.parts]
    assert kept
    assert not any(str(origin.path).encode() in path.read_bytes() for path in kept)
    assert not (Path(clone.path) / "FETCH_HEAD").exists()


# What is too large is never held in memory

READ = """
import resource, sys
from pathlib import Path
from pipeline.corpus.sources.base import FileTooLargeError
from pipeline.corpus.sources.directory import DirectorySource
from pipeline.corpus.sources.git import GitSource, open_repository
path = Path(sys.argv[1])
source = GitSource(open_repository(path), None) if (path / ".git").exists() else DirectorySource(path)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for file in source.list_files().files:
    try:
        source.read(file, 1_000_000)
    except FileTooLargeError:
        print("too large")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def read_elsewhere(path: Path) -> tuple[str, int]:
    """What reading the one file says, and how many megabytes that process grew by."""
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
    )
    said, grown = done.stdout.split("\n")[:2]
    return said, int(grown)


def test_a_gigabyte_in_a_directory(tmp_path: Path) -> None:
    with (tmp_path / "large.py").open("wb") as file:
        file.truncate(GIGABYTE)  # sparse: it takes no room
    said, grown = read_elsewhere(tmp_path)
    assert said == "too large"
    assert grown < 20


@pytest.mark.slow  # to compress a gigabyte takes seconds
def test_a_gigabyte_in_git(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path)
    header = f"blob {GIGABYTE}\0".encode()
    digest, packer, megabyte = hashlib.sha1(header), zlib.compressobj(1), bytes(1 << 20)
    loose = tmp_path / "loose"
    with loose.open("wb") as file:
        file.write(packer.compress(header))
        for _ in range(GIGABYTE >> 20):
            digest.update(megabyte)
            file.write(packer.compress(megabyte))
        file.write(packer.flush())
    name = digest.hexdigest()
    objects = tmp_path / ".git" / "objects" / name[:2]
    objects.mkdir()
    loose.rename(objects / name[2:])
    committed(repository, [("100644", b"large.py", pygit2.Oid(hex=name))])
    said, grown = read_elsewhere(tmp_path)
    assert said == "too large"
    assert grown < 20
    # Nor does history, in which it came, was changed and went.
    repository.commit({"large.py": A})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    past = History(repository.git, str(repository.git.head.target), 1_000_000, functions_in)
    for commit in past.commits(5):
        past.changes(commit.id, 20)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024 < 100
