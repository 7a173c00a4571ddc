"""A snippet by its number, and the address at which its lines can be looked at."""

from __future__ import annotations

from pathlib import Path

import pygit2
import pytest

from assets_tests.index.click_corpus import Function, add_functions, vanish
from pipeline.search.links import Hosted, Links, Origin, find_hosted, hosted_at
from pipeline.search.snippets import UnknownSnippetError, find_origins, find_snippet
from pipeline.store.connections import Database

Functions = tuple[Function, ...]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://github.com/o/r.git", f"https://github.com/o/r/blob/{COMMIT}/a/b.py#L3-L9"),
        ("https://github.com/o/r/", f"https://github.com/o/r/blob/{COMMIT}/a/b.py#L3-L9"),
        ("git@github.com:o/r.git", f"https://github.com/o/r/blob/{COMMIT}/a/b.py#L3-L9"),
        ("ssh://git@github.com:22/o/r.git", f"https://github.com/o/r/blob/{COMMIT}/a/b.py#L3-L9"),
        ("git://github.com/o/r", f"https://github.com/o/r/blob/{COMMIT}/a/b.py#L3-L9"),
        ("https://GitHub.com/o/r", f"https://github.com/o/r/blob/{COMMIT}/a/b.py#L3-L9"),
        ("https://ada:secret@github.com/o/r", f"https://github.com/o/r/blob/{COMMIT}/a/b.py#L3-L9"),
        (
            "https://github.example.com:8443/o/r",
            f"https://github.example.com:8443/o/r/blob/{COMMIT}/a/b.py#L3-L9",
        ),
        ("git@gitlab.com:group/sub/r.git", f"https://gitlab.com/group/sub/r/-/blob/{COMMIT}/a/b.py#L3-9"),
        ("https://gitlab.example.org/o/r", f"https://gitlab.example.org/o/r/-/blob/{COMMIT}/a/b.py#L3-9"),
        ("git@bitbucket.org:o/r.git", f"https://bitbucket.org/o/r/src/{COMMIT}/a/b.py#lines-3:9"),
        ("https://codeberg.org/o/r.git", f"https://codeberg.org/o/r/src/commit/{COMMIT}/a/b.py#L3-L9"),
        ("https://gitea.example.com/o/r", f"https://gitea.example.com/o/r/src/commit/{COMMIT}/a/b.py#L3-L9"),
    ],
)
def test_permalinks_of_hosting_services(remote: str, address: str) -> None:
    links = Links()
    assert links.url(Origin("git", remote, COMMIT, 3, 9), "a/b.py", snippet_id=7) == address


@pytest.mark.parametrize(
    "remote",
    [
        *("https://example.com/o/r", "https://notgithub.com/o/r", "https://bitbucket.example.com/o/r"),
        *("https://github.com", "https://github.com/o", "ftp://github.com/o/r", "/srv/github.com/o/r"),
        *("file:///github.com/o/r", "javascript://github.com/o/r"),
        *("https://[github.com/o/r", "https://github.com:x/o/r", 'git@github.com:o/r" onclick="x'),
    ],
)
def test_other_remotes_have_no_address(remote: str) -> None:
    assert hosted_at(remote) is None


def test_names_are_quoted() -> None:
    hosted = Hosted("github", "https://github.com/o/r")
    assert hosted.lines(COMMIT, "a b/ü#1?.py", 1, 2).endswith("/a%20b/%C3%BC%231%3F.py#L1-L2")


@pytest.mark.parametrize(
    ("kind", "commit"), [("distribution", "8.2.1"), ("directory", None), ("git", None), ("git", "HEAD")]
)
def test_what_comes_from_no_commit_has_a_page_here(kind: str, commit: str | None) -> None:
    origin = Origin(kind, "https://github.com/o/r", commit, 3, 9)
    assert Links().url(origin, "a/b.py", snippet_id=7) == "/snippets/7"


def commit_file(repository: pygit2.Repository, text: str) -> str:
    """A new commit on the branch main; its id."""
    author = pygit2.Signature("Ada", "ada@example.com", 1_700_000_000, 0)
    tree = repository.TreeBuilder()
    tree.insert("a.py", repository.create_blob(text.encode()), pygit2.enums.FileMode.BLOB)
    parents = [] if repository.head_is_unborn else [repository.head.target]
    return str(repository.create_commit("refs/heads/main", author, author, "c", tree.write(), parents))


def test_a_local_repository_links_to_what_was_pushed(tmp_path: Path) -> None:
    location = str(tmp_path / "code")
    repository = pygit2.init_repository(location, initial_head="main")
    first, second, third = (commit_file(repository, f"x = {n}\n") for n in range(3))
    assert find_hosted("git", location, second) is None  # no remote
    repository.remotes.create("origin", "git@github.com:o/r.git")
    assert find_hosted("git", location, second) is None  # nothing pushed
    repository.references.create("refs/remotes/origin/main", second)
    hosted = Hosted("github", "https://github.com/o/r")
    assert find_hosted("git", location, first) == hosted
    assert find_hosted("git", location, second) == hosted
    assert find_hosted("git", location, third) is None  # not pushed yet
    assert find_hosted("git", location, COMMIT) is None  # no such commit
    assert find_hosted("git", str(tmp_path / "gone"), second) is None
    repository.remotes.set_url("origin", "/srv/code.git")
    assert find_hosted("git", location, second) is None


def test_a_snippet_with_its_places(db: Database, functions: Functions) -> None:
    add_functions(db, functions[:3], repository="b")
    add_functions(db, functions[:2], repository="a")
    with db.connect() as connection:
        connection.execute("UPDATE repositories SET kind = 'git', commit_id = %s WHERE name = 'b'", [COMMIT])
        connection.execute("UPDATE snippets SET commit_id = 'earlier'")
        numbers = {
            (name, path, line): number
            for name, path, line, number in connection.execute(
                "SELECT r.name, s.path, s.start_line, s.id FROM snippets s"
                " JOIN repositories r ON r.id = s.repository_id"
            )
        }
        first = functions[0]
        number = numbers["b", first.path, first.start_line]
        found = find_snippet(connection, number)
        assert (found.snippet_id, found.repository, found.code) == (number, "b", first.code)
        assert (found.kind, found.language, found.places, found.vanished_at) == (
            "function",
            "python",
            2,
            None,
        )
        end = first.start_line + first.code.count("\n")
        # The lines are those of the last extraction, whenever the code itself was last changed.
        assert found.origin == Origin("git", "click", COMMIT, first.start_line, end)
        (other,) = found.also_at
        assert (other.repository, other.snippet_id) == ("a", numbers["a", first.path, first.start_line])
        assert (other.path, other.symbol, other.start_line) == (first.path, first.symbol, first.start_line)
        assert other.origin.kind == "distribution"
        assert find_origins(connection, [number, 0]) == {number: found.origin}
        alone = find_snippet(connection, numbers["b", functions[2].path, functions[2].start_line])
        assert (alone.places, alone.also_at) == (1, ())
    vanish(db, [first])
    with db.connect() as connection:
        found = find_snippet(connection, number)
        assert (found.places, found.also_at, found.code) == (0, (), first.code)
        assert found.vanished_at is not None
        assert found.origin.commit == "earlier"
        for unknown in (0, -1, 10**9, 2**63, 10**30):
            with pytest.raises(UnknownSnippetError, match=f"no snippet {unknown}"):
                find_snippet(connection, unknown)
