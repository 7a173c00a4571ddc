"""Reading histories: real repositories with everything that histories have in them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import FileMode

from assets_tests.corpus.making import Entry, GitRepository, function
from pipeline.corpus.changed_functions import functions_in
from pipeline.corpus.history import Changes, History, TooManyFilesError, is_aside
from pipeline.corpus.languages import get_language
from pipeline.corpus.sources.base import SourceError
from pipeline.corpus.sources.git import open_repository

BODY = "def first(a):\n    return a + 1\n\n\ndef second(b):\n    return b * 2\n"
CHANGED = BODY.replace("a + 1", "a + 100")


@pytest.fixture(params=[False, True], ids=["with a work tree", "bare"])
def made(tmp_path: Path, request: pytest.FixtureRequest) -> GitRepository:
    return GitRepository(tmp_path / "made", bare=request.param)


def history(made: GitRepository, tip: str) -> History:
    return History(open_repository(made.path), tip, 1_000_000, functions_in)


def change(made: GitRepository, before: dict[str | bytes, Entry], after: dict[str | bytes, Entry]) -> Changes:
    made.commit(before)
    commit = made.commit(after)
    return history(made, commit).changes(commit, 20)


def symbols(changes: Changes) -> list[str]:
    return [f"{each.path}:{each.symbol}" for each in changes.functions]


def test_a_change_names_the_function_that_is_another_now(made: GitRepository) -> None:
    changes = change(made, {"a.py": BODY}, {"a.py": CHANGED})
    assert symbols(changes) == ["a.py:first"]
    assert changes.functions[0].code == "def first(a):\n    return a + 100"
    assert changes.functions[0].before == "def first(a):\n    return a + 1"


def test_a_root_commit_adds_all_it_has(made: GitRepository) -> None:
    commit = made.commit({"a.py": BODY})
    changes = history(made, commit).changes(commit, 20)
    assert symbols(changes) == ["a.py:first", "a.py:second"]
    assert changes.functions[0].before is None


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(BODY.replace("(a):", "(a):\n    # Adds one."), id="a comment"),
        pytest.param(BODY.replace("(a):", '(a):\n    """Adds just one to it."""'), id="documentation"),
        pytest.param(BODY.replace("a + 1", "(a+ 1)").replace("(a+ 1)", "a+1"), id="spaces"),
        pytest.param("import os\n\n" + BODY, id="what is outside"),
        pytest.param(BODY.replace("\n", "\r\n"), id="line ends"),
        pytest.param("\ufeff" + BODY, id="a byte order mark"),
    ],
)
def test_comments_documentation_and_layout_are_no_change(made: GitRepository, after: str) -> None:
    changes = change(made, {"a.py": BODY}, {"a.py": after})
    assert symbols(changes) == []
    assert changes.code_files == 1


def test_a_formatter_changes_nothing(made: GitRepository) -> None:
    before = "def call(one, two):\n    return go(one, two)\n"
    after = "def call(\n    one,\n    two,\n):\n    return go(\n        one,\n        two,\n    )\n"
    assert symbols(change(made, {"a.py": before}, {"a.py": after})) == []


LOOP = """\
def total(rows):
    \"\"\"Adds them.\"\"\"
    total = 0
    for row in rows:
        # Blank ones are skipped.
        if row.amount:
            total += row.amount
            if row.last:
                break
        else:
            total += row.estimate

        return total


