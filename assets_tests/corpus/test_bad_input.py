"""Bad input: each is a clear line in the report, none stops the rest, no failed source loses a snippet."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import FileMode

from assets_tests.corpus.conftest import Extract
from assets_tests.corpus.making import GitRepository, as_nobody, function, write_tree
from pipeline.corpus import extraction
from pipeline.corpus.extraction import MAX_PATH_BYTES, MAX_PROBLEMS
from pipeline.corpus.report import ExtractionReport
from pipeline.corpus.repositories import get_repository
from pipeline.corpus.sources.base import Listing, Source, SourceFile
from pipeline.corpus.sources.opening import open_source
from pipeline.store.connections import Database

A, B = function("a"), function("b")


def live(db: Database) -> dict[str, str]:
    """The code of all live snippets, by path and symbol."""
    with db.connect() as connection:
        rows = connection.execute(
            "SELECT path, symbol, code FROM snippets WHERE vanished_at IS NULL"
        ).fetchall()
    return {f"{path} {symbol}": code for path, symbol, code in rows}


def problem(report: ExtractionReport, path: str) -> str:
    """The one problem told of a path."""
    (found,) = [line for line in report.problems if line.startswith(f"{path}: ")]
    return found.removeprefix(f"{path}: ")


BAD_FILES: dict[str, tuple[bytes, str | None]] = {
    # content, and the reason it is skipped for (None: it is parsed)
    "latin.py": (A.replace("Gives", "G\xe9n\xe9re").encode("latin-1"), None),
    "declared.py": (
        b"# -*- coding: latin-1 -*-\n" + A.replace("Gives", "G\xe9n\xe9re").encode("latin-1"),
        None,
    ),
    "utf16.py": (A.encode("utf-16"), None),
    "nul.py": (A.replace("Gives back", "Gives \0 back").encode(), None),
    "wrong.py": (f"{A}\ndef broken(:\n    return 1\n\n\n{B}".encode(), None),
    "binary.py": (b"\x7fELF" + bytes(range(256)) * 40, "binary"),
    "pointer.py": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "stored in Git LFS",
    ),
    "huge.py": (b"x = 1\n" * 9_000_000, "too large"),
}
FINE_FILES: dict[str, bytes] = {
    "good.py": A.encode(),
    "crlf.py": A.replace("\n", "\r\n").encode(),
    "mac.py": A.replace("\n", "\r").encode(),
    "marked.py": b"\xef\xbb\xbf" + A.encode(),
    "empty.py": b"",
    "blank.py": b"\n\n  \n",
    "no_newline.py": A.rstrip("\n").encode(),
    "deep.py": b"x = " + b"(\n" * 3_000 + b"1" + b")\n" * 3_000,
    "nested.js": b"f(\n" * 3_000 + b")\n" * 3_000,
    "wide.py": "def ünïcödé(größe):\n    return '日本語' * größe\n".encode(),
}


@pytest.mark.parametrize("kind", ["git", "directory"])
def test_bad_files_are_told_and_the_good_ones_are_there(
    db: Database, tmp_path: Path, extract: Extract, kind: str
) -> None:
    files = {**{name: content for name, (content, _) in BAD_FILES.items()}, **FINE_FILES}
    path = tmp_path / "code"
    if kind == "git":
        GitRepository(path, bare=True).commit({**files})
    else:
        write_tree(path, files)
    report = extract("code", path)

    assert not report.failed
    assert report.files_skipped == {reason: 1 for _, reason in BAD_FILES.values() if reason}
    assert report.files_parsed == len(files) - 3
    assert sorted(line.partition(":")[0] for line in report.problems) == sorted(BAD_FILES)
    assert problem(report, "latin.py") == "not UTF-8: the bytes that are not were replaced"
    assert problem(report, "declared.py") == "read as iso8859-1, as it declares"
    assert problem(report, "utf16.py") == "read as UTF-16"
    assert problem(report, "nul.py") == "NUL characters were replaced"
    assert "could not be parsed, the rest was" in problem(report, "wrong.py")
    assert problem(report, "binary.py") == "left out, binary"
    assert problem(report, "huge.py") == "larger than 1,000,000 bytes"
    assert report.files_with_syntax_errors == 1

    code = live(db)
    plain = A.rstrip("\n")
    for name in ("good.py", "crlf.py", "mac.py", "marked.py", "no_newline.py", "utf16.py", "wrong.py"):
        assert code[f"{name} a"] == plain
    assert code["latin.py a"] == plain.replace("Gives", "G\ufffdn\ufffdre")
    assert code["declared.py a"] == plain.replace("Gives", "Génére")
    assert code["nul.py a"] == plain.replace("Gives back", "Gives \ufffd back")
    assert code["wrong.py b"] == B.rstrip("\n")
    assert code["wide.py ünïcödé"].startswith("def ünïcödé(größe):")
    assert not any(name.startswith(("binary.py", "huge.py", "pointer.py", "empty.py")) for name in code)

    # The same file with other line ends is the same content, and what was wrong is still told the next time.
    with db.connect() as connection:
        row = connection.execute(
            "SELECT count(DISTINCT content_hash) FROM snippets WHERE symbol = 'a' AND path = ANY(%s)",
            [["good.py", "crlf.py", "mac.py", "marked.py", "no_newline.py"]],
        ).fetchone()
    assert row == (1,)
    again = extract("code")
    assert (again.files_parsed, again.unchanged) == (0, True)
    assert sorted(again.problems) == sorted(report.problems)
    assert again.files_skipped == report.files_skipped


def test_links_loops_and_submodules_are_told(db: Database, tmp_path: Path, extract: Extract) -> None:
    write_tree(tmp_path / "secret", {"s.py": function("secret")})
    tree = write_tree(tmp_path / "tree", {"a.py": A, "node_modules/x/a.js": "x()\n"})
    (tree / "loop").symlink_to(".")
    (tree / "out.py").symlink_to(tmp_path / "secret" / "s.py")
    (tree / "node_modules" / "y").symlink_to("x")
    report = extract("tree", tree)
    assert problem(report, "loop") == problem(report, "out.py") == "a symbolic link, not followed"
    assert len(report.problems) == 2  # those of vendored code are nobody's problem
    assert report.files_skipped == {"symbolic link": 3, "vendored": 1}
    repository = GitRepository(tmp_path / "git")
    repository.commit({"b.py": B, "l.py": (FileMode.LINK, "../../x.py"), "sub": (FileMode.COMMIT, "2" * 40)})
    report = extract("git", repository.path)
    assert problem(report, "l.py") == "a symbolic link, not followed"
    assert "register it as a repository of its own" in problem(report, "sub")
    assert set(live(db)) >= {"a.py a", "b.py b"}
    assert not any("secret" in code for code in live(db).values())


def test_paths_that_are_no_text_or_too_long_to_store(db: Database, tmp_path: Path, extract: Extract) -> None:
    repository = GitRepository(tmp_path / "git")
    long = "d/" * 600 + "long.py"
    repository.commit({b"caf\xe9.py": A, "new\nline.py": B, long: A, "quote'\".py": A, "\x1b[2Jred.py": A})
    report = extract("git", repository.path)
    assert "not UTF-8" in problem(report, "caf\\xe9.py")
    assert problem(report, long) == "its path is too long to be stored"
    assert report.files_skipped == {"path too long": 1}
    assert set(live(db)) >= {"caf\\xe9.py a", "new\nline.py b", "quote'\".py a", "\x1b[2Jred.py a"}
    assert all(line.isprintable() for line in report.problems)
    again = extract("git")
    assert (again.files_parsed, again.unchanged, again.snippets_vanished) == (0, True, 0)


def test_the_longest_path_and_the_longest_name_fit_together(
    db: Database, tmp_path: Path, extract: Extract
) -> None:
    # Letters of four bytes each, drawn at random so that Postgres cannot make them fit by compressing them.
    draw = random.Random(1)
    names = ["".join(chr(draw.randrange(0x20000, 0x2A6D0)) for _ in range(150)) for _ in range(6)]
    code = (
        "".join(f"{'    ' * depth}class {name}:\n" for depth, name in enumerate(names)) + " " * 24 + "x = 1\n"
    )
    path = "/".join(f"{draw.getrandbits(320):080x}" for _ in range(7))
    path += "/" + "a" * (MAX_PATH_BYTES - len(path) - 4) + ".py"
    report = extract("code", write_tree(tmp_path / "code", {path: code, "a.py": A}))
    assert (report.files_parsed, report.problems) == (2, [])
    assert max(len(name.encode()) for name in live(db)) > MAX_PATH_BYTES + 1_500


def test_a_repository_of_many_problems_tells_the_first_and_counts_the_rest(
    tmp_path: Path, extract: Extract
) -> None:
    files = {f"f{n:03}.py": b"# \xe9\nx = 1\n" for n in range(MAX_PROBLEMS + 7)}
    report = extract("code", write_tree(tmp_path / "code", files))
    assert len(report.problems) == MAX_PROBLEMS + 1
    assert report.problems[-1] == "… and 7 more"


# Sources that fail as a whole


def failed(report: ExtractionReport, message: str) -> bool:
    assert report.failed, report
    assert report.unchanged
    (line,) = report.problems
    assert line.startswith(f"{report.repository} cannot be read: ")
    assert message in line
    return True


def test_a_git_repository_that_breaks_keeps_its_snippets(
    db: Database, tmp_path: Path, extract: Extract
) -> None:
    repository = GitRepository(tmp_path / "git")
    commit = repository.commit({"a.py": A})
    first = extract("code", repository.path)
    before = live(db)
    stored = get_repository(db, "code")

    repository.git.set_head("refs/heads/unborn")
    assert failed(extract("code"), "no commit at HEAD yet")
    shutil.move(repository.path / ".git", tmp_path / "away")
    assert failed(extract("code"), "is not a git repository")
    shutil.move(repository.path, tmp_path / "moved")
    report = extract("code")
    assert failed(report, "does not exist")

    assert live(db) == before
    assert report.snippets_live == first.snippets_live
    assert report.by_language == first.by_language
    assert report.commit_id == commit
    now = get_repository(db, "code")
    assert (now.commit_id, now.extracted_at) == (stored.commit_id, stored.extracted_at)
    assert now.report["failed"] is True
    assert now.report["problems"] == report.problems


def test_a_ref_that_is_deleted_keeps_its_snippets(db: Database, tmp_path: Path, extract: Extract) -> None:
    repository = GitRepository(tmp_path)
    repository.commit({"a.py": A}, "refs/heads/topic")
    extract("code", tmp_path, ref="topic")
    before = live(db)
    repository.git.references.delete("refs/heads/topic")
    assert failed(extract("code"), "the ref 'topic' does not exist")
    assert live(db) == before
    repository.commit({"a.py": A}, "refs/heads/topic")
    assert extract("code").unchanged


def test_a_ref_that_never_was_and_a_repository_without_commits(tmp_path: Path, extract: Extract) -> None:
    GitRepository(tmp_path)
    assert failed(extract("head", tmp_path), "no commit at HEAD yet")
    assert failed(extract("ref", tmp_path, ref="v1"), "the ref 'v1' does not exist")


def test_an_unreachable_url_keeps_what_its_clone_gave(db: Database, tmp_path: Path, extract: Extract) -> None:
    assert failed(
        extract("never", "https://127.0.0.1:1/code.git"), "https://127.0.0.1:1/code.git cannot be fetched"
    )
    origin = GitRepository(tmp_path / "origin")
    origin.commit({"a.py": A})
    assert extract("code", f"file://{origin.path}").files_parsed == 1
    before = live(db)
    shutil.move(origin.path, tmp_path / "away")
    assert failed(extract("code"), "cannot be fetched")
    assert live(db) == before
    shutil.move(tmp_path / "away", origin.path)
    origin.commit({"a.py": A, "b.py": B})
    report = extract("code")
    assert (report.files_parsed, report.files_unchanged) == (1, 1)


def test_a_directory_that_goes_away_keeps_its_snippets(
    db: Database, tmp_path: Path, extract: Extract
) -> None:
    tree = write_tree(tmp_path / "tree", {"a.py": A})
    extract("code", tree)
    before = live(db)
    shutil.rmtree(tree)
    assert failed(extract("code"), "does not exist")
    tree.write_text("a file now")
    assert failed(extract("code"), "is not a directory")
    assert live(db) == before


def test_a_distribution_that_is_uninstalled_keeps_its_snippets(
    db: Database, tmp_path: Path, extract: Extract, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = "made_here-1.2.dist-info"
    files = {
        "made/a.py": A,
        "made/tests/test_a.py": B,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: made-here\nVersion: 1.2\n",
        f"{info}/RECORD": "made/a.py,,\nmade/tests/test_a.py,,\nmade/gone.py,,\n",
    }
    monkeypatch.syspath_prepend(str(write_tree(tmp_path / "site", files)))
    report = extract("made", "made-here")
    assert (report.commit_id, report.files_parsed) == ("1.2", 1)
    assert report.files_skipped == {"tests of a distribution": 1}
    assert problem(report, "made/gone.py") == "it was installed but is not there any more"
    before = live(db)
    shutil.rmtree(tmp_path / "site" / info)
    assert failed(extract("made"), "'made-here' is not installed")
    assert live(db) == before


class AsNobody:
    """A source that is read as a user without rights, while the database is still root's."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def list_files(self) -> Listing:
        with as_nobody():
            return self._source.list_files()

    def read(self, file: SourceFile, max_bytes: int) -> bytes:
        with as_nobody():
            return self._source.read(file, max_bytes)


