"""Reading files from directories and installed distributions."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from assets_tests.corpus.making import GitRepository, as_nobody, function, write_tree
from pipeline.corpus.sources.base import (
    FileTooLargeError,
    FileUnreadableError,
    Listing,
    Source,
    SourceError,
)
from pipeline.corpus.sources.directory import DirectorySource
from pipeline.corpus.sources.distribution import DistributionSource

LARGE = 10_000_000


def paths(listing: Listing) -> list[str]:
    return [file.path for file in listing.files]


def contents(source: Source) -> dict[str, bytes]:
    return {file.path: source.read(file, LARGE) for file in source.list_files().files}


# Directories


def test_gitignore_files_apply_as_in_git(tmp_path: Path) -> None:
    root = write_tree(
        tmp_path / "code",
        {
            ".gitignore": "*.log.py\n/build/\n!kept.log.py\nsecret*\n# a comment\n\n\\#odd.py\n",
            "a.py": "",
            "x.log.py": "",
            "kept.log.py": "",
            "build/out.py": "",
            "lib/build/in.py": "",
            "lib/secret.py": "",
            "lib/.gitignore": "!secret.py\n/local.py\n",
            "lib/local.py": "",
            "lib/deep/local.py": "",
            "#odd.py": "",
            "deep/.gitignore": "*\n!.gitignore\n",
            "deep/a.py": "",
        },
    )
    listing = DirectorySource(root).list_files()
    assert [p for p in paths(listing) if p.endswith(".py")] == [
        "a.py",
        "kept.log.py",
        "lib/build/in.py",
        "lib/deep/local.py",
        "lib/secret.py",
    ]
    # Two files of the root, one directory, and one file each in lib and deep.
    assert listing.skipped == {"ignored by .gitignore": 5}
    assert listing.problems == []


def test_gitignore_agrees_with_git_itself(tmp_path: Path) -> None:
    patterns = [
        "foo/*",
        "!foo/keep.py",
        "**/gen/**",
        "a?c.py",
        "[xy].py",
        "doc/**/z.py",
        "trail\\ ",
        "dir/",
        "*~",
    ]
    names = ["foo/a.py", "foo/keep.py", "p/gen/q/r.py", "abc.py", "x.py", "z.py", "doc/z.py", "doc/u/v/z.py"]
    names += ["trail ", "dir/a.py", "p/dir/b.py", "dir2/a.py", "n.py~", "p/foo/a.py", "p/abc.py"]
    repository = GitRepository(tmp_path)
    write_tree(tmp_path, {".gitignore": "\n".join(patterns) + "\n", **dict.fromkeys(names, "")})
    listed = [p for p in paths(DirectorySource(tmp_path).list_files()) if p != ".gitignore"]
    assert listed == sorted(name for name in names if not repository.git.path_is_ignored(name))
    assert "foo/keep.py" in listed


def test_a_gitignore_that_is_no_text_or_too_large(tmp_path: Path) -> None:
    write_tree(tmp_path, {"one/.gitignore": b"\xff\xfe[\nx.py\n", "one/x.py": "", "one/y.py": ""})
    write_tree(tmp_path, {"two/.gitignore": b"x.py\n" * 250_000, "two/x.py": ""})
    listing = DirectorySource(tmp_path).list_files()
    assert [p for p in paths(listing) if p.endswith(".py")] == ["one/y.py", "two/x.py"]
    assert any("too large" in problem for problem in listing.problems)


def test_a_problem_in_a_directory_whose_name_is_no_text_can_be_stored(tmp_path: Path) -> None:
    directory = os.fsencode(tmp_path) + b"/d\xff"
    os.mkdir(directory)
    os.symlink("elsewhere", directory + b"/.gitignore")
    (problem,) = DirectorySource(tmp_path).list_files().problems
    assert problem.encode("utf-8").startswith(b"d\\xff/.gitignore: not applied")


def test_links_are_listed_and_never_followed(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "code", {"lib/a.py": function("a")})
    write_tree(tmp_path / "outside", {"b.py": function("b")})
    (root / "loop").symlink_to(root)
    (root / "lib" / "up").symlink_to("..")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "out.py").symlink_to(tmp_path / "outside" / "b.py")
    (root / "self").symlink_to("self")
    (root / "dangling.py").symlink_to("nowhere.py")
    listing = DirectorySource(root).list_files()
    assert paths(listing) == ["lib/a.py"]
    assert sorted(listing.links) == ["dangling.py", "lib/up", "loop", "out", "out.py", "self"]


def test_a_file_that_becomes_a_link_after_it_was_listed_is_not_followed(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "code", {"a.py": function("a")})
    secret = write_tree(tmp_path, {"secret": "s3cret"}) / "secret"
    source = DirectorySource(root)
    file = source.list_files().files[0]
    (root / "a.py").unlink()
    (root / "a.py").symlink_to(secret)
    with pytest.raises(FileUnreadableError):
        source.read(file, LARGE)


def test_pipes_and_sockets_are_no_files_and_hold_nothing_up(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.py": function("a")})
    os.mkfifo(tmp_path / "pipe.py")
    source = DirectorySource(tmp_path)
    listing = source.list_files()
    assert paths(listing) == ["a.py"]
    assert listing.skipped == {"not a regular file": 1}
    (tmp_path / "a.py").unlink()
    os.mkfifo(tmp_path / "a.py")
    with pytest.raises(FileUnreadableError, match="not a regular file"):
        source.read(listing.files[0], LARGE)


def test_version_control_and_honeloops_own_home_are_not_entered(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {".git/hooks/x.py": "", ".hg/x.py": "", "sub/.svn/x.py": "", "state/clones/x.py": "", "a.py": ""},
    )
    listing = DirectorySource(tmp_path, [tmp_path / "state"]).list_files()
    assert (paths(listing), listing.skipped) == (["a.py"], {})


def test_names_of_any_bytes_and_any_length(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/d\xff")
    with open(os.fsencode(tmp_path) + b"/d\xff/caf\xe9\n.py", "wb") as file:
        file.write(b"x = 1\n")
    source = DirectorySource(tmp_path)
    listing = source.list_files()
    assert paths(listing) == ["d\\xff/caf\\xe9\n.py"]
    assert listing.problems == ["d\\xff/caf\\xe9\\n.py: the path is not UTF-8 and is shown with escapes"]
    assert source.read(listing.files[0], LARGE) == b"x = 1\n"


def test_a_root_that_is_not_there_any_more(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        DirectorySource(tmp_path / "gone").list_files()
    write_tree(tmp_path, {"file": ""})
    with pytest.raises(SourceError, match="is not a directory"):
        DirectorySource(tmp_path / "file").list_files()


@pytest.fixture
def open_tree() -> Iterator[Path]:
    """A directory that everybody may enter, unlike pytest's own."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    yield root
    for path in root.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(root)


