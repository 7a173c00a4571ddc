"""Path globs: what they match, that Python agrees where it can, and that Postgres takes every one of them."""

from __future__ import annotations

import fnmatch
import random
import re

import psycopg
import pytest

from pipeline.errors import BadInputError
from pipeline.search.globs import glob_to_regex
from pipeline.store.connections import Database

PATHS = [
    "setup.py",
    "src/main.py",
    "src/main.pyi",
    "src/a/b/c.py",
    "src/a/test_b.py",
    "src/.hidden/x.py",
    "tests/test_a.py",
    "tests/test_ab.py",
    "docs/[draft].md",
    "docs/a+b(c).md",
    "docs/ünï.md",
    "lib/x^y/z.c",
    "lib/back\\slash.c",
]
CASES = {
    "*.py": [
        "setup.py",
        "src/main.py",
        "src/a/b/c.py",
        "src/a/test_b.py",
        "src/.hidden/x.py",
        "tests/test_a.py",
        "tests/test_ab.py",
    ],
    "main.py": ["src/main.py"],
    "/setup.py": ["setup.py"],
    "src/*.py": ["src/main.py"],
    "src/**": ["src/main.py", "src/main.pyi", "src/a/b/c.py", "src/a/test_b.py", "src/.hidden/x.py"],
    "src/": ["src/main.py", "src/main.pyi", "src/a/b/c.py", "src/a/test_b.py", "src/.hidden/x.py"],
    "src/**/*.py": ["src/main.py", "src/a/b/c.py", "src/a/test_b.py", "src/.hidden/x.py"],
    "**/test_*.py": ["src/a/test_b.py", "tests/test_a.py", "tests/test_ab.py"],
    "tests/test_?.py": ["tests/test_a.py"],
    "tests/test_[ab].py": ["tests/test_a.py"],
    "tests/test_[!a].py": [],
    "tests/test_[a-c]*.py": ["tests/test_a.py", "tests/test_ab.py"],
    "*/a/**/c.py": ["src/a/b/c.py"],
    "docs/[[]draft].md": ["docs/[draft].md"],
    "docs/a+b(c).md": ["docs/a+b(c).md"],
    "docs/???.md": ["docs/ünï.md"],
    "lib/x^y/*": ["lib/x^y/z.c"],
    "lib/x[^]y/*": ["lib/x^y/z.c"],
    "lib/back\\slash.c": ["lib/back\\slash.c"],
    "lib/back[\\]slash.c": ["lib/back\\slash.c"],
    "src": [],
    "SRC/**": [],
    "[!s]*.py": [
        "src/main.py",
        "src/a/b/c.py",
        "src/a/test_b.py",
        "src/.hidden/x.py",
        "tests/test_a.py",
        "tests/test_ab.py",
    ],
}


def matched(connection: psycopg.Connection, glob: str, paths: list[str]) -> list[str]:
    rows = connection.execute(
        "SELECT path FROM unnest(%s::text[]) WITH ORDINALITY AS p (path, n) WHERE path ~ %s ORDER BY n",
        [paths, glob_to_regex(glob)],
    )
    return [path for (path,) in rows]


@pytest.mark.parametrize("glob", CASES)
def test_what_a_glob_matches(db: Database, glob: str) -> None:
    with db.connect() as connection:
        assert matched(connection, glob, PATHS) == CASES[glob]


@pytest.mark.parametrize("glob", ["", "  ", "x" * 501, "[", "a[b", "[]", "[!]", "[z-a]", "a[b/c]d"])
def test_what_is_no_glob_is_bad_input(glob: str) -> None:
    with pytest.raises(BadInputError):
        glob_to_regex(glob)


def test_random_globs_match_as_python_does_and_never_upset_postgres(db: Database) -> None:
    """Within one folder `*`, `?` and sets mean what they mean to fnmatch, the leading `/` anchoring both."""
    rng = random.Random(17)
    alphabet = "ab.*?[]!-^\\+(){}|$é_ 1&~"
    names = [
        "".join(rng.choice("ab.-^\\+(){}|$é_ 1&~!]") for _ in range(rng.randint(1, 6))) for _ in range(300)
    ]
    compared = 0
    with db.connect() as connection:
        connection.execute("SET LOCAL statement_timeout = '10s'")
        for _ in range(3000):
            glob = "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 8)))
            try:
                glob_to_regex(f"/{glob}")
            except BadInputError:
                continue
            found = matched(connection, f"/{glob}", names)
            # To fnmatch ** is *, and spaces around belong to the name; these say nothing here.
            if "**" in glob or glob != glob.strip():
                continue
            assert found == [name for name in names if fnmatch.fnmatchcase(name, glob)], glob
            compared += 1
    assert compared > 1000


def test_random_sets_match_as_python_does(db: Database) -> None:
    """Where a hyphen stands first, last, or between ranges, it is one; no set matches a folder's border."""
    rng = random.Random(19)
    names = [chr(code) for code in range(32, 127) if chr(code) not in "/%"]
    compared = 0
    with db.connect() as connection:
        for _ in range(3000):
            members = "".join(rng.choice("-]^[\\a!c.:+z") for _ in range(rng.randint(1, 5)))
            glob = f"[{rng.choice(['', '!'])}{members}]"
            try:
                glob_to_regex(f"/{glob}")
            except BadInputError:
                continue
            expected = [name for name in names if fnmatch.fnmatchcase(name, glob)]
            assert matched(connection, f"/{glob}", [*names, "/"]) == expected, glob
            compared += 1
    assert compared > 1000


@pytest.mark.parametrize(
    "glob", ["*a" * 200, "**/" * 150 + "x", "**" * 200 + "b", "?*" * 200, "[a-z]*" * 80, "**/*a" * 80 + "/b"]
)
def test_no_glob_runs_away(db: Database, glob: str) -> None:
    with db.connect() as connection:
        connection.execute("SET LOCAL statement_timeout = '10s'")
        matched(connection, glob, ["a" * 1000, "a/" * 500 + "c", "ab" * 400])


def test_a_folders_name_is_a_prefix_that_an_index_serves() -> None:
    """Postgres takes the plain characters after ^ for the beginning that a text_pattern_ops index finds."""
    assert glob_to_regex("networkx/algorithms/**").startswith("^networkx/algorithms/")
    assert re.match(glob_to_regex("a/**/b.py"), "a/b.py")