def other(rows):
    if rows: return 1
    return rows
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("        return total\n", "    return total\n", id="out of a loop"),
        pytest.param(
            "            if row.last:\n                break\n",
            "        if row.last:\n            break\n",
            id="out of a condition",
        ),
        pytest.param(
            "        else:\n            total", "    else:\n        total", id="the else of the loop"
        ),
        pytest.param(
            "                break\n", "                break\n            total = 0\n", id="one more"
        ),
        pytest.param("        return total\n", "        return\n        total\n", id="a line broken in two"),
    ],
)
def test_what_moves_to_another_block_is_a_change(made: GitRepository, old: str, new: str) -> None:
    assert symbols(change(made, {"a.py": LOOP}, {"a.py": LOOP.replace(old, new)})) == ["a.py:total"]


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(LOOP.replace("    ", "  "), id="two spaces"),
        pytest.param(LOOP.replace("    ", "\t"), id="tabs"),
        pytest.param(
            LOOP.replace("if rows: return 1", "if rows:\n        return 1"), id="a block on its own line"
        ),
        pytest.param(
            LOOP.replace("\n\n        return", "\n# Even here.\n        # And here.\n        return"),
            id="comments",
        ),
        pytest.param(
            LOOP.replace("                break\n", "                break\n# At the end.\n"),
            id="a comment ends it",
        ),
        pytest.param(LOOP.replace("+= row.amount", "+= (\n  row.amount\n            )"), id="a line wrapped"),
        pytest.param(LOOP.replace("+= row.amount", "+= \\\n  row.amount"), id="a line continued"),
        pytest.param(LOOP.replace("if row.last:", "if (\n  row.last\n    ):"), id="a condition wrapped"),
        pytest.param(
            "class Sums:\n" + "".join(f"    {line}\n" if line else "\n" for line in LOOP.splitlines()),
            id="into a class",
        ),
    ],
)
def test_the_width_of_an_indentation_is_no_change(after: str) -> None:
    before, now = (functions_in(each.encode(), get_language("python")) for each in (LOOP, after))
    assert [each.essence for each in before.values()] == [each.essence for each in now.values()]


def test_black_changes_nothing(made: GitRepository) -> None:
    before = """\
def call(one, two):
  with open(one) as f, open(two) as g:
    for line in f: g.write(line); yield line
    return go(one, two, [1, 2,
       3], key=lambda x: x)
"""
    after = """\
def call(
    one,
    two,
):
    with open(one) as f, open(two) as g:
        for line in f: g.write(line); yield line
        return go(
            one,
            two,
            [1, 2, 3],
            key=lambda x: x,
        )
"""
    assert symbols(change(made, {"a.py": before}, {"a.py": after})) == []
    assert symbols(change(made, {"b.py": before}, {"b.py": after.replace("        return", "    return")}))


SCALA = """\
object Sums:
  def total(rows: Seq[Row]) =
    for row <- rows do
      log(row)
      count(row)
    rows.size
  def first(rows: Seq[Row]) = rows.head
"""


def test_scala_without_braces_is_read_the_same_way() -> None:
    def essences(source: str) -> list[bytes]:
        return [each.essence for each in functions_in(source.encode(), get_language("scala")).values()]

    assert len(essences(SCALA)) == 2
    wider = SCALA.replace("  ", "    ").replace("= rows.head", "=\n        rows.head")
    assert essences(wider) == essences(SCALA)
    moved = essences(SCALA.replace("      count", "    count"))
    assert [one == other for one, other in zip(moved, essences(SCALA), strict=True)] == [False, True]


def test_a_change_inside_an_inner_function_is_not_one_of_the_outer(made: GitRepository) -> None:
    before = """\
def outer():
    x = 1
    def inner(a):
        b = a
        c = b
        return c
    return inner
"""
    changes = change(made, {"a.py": before}, {"a.py": before.replace("c = b", "c = b + 1")})
    assert symbols(changes) == ["a.py:outer.inner"]


def test_what_was_moved_or_renamed_is_not_changed(made: GitRepository) -> None:
    assert symbols(change(made, {"a.py": BODY}, {"lib/b.py": BODY})) == []
    first, second = BODY.split("\n\n\n")
    apart: dict[str | bytes, Entry] = {"one.py": first + "\n", "two.py": second}
    assert symbols(change(made, {"a.py": BODY}, apart)) == []
    # Moved and changed: found under the new name, with what it was before.
    changes = change(made, {"a.py": BODY}, {"b.py": CHANGED})
    assert symbols(changes) == ["b.py:first"]
    assert changes.functions[0].before == "def first(a):\n    return a + 1"