def test_what_cannot_be_read_keeps_its_snippets_and_the_rest_goes_on(
    db: Database, extract: Extract, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not under pytest's directory, which only its owner may enter.
    tree = Path(tempfile.mkdtemp())
    tree.chmod(0o755)
    try:
        write_tree(tree, {"a.py": A, "shut.py": B, "closed/c.py": function("c"), "gone.py": function("gone")})
        extract("code", tree)
        before = live(db)
        (tree / "shut.py").chmod(0)
        (tree / "closed").chmod(0)
        (tree / "gone.py").unlink()
        (tree / "a.py").write_text(A.replace("return value", "return -value"))
        with monkeypatch.context() as patch:
            patch.setattr(extraction, "open_source", lambda *of: AsNobody(open_source(*of)))
            report = extract("code")
        assert problem(report, "shut.py") == "cannot be read (Permission denied)"
        assert problem(report, "closed/") == "the directory cannot be read (Permission denied)"
        assert (report.files_parsed, report.files_skipped) == (1, {"unreadable": 1})
        now = live(db)
        assert now.pop("a.py a") != before.pop("a.py a")
        for name in [name for name in before if name.startswith("gone.py")]:
            del before[name]
        assert {k: v for k, v in now.items() if k[:4] != "a.py"} == {
            k: v for k, v in before.items() if k[:4] != "a.py"
        }
        (tree / "shut.py").chmod(0o644)
        (tree / "closed").chmod(0o755)
        report = extract("code")
        assert (report.files_parsed, report.snippets_vanished, report.problems) == (0, 0, [])
    finally:
        (tree / "closed").chmod(0o755)
        shutil.rmtree(tree)


def test_a_missing_object_is_the_problem_of_its_file_alone(
    db: Database, tmp_path: Path, extract: Extract
) -> None:
    repository = GitRepository(tmp_path)
    repository.commit({"a.py": A, "b.py": B})
    tree = repository.git.head.peel(pygit2.Commit).tree
    blob = str(tree["b.py"].id)
    os.unlink(tmp_path / ".git" / "objects" / blob[:2] / blob[2:])
    report = extract("code", tmp_path)
    assert problem(report, "b.py").startswith(f"cannot be read (blob {blob}")
    assert (report.failed, report.files_parsed, report.files_skipped) == (False, 1, {"unreadable": 1})
    assert "a.py a" in live(db)
    repository.commit({"a.py": A, "b.py": B})  # writes the object again
    assert extract("code").files_parsed == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_a_repository_of_another_user_is_read(tmp_path: Path, extract: Extract) -> None:
    repository = GitRepository(tmp_path / "theirs")
    repository.commit({"a.py": A})
    for path in [repository.path, *repository.path.rglob("*")]:
        os.chown(path, 65534, 65534)
    assert extract("code", repository.path).files_parsed == 1
