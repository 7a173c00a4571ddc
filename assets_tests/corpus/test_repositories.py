"""Registering sources of code: what is accepted, what is refused and how it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assets_tests.corpus.conftest import Extract
from assets_tests.corpus.making import GitRepository, function, write_tree
from pipeline.config import PROJECT_ROOT, Settings
from pipeline.corpus.repositories import (
    add_default_repositories,
    add_repository,
    get_repository,
    list_repositories,
    remove_repository,
)
from pipeline.errors import BadInputError
from pipeline.store.connections import Database


def test_the_kind_is_seen_from_the_location(db: Database, tmp_path: Path) -> None:
    GitRepository(tmp_path / "work")
    GitRepository(tmp_path / "bare.git", bare=True)
    write_tree(tmp_path / "plain", {"a.py": function("a")})
    kinds = {
        name: add_repository(db, name, location).kind
        for name, location in {
            "work": str(tmp_path / "work"),
            "dot-git": str(tmp_path / "work" / ".git"),
            "bare": str(tmp_path / "bare.git"),
            "plain": str(tmp_path / "plain"),
            "distribution": "Click",
            "https": "https://example.org/team/code.git",
            "ssh": "ssh://git@example.org/team/code.git",
            "scp": "git@example.org:team/code.git",
            "file": f"file://{tmp_path}/bare.git",
        }.items()
    }
    assert kinds.pop("plain") == "directory"
    assert kinds.pop("distribution") == "distribution"
    assert set(kinds.values()) == {"git"}
    assert [r.name for r in list_repositories(db)] == sorted([*kinds, "plain", "distribution"])


def test_a_git_repository_can_be_read_as_a_plain_directory(db: Database, tmp_path: Path) -> None:
    GitRepository(tmp_path)
    assert add_repository(db, "tree", str(tmp_path), "directory").kind == "directory"


def test_paths_are_stored_absolute(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path / "code", {})
    monkeypatch.chdir(tmp_path)
    assert add_repository(db, "a", "./x/../code").location == str(tmp_path / "code")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert add_repository(db, "b", "~/code").location == str(tmp_path / "code")


def test_adding_the_same_again_changes_nothing(db: Database) -> None:
    first = add_repository(db, "click", "click")
    assert add_repository(db, "click", "CLICK", "distribution") == first
    assert list_repositories(db) == [first]


def test_a_taken_name_is_refused_and_says_what_has_it(db: Database, tmp_path: Path) -> None:
    add_repository(db, "click", "click")
    with pytest.raises(BadInputError, match="'click' is taken by the distribution click") as error:
        add_repository(db, "click", str(tmp_path))
    assert "honeloop source remove click" in error.value.hint
    assert [r.location for r in list_repositories(db)] == ["click"]


def test_one_repository_at_several_refs(db: Database, tmp_path: Path) -> None:
    GitRepository(tmp_path)
    for name, ref in (("now", None), ("stable", "release-1"), ("next", "main")):
        add_repository(db, name, str(tmp_path), ref=ref)
    assert {r.name: r.ref for r in list_repositories(db)} == {
        "now": None,
        "stable": "release-1",
        "next": "main",
    }
    with pytest.raises(BadInputError, match="at release-1"):
        add_repository(db, "stable", str(tmp_path), ref="release-2")


# What is refused is refused before the database is asked.
NEVER_REACHED = Database("postgresql://nowhere.invalid/none")


@pytest.mark.parametrize(
    "name", ["", ".", "-x", "_x", "a b", "a/b", "a,b", "a..b", "a\n", "ä", "x" * 101, "a:b", "../a", "a\0"]
)
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(BadInputError, match="cannot be a repository's name"):
        add_repository(NEVER_REACHED, name, "click")


def test_names_that_are_accepted(db: Database) -> None:
    for name in ("a", "7", "Team.Code_x-2", "x" * 100):
        assert add_repository(db, name, "click").name == name


@pytest.mark.parametrize(
    ("location", "kind", "ref", "message"),
    [
        ("/nowhere/at/all", None, None, "no URL, no path that exists and no installed distribution"),
        ("/nowhere/at/all", "git", None, "/nowhere/at/all does not exist"),
        ("/nowhere/at/all", "directory", None, "/nowhere/at/all does not exist"),
        (__file__, None, None, "is not a directory"),
        (__file__, "git", None, "is not a git repository"),
        ("not-installed-at-all", "distribution", None, "'not-installed-at-all' is not installed"),
        ("honeloop", "distribution", None, "editable mode"),
        ("", None, None, "empty"),
        ("a\0b", None, None, "malformed"),
        ("/tmp/caf\udce9", None, None, "not UTF-8"),
        ("click", "wheel", None, "no kind 'wheel'"),
        ("click", None, "main", "A distribution has no refs"),
        ("https://example.org/x.git", "directory", None, "A URL cannot be a directory"),
        ("https://example.org/x.git", None, " ", "The ref is empty"),
        ("https://example.org/x.git", None, "a\nb", "not printable"),
        ("ftp://example.org/x.git", None, None, "is not read over ftp://"),
        ("http://example.org/x.git", None, None, "is not read over http://"),
        ("git://example.org/x.git", None, None, "is not read over git://"),
        ("ext::sh -c touch% /tmp/x", None, None, "no URL, no path"),
        ("ext::sh://x -c touch", None, None, "not read over|malformed"),
        ("ext://sh -c 'touch /tmp/x'", None, None, "is not read over ext://"),
        ("--upload-pack=touch /tmp/x", None, None, "no URL, no path"),
        ("--upload-pack=x://y/z", None, None, "is not read over|malformed"),
        ("ssh://-oProxyCommand=touch/x.git", None, None, "names no host"),
        ("ssh://-oProxyCommand=touch@example.org/x.git", None, None, "names no host"),
        ("-oProxyCommand=touch@example.org:x.git", None, None, "no URL, no path"),
        ("git@-oProxyCommand:x.git", None, None, "no URL, no path"),
        ("https://example.org", None, None, "names no repository"),
        ("https:///x.git", None, None, "names no host"),
        ("https://[::1/x.git", None, None, "malformed"),
        ("https://example.org:port/x.git", None, None, "malformed"),
        ("file://elsewhere/x.git", None, None, "names a path on this machine"),
    ],
)
def test_locations_that_are_refused(location: str, kind: str | None, ref: str | None, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        add_repository(NEVER_REACHED, "code", location, kind, ref)


@pytest.mark.parametrize(
    "url",
    [
        "https://someone:s3cret@example.org/x.git",
        "https://s3cret@example.org/x.git",
        "ssh://git:s3cret@example.org/x.git",
        "https://example.org/x.git?token=s3cret",
        "https://example.org/x.git#s3cret",
        "http://:s3cret@example.org/x.git",
        "https://someone:s3cret@example.org:port/x.git",
        "https://someone:s3cret@[/x",
        "someone:s3cret@example.org:team/code.git",
        "https:someone:s3cret@example.org/x.git",
        "https:/someone:s3cret@example.org/x.git",
        "ftp://someone:s3cret@example.org/x.git",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadInputError) as error:
        add_repository(NEVER_REACHED, "code", url)
    assert "s3cret" not in str(error.value)


def test_a_subdirectory_of_a_repository_names_the_repository(db: Database, tmp_path: Path) -> None:
    GitRepository(tmp_path / "work")
    inside = write_tree(tmp_path / "work" / "lib", {"a.py": function("a")})
    with pytest.raises(BadInputError, match="is not a git repository") as error:
        add_repository(db, "lib", str(inside), "git")
    assert str(tmp_path / "work") in error.value.hint
    assert add_repository(db, "lib", str(inside)).kind == "directory"


def test_a_broken_git_directory_is_not_taken_for_a_plain_one(db: Database, tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.py": function("a"), ".git": "gitdir: /nowhere\n"})
    with pytest.raises(BadInputError):
        add_repository(db, "broken", str(tmp_path), "git")
    assert add_repository(db, "plain", str(tmp_path), "directory").kind == "directory"


def test_an_unknown_name_lists_those_there_are(db: Database) -> None:
    with pytest.raises(BadInputError, match="'nope'") as error:
        get_repository(db, "nope")
    assert "Nothing is registered yet" in error.value.hint
    add_repository(db, "click", "click")
    add_repository(db, "also", "click")
    with pytest.raises(BadInputError):
        get_repository(db, "a\0b")
    for call in (get_repository, remove_repository):
        with pytest.raises(BadInputError) as error:
            call(db, "nope")
        assert "also, click" in error.value.hint


def test_removing_takes_files_and_snippets_along_and_leaves_the_rest(
    db: Database, tmp_path: Path, extract: Extract
) -> None:
    for name in ("one", "two"):
        extract(name, write_tree(tmp_path / name, {"a.py": function("a"), f"{name}.py": function(name)}))
    remove_repository(db, "one")
    with db.connect() as connection:
        left = connection.execute("SELECT DISTINCT path FROM snippets ORDER BY path").fetchall()
        files = connection.execute("SELECT path FROM files ORDER BY path").fetchall()
    assert left == files == [("a.py",), ("two.py",)]
    assert [r.name for r in list_repositories(db)] == ["two"]


def test_removing_deletes_a_clone_that_no_other_repository_uses(
    db: Database, settings: Settings, tmp_path: Path, extract: Extract
) -> None:
    origin = GitRepository(tmp_path / "origin")
    origin.commit({"a.py": function("a")})
    url = f"file://{origin.path}"
    extract("one", url)
    extract("two", url, ref="main")
    clones = settings.home_path / "clones"
    assert len(list(clones.glob("*.git"))) == 1
    remove_repository(db, "one", settings)
    assert len(list(clones.glob("*.git"))) == 1
    remove_repository(db, "two", settings)
    assert list(clones.glob("*.git")) == []


def test_the_default_sources_are_real_code_that_is_here(db: Database, settings: Settings) -> None:
    added = add_default_repositories(db, settings)
    assert [r.name for r in added] == ["honeloop", "networkx", "rich", "click"]
    assert added[0].location == str(PROJECT_ROOT)
    assert added[0].kind == ("git" if (PROJECT_ROOT / ".git").exists() else "directory")
    assert add_default_repositories(db, settings) == added


def test_the_report_is_kept_with_the_repository(db: Database, tmp_path: Path, extract: Extract) -> None:
    report = extract("code", write_tree(tmp_path / "code", {"a.py": function("a")}))
    stored = get_repository(db, "code")
    assert stored.report == json.loads(json.dumps(report.to_json()))
    assert stored.extracted_at is not None
    assert stored.commit_id is None