def test_tests_examples_links_submodules_and_other_files_are_beside_the_point(made: GitRepository) -> None:
    kept: dict[str | bytes, Entry] = {"a.py": BODY}
    changes = change(
        made,
        kept,
        {
            **kept,
            "tests/test_a.py": function("test_it"),
            "examples/b.py": function("show"),
            "link.py": (FileMode.LINK, "a.py"),
            "module": (FileMode.COMMIT, "1" * 40),
            "README.md": "# Read me",
            "picture.py": b"\x00\x01\x02" * 99,
            b"caf\xe9.py": function("latin"),
            "vendor/c.py": function("foreign"),
        },
    )
    assert symbols(changes) == ["caf\\xe9.py:latin"]
    assert [each.symbol for each in changes.aside] == ["show", "test_it"]


def test_what_has_only_a_signature_is_no_function(made: GitRepository) -> None:
    stubs = "@overload\ndef first(a: int) -> int: ...\n@overload\ndef first(a: str) -> str:\n    pass\n"
    found = functions_in((stubs + BODY).encode(), get_language("python"))
    assert list(found) == ["first#3", "second"]
    changes = change(made, {"a.py": stubs + BODY}, {"a.py": stubs.replace("int", "float") + BODY})
    assert symbols(changes) == []


def test_deleted_functions_are_gone_and_no_change(made: GitRepository) -> None:
    assert symbols(change(made, {"a.py": BODY, "b.py": BODY}, {"a.py": BODY})) == []


def test_too_many_files_are_not_looked_into(made: GitRepository) -> None:
    commit = made.commit({f"f{n}.py": function(f"f{n}") for n in range(6)})
    assert len(history(made, commit).changes(commit, 6).functions) == 6
    with pytest.raises(TooManyFilesError):
        history(made, commit).changes(commit, 5)


def test_commits_come_newest_first_with_their_words_whatever_the_bytes(made: GitRepository) -> None:
    made.commit({"a.py": BODY}, message="First, in UTF-8: é")
    made.commit({"a.py": CHANGED}, message=b"Second, not in UTF-8: \xe9")
    side = made.commit({"b.py": BODY}, "refs/heads/side", parents=[])
    main = str(made.git.references["refs/heads/main"].target)
    tip = made.commit({"a.py": CHANGED, "b.py": BODY}, message="Merge branch side", parents=[main, side])
    commits = list(history(made, tip).commits(10))
    assert [commit.message for commit in commits] == [
        "Merge branch side",
        "A commit",
        "Second, not in UTF-8: é",
        "First, in UTF-8: é",
    ]
    assert [commit.parents for commit in commits] == [2, 0, 1, 0]
    assert [commit.cut_off for commit in commits] == [False] * 4
    assert commits[0].author == "A. Author <author@example.org>"
    assert len(list(history(made, tip).commits(2))) == 2


def test_a_message_in_another_encoding_is_read_in_it(tmp_path: Path) -> None:
    made = GitRepository(tmp_path / "made")
    tip = made.commit({"a.py": BODY})
    raw = made.git.odb.read(tip)[1].split(b"\n\n")[0]
    commit = made.git.odb.write(pygit2.enums.ObjectType.COMMIT, raw + b"\nencoding cp1251\n\n\xcf\xf0\xe8")
    assert next(history(made, str(commit)).commits(1)).message == "При"


@pytest.mark.parametrize("encoding", [b"unicode_escape", b"rot13", b"no-such", b"\xff"])
def test_a_commit_that_names_no_character_set_is_read_as_latin_1(tmp_path: Path, encoding: bytes) -> None:
    made = GitRepository(tmp_path / "made")
    raw = made.git.odb.read(made.commit({"a.py": BODY}))[1].split(b"\n\n")[0]
    content = raw + b"\nencoding " + encoding + b"\n\n\xe9 \\ud800"
    commit = made.git.odb.write(pygit2.enums.ObjectType.COMMIT, content)
    assert next(history(made, str(commit)).commits(1)).message == "é \\ud800"


def test_functions_of_one_name_in_two_files_are_compared_with_their_own(made: GitRepository) -> None:
    other = "def first(a):\n    return [a, a]\n"
    changes = change(
        made,
        {"a.py": BODY, "b.py": other},
        {"a.py": CHANGED, "b.py": other.replace("[a, a]", "(a, a)")},
    )
    assert symbols(changes) == ["a.py:first", "b.py:first"]
    assert [each.before for each in changes.functions] == [
        "def first(a):\n    return a + 1",
        "def first(a):\n    return [a, a]",
    ]