def test_what_may_not_be_read_is_told_and_the_rest_is_read(open_tree: Path) -> None:
    write_tree(
        open_tree, {"a.py": "a = 1\n", "b.py": "b = 1\n", "shut/c.py": "c = 1\n", "open/d.py": "d = 1\n"}
    )
    (open_tree / "b.py").chmod(0)
    (open_tree / "shut").chmod(0)
    with as_nobody():
        source = DirectorySource(open_tree)
        listing = source.list_files()
        assert paths(listing) == ["a.py", "b.py", "open/d.py"]
        assert listing.unlisted == ["shut/"]
        assert listing.problems == ["shut/: the directory cannot be read (Permission denied)"]
        with pytest.raises(FileUnreadableError, match="Permission denied"):
            source.read(listing.files[1], LARGE)
        with pytest.raises(SourceError, match="Permission denied"):
            DirectorySource(open_tree / "shut").list_files()


def test_a_file_over_the_limit_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "large.py").open("wb") as file:
        file.truncate(1 << 40)  # a terabyte of nothing: reading it would not end
    source = DirectorySource(tmp_path)
    with pytest.raises(FileTooLargeError):
        source.read(source.list_files().files[0], 1_000_000)


# Distributions


def test_a_distribution_gives_its_files_and_its_version() -> None:
    source = DistributionSource("click")
    listing = source.list_files()
    assert listing.commit_id == importlib.metadata.version("click")
    file = next(file for file in listing.files if file.path == "click/core.py")
    assert b"class Command" in source.read(file, LARGE)
    assert not any(".." in path for path in paths(listing))


def test_a_distribution_that_is_not_here() -> None:
    with pytest.raises(SourceError, match="not installed") as error:
        DistributionSource("not-installed-at-all").list_files()
    assert "pip install not-installed-at-all" in error.value.hint
    with pytest.raises(SourceError, match="not installed"):
        DistributionSource("").list_files()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to install distributions into, by hand."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


METADATA = "Metadata-Version: 2.1\nName: made-here\nVersion: 1.2\n"


def test_what_a_distribution_lists_but_does_not_have(installed: Path, tmp_path: Path) -> None:
    listed = ["made/a.py", "made/gone.py", "made/__pycache__/a.pyc", "made/link.py"]
    listed += ["../../bin/made", "/etc/passwd"]
    record = "".join(f"{name},,\n" for name in listed)
    write_tree(
        installed,
        {
            "made_here-1.2.dist-info/METADATA": METADATA,
            "made_here-1.2.dist-info/RECORD": record,
            "made/a.py": "a = 1\n",
        },
    )
    (installed / "made" / "link.py").symlink_to("a.py")  # as uv and conda do it
    source = DistributionSource("made-here")
    listing = source.list_files()
    assert paths(listing) == ["made/a.py", "made/link.py"]
    assert listing.skipped == {"outside the distribution": 2}
    assert listing.problems == ["made/gone.py: it was installed but is not there any more"]
    assert source.read(listing.files[1], LARGE) == b"a = 1\n"


def test_a_distribution_without_a_list_of_files(installed: Path) -> None:
    write_tree(installed, {"made_here-1.2.dist-info/METADATA": METADATA})
    with pytest.raises(SourceError, match="without a list of its files"):
        DistributionSource("made-here").list_files()