def test_a_path_too_long_to_be_stored_is_no_code(made: GitRepository) -> None:
    long = "/".join(["d" * 200] * 4) + "/a.py"
    assert symbols(change(made, {"b.py": BODY, long: BODY}, {"b.py": CHANGED, long: CHANGED})) == [
        "b.py:first"
    ]


def test_whether_a_history_goes_on(made: GitRepository) -> None:
    first = made.commit({"a.py": BODY})
    second = made.commit({"a.py": CHANGED})
    other = made.commit({"a.py": CHANGED}, "refs/heads/other", message="Rewritten", parents=[first])
    past = history(made, second)
    assert past.leads_to(first)
    assert past.leads_to(second)
    assert not past.leads_to(other)
    assert not past.leads_to("1" * 40)
    with pytest.raises(SourceError, match="cannot be read"):
        history(made, "1" * 40)


def test_a_shallow_clone_ends_where_it_was_cut_off(tmp_path: Path) -> None:
    made = GitRepository(tmp_path / "made")
    for n in range(5):
        made.commit({"a.py": BODY.replace("1", str(n))}, message=f"Number {n}")
    clone = tmp_path / "clone"
    # libgit2 makes no shallow clone of a local repository.
    subprocess.run(
        ["git", "clone", "--quiet", "--bare", "--depth=2", f"file://{made.path}", str(clone)], check=True
    )
    repository = open_repository(clone)
    assert repository.is_shallow
    past = History(repository, str(repository.head.target), 1_000_000, functions_in)
    commits = list(past.commits(10))
    assert [(commit.message, commit.cut_off) for commit in commits] == [
        ("Number 4", False),
        ("Number 3", True),
    ]
    assert symbols(past.changes(commits[0].id, 20)) == ["a.py:first"]


def test_missing_objects_are_an_error_of_one_commit(tmp_path: Path) -> None:
    made = GitRepository(tmp_path / "made")
    made.commit({"a.py": BODY})
    tip = made.commit({"a.py": CHANGED})
    blob = str(made.git.create_blob(CHANGED.encode()))  # which is there already
    (made.path / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    past = history(made, tip)
    with pytest.raises(SourceError, match=tip):
        past.changes(tip, 20)
    assert len(list(past.commits(10))) == 2


@pytest.mark.parametrize(
    ("path", "aside"),
    [
        ("src/retry.py", False),
        ("src/testing.py", False),
        ("src/contest.py", False),
        ("src/latest.go", False),
        ("tests/retry.py", True),
        ("src/test_retry.py", True),
        ("tree_test.go", True),
        ("a.test.ts", True),
        ("RetryTest.java", True),
        ("spec/retry_spec.rb", True),
        ("examples/retry.py", True),
        ("Docs/conf.py", True),
    ],
)
def test_what_a_path_says_of_tests(path: str, aside: bool) -> None:
    assert is_aside(path) is aside


@pytest.mark.parametrize(
    ("language", "source", "expected"),
    [
        ("go", "package a\n// Adds.\nfunc Add(a int) int { return a + 1 }\n", "Add"),
        ("rust", "impl A {\n    /// Adds.\n    fn add(&self) -> u8 { 1 }\n}\n", "A.add"),
        ("java", "class A {\n  /** Adds. */\n  int add(int a) { return a + 1; }\n}\n", "A.add"),
        ("typescript", "export const add = (a: number) => { return a + 1; };\n", "add"),
        ("ruby", "class A\n  # Adds.\n  def add(a)\n    a + 1\n  end\nend\n", "A.add"),
    ],
)
def test_functions_have_the_symbols_of_their_snippets(language: str, source: str, expected: str) -> None:
    from assets_tests.corpus.samples import by_symbol

    found = functions_in(source.encode(), get_language(language))
    assert list(found) == [expected]
    assert expected in by_symbol(language, source)
