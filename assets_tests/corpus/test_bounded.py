"""The process that parses: its limits, its deaths, and what extraction makes of a file that exceeds them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil
import pytest

from assets_tests.corpus.conftest import Extract
from assets_tests.corpus.making import function, write_tree
from pipeline.config import PROJECT_ROOT, Settings
from pipeline.corpus.bounded.cutter import Cutter, SourceFile
from pipeline.corpus.bounded.limits import BeyondLimitsError
from pipeline.corpus.bounded.pool import CutterPool
from pipeline.corpus.cutting import CutFile
from pipeline.corpus.languages import LANGUAGES, get_language
from pipeline.corpus.skipping import BEYOND_LIMITS
from pipeline.corpus.tokens import TokenBudget
from pipeline.errors import HoneloopError
from pipeline.search.filters import Filters
from pipeline.search.globs import glob_to_regex
from pipeline.store.connections import Database

PYTHON = get_language("python")
A = function("a")
# Each function has all the code of those in it, each of their lines may begin a part, and all is counted anew
# for each: half a megabyte that takes far longer than its size says.
DEEP = "".join(f"{' ' * n}def f{n}():\n" + f"{' ' * (n + 1)}x = {n}\n" * 2_000 for n in range(14)).encode()


def cut(cutter: Cutter, source: bytes) -> list[str]:
    return [snippet.symbol for snippet in cutter.cut("a.py", source, PYTHON).snippets]


def process_of(cutter: Cutter) -> psutil.Process:
    """The process that parses."""
    started: subprocess.Popen[bytes] | None = cutter._process
    assert started is not None
    return psutil.Process(started.pid)


def test_nothing_is_started_until_something_is_asked(budget: TokenBudget) -> None:
    before = {child.pid for child in psutil.Process().children()}
    with Cutter(Settings(), budget):
        assert {child.pid for child in psutil.Process().children()} == before


def test_what_is_cut_is_what_is_cut_in_this_process(budget: TokenBudget) -> None:
    from pipeline.corpus.changed_functions import functions_in
    from pipeline.corpus.cutting import cut_file

    source = (PROJECT_ROOT / "pipeline" / "corpus" / "cutting.py").read_bytes()
    with Cutter(Settings(), budget) as cutter:
        assert cutter.cut("cutting.py", source, PYTHON) == cut_file("cutting.py", source, PYTHON, budget)
        assert cutter.functions(source, PYTHON) == functions_in(source, PYTHON)
        child = process_of(cutter)
        loaded = {Path(each.path).name.split(".")[0] for each in child.memory_maps()}
        assert not any(name.startswith(("libtorch", "_pydantic_core", "_psycopg")) for name in loaded)
    assert not child.is_running()


def test_too_much_time_and_too_much_memory_each_end_only_their_file(budget: TokenBudget) -> None:
    with Cutter(Settings(parse_seconds=0.3), budget) as cutter:
        assert cut(cutter, A.encode()) == ["a"]
        child = process_of(cutter)
        with pytest.raises(BeyondLimitsError, match=r"took more than 0\.3 s of processor time") as error:
            cut(cutter, DEEP)
        assert error.value.lasting
        assert not child.is_running()
        assert cut(cutter, A.encode()) == ["a"]
    with Cutter(Settings(parse_memory_mb=50), budget) as cutter:
        with pytest.raises(BeyondLimitsError, match="took more than 50 MB of memory to parse") as error:
            cut(cutter, b"[(" * 450_000)
        assert error.value.lasting
        assert cut(cutter, A.encode()) == ["a"]


def test_waiting_is_not_computing(budget: TokenBudget) -> None:
    # A machine that is suspended, or busy with other things, makes no file exceed its limits.
    with Cutter(Settings(parse_seconds=0.3), budget) as cutter:
        cut(cutter, A.encode())
        child = process_of(cutter)
        child.suspend()
        waker = subprocess.Popen(["sh", "-c", f"sleep 1 && kill -CONT {child.pid}"])
        assert cut(cutter, A.encode()) == ["a"]
        assert process_of(cutter) == child
        waker.wait()


def test_a_death_from_outside_is_nobodys_fault(budget: TokenBudget) -> None:
    with Cutter(Settings(), budget) as cutter:
        cut(cutter, A.encode())
        killed = process_of(cutter)
        killed.kill()
        assert cut(cutter, A.encode()) == ["a"]  # a new one does it
        assert process_of(cutter) != killed


# One that ends at once, one that may not be executed, and one that is not there.
@pytest.mark.parametrize("python", ["/bin/false", __file__, "/no/python"])
def test_a_process_that_cannot_start_says_so(
    budget: TokenBudget, monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    monkeypatch.setattr(sys, "executable", python)
    with Cutter(Settings(), budget) as cutter, pytest.raises(HoneloopError, match="cannot be started"):
        cut(cutter, A.encode())


PARENT = """
import os, sys
from pipeline.config import Settings
from pipeline.corpus.bounded.cutter import Cutter
from pipeline.corpus.languages import get_language
with Cutter(Settings(parse_seconds=600)) as cutter:
    cutter.functions(b"x = 1", get_language("python"))
    print(cutter._process.pid, flush=True)
    {then}
"""


@pytest.mark.parametrize(
    "then",
    [
        pytest.param("sys.stdin.read()", id="idle"),
        pytest.param("cutter.functions(b'[(' * 19_000_000, get_language('python'))", id="at work"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends after its file")
def test_it_does_not_outlive_its_parent(then: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(then=then)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    try:
        child = psutil.Process(int(parent.stdout.readline()))
        time.sleep(0.3)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        child.wait(20)
    finally:
        parent.kill()
        parent.stdin.close()
        parent.stdout.close()


def test_nothing_is_imported_from_where_one_happens_to_be(
    budget: TokenBudget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = f"open({str(tmp_path / 'sprung')!r}, 'w')\nraise SystemExit\n"
    write_tree(tmp_path, {"json.py": trap, "tree_sitter/__init__.py": trap, "pipeline/__init__.py": trap})
    monkeypatch.chdir(tmp_path)
    with Cutter(Settings(), budget) as cutter:
        assert cut(cutter, A.encode()) == ["a"]
    assert not (tmp_path / "sprung").exists()


def nested(language: str, depth: int) -> bytes:
    """Code of the language with so many brackets, blocks or calls inside each other."""
    opening, closing = {
        "bash": ("$(", ")"),
        "elixir": ("foo(", ")"),
        "lua": ("f(", ")"),
        "ruby": ("f(", ")"),
        "php": ("f(", ")"),
    }.get(language, ("{" if language not in {"python", "javascript", "typescript", "tsx"} else "(", ""))
    closing = closing or {"{": "}", "(": ")"}[opening]
    head = "<?php " if language == "php" else ""
    return f"{head}{opening * depth}1{closing * depth}\n".encode()


def test_deep_nesting_in_every_language_ends_no_process(budget: TokenBudget) -> None:
    with Cutter(Settings(), budget) as cutter:
        cut(cutter, A.encode())
        child = process_of(cutter)
        for language in LANGUAGES:
            if language.name != "elixir":
                cutter.cut("deep", nested(language.name, 10_000), language)
        assert process_of(cutter) == child


def test_a_parser_bomb(budget: TokenBudget) -> None:
    # Forty kilobytes that take over ten seconds: what its query needs grows with the square of the depth.
    with Cutter(Settings(parse_seconds=0.5), budget) as cutter:
        with pytest.raises(BeyondLimitsError, match=r"took more than 0\.5 s"):
            cutter.cut("bomb.ex", nested("elixir", 10_000), get_language("elixir"))
        with pytest.raises(BeyondLimitsError, match=r"took more than 0\.5 s"):
            cutter.functions(nested("elixir", 10_000), get_language("elixir"))
        assert cut(cutter, A.encode()) == ["a"]


# Several at once


def test_files_that_are_asked_for_together_are_cut_as_each_alone(budget: TokenBudget) -> None:
    from pipeline.corpus.cutting import cut_file

    paths = sorted((PROJECT_ROOT / "pipeline" / "corpus").glob("*.py"))
    files = [SourceFile(path.name, path.read_bytes(), PYTHON) for path in paths]
    files.insert(3, SourceFile("nothing.py", b"", PYTHON))
    with Cutter(Settings(), budget) as cutter:
        assert cutter.cut_several([]) == []
        assert cutter.cut_several(files) == [cut_file(*file, budget) for file in files]


@pytest.mark.parametrize(
    ("limit", "source", "why"),
    [
        ({"parse_seconds": 0.3}, DEEP, r"took more than 0\.3 s of processor time"),
        ({"parse_memory_mb": 50}, b"[(" * 450_000, "took more than 50 MB of memory to parse"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_one_of_several_beyond_the_limits_takes_no_other_along(
    budget: TokenBudget, limit: dict[str, Any], source: bytes, why: str, first: bool
) -> None:
    good, bad = SourceFile("a.py", A.encode(), PYTHON), SourceFile("bad.py", source, PYTHON)
    with Cutter(Settings(**limit), budget) as cutter:
        if not first:
            cut(cutter, A.encode())
        before, beyond, after = cutter.cut_several([good, bad, good])
        assert isinstance(before, CutFile)
        assert [snippet.symbol for snippet in before.snippets] == ["a"]
        assert after == before
        assert isinstance(beyond, BeyondLimitsError)
        assert re.search(why, str(beyond))
        assert beyond.lasting


def test_a_death_from_outside_loses_none_of_several(budget: TokenBudget) -> None:
    files = [SourceFile(f"{n}.py", function(f"f{n}").encode(), PYTHON) for n in range(5)]
    with Cutter(Settings(), budget) as cutter:
        cut(cutter, A.encode())
        process_of(cutter).kill()
        found = cutter.cut_several(files)
    names = [[snippet.symbol for snippet in each.snippets] for each in found if isinstance(each, CutFile)]
    assert names == [[f"f{n}"] for n in range(5)]


# Several side by side


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def test_a_pool_gives_each_file_its_own_and_starts_no_more_processes_than_have_work(
    budget: TokenBudget,
) -> None:
    before = children()
    sources = {f"f{n}": function(f"f{n}").encode() for n in range(40)}
    with CutterPool(Settings(parse_processes=3), budget) as pool:
        assert cut_by(pool, sources["f0"]) == ["f0"]
        assert cut_by(pool, sources["f1"]) == ["f1"]
        assert len(children() - before) == 1
        futures = {name: pool.cut("a.py", source, PYTHON) for name, source in sources.items()}
        for name, future in futures.items():
            assert [snippet.symbol for snippet in future.result().snippets] == [name]
        assert 1 <= len(children() - before) <= 3
    assert children() == before


def cut_by(pool: CutterPool, source: bytes) -> list[str]:
    return [snippet.symbol for snippet in pool.cut("a.py", source, PYTHON).result().snippets]


def test_a_file_beyond_the_limits_does_not_disturb_those_beside_it(budget: TokenBudget) -> None:
    with CutterPool(Settings(parse_processes=2, parse_seconds=0.3), budget) as pool:
        bomb = pool.cut("bomb.py", DEEP, PYTHON)
        others = [pool.cut("a.py", A.encode(), PYTHON) for _ in range(20)]
        assert [[s.symbol for s in other.result().snippets] for other in others] == [["a"]] * 20
        with pytest.raises(BeyondLimitsError, match=r"took more than 0\.3 s"):
            bomb.result()


def test_what_is_asked_ahead_keeps_its_order_and_is_bounded(budget: TokenBudget) -> None:
    asked: list[int] = []

    def ask(number: int) -> int:
        asked.append(number)
        return number

    with CutterPool(Settings(parse_processes=2), budget) as pool:
        for position, number in enumerate(pool.ahead(map(ask, range(100)))):
            assert number == position
            assert len(asked) <= min(position + 33, 100)
    assert asked == list(range(100))


def test_leaving_a_pool_waits_for_nothing_that_has_not_begun(budget: TokenBudget) -> None:
    before, futures = children(), list[Future[CutFile]]()
    with pytest.raises(KeyboardInterrupt), CutterPool(Settings(parse_processes=2), budget) as pool:
        # Long enough that they are not all done before this is left.
        futures += [pool.cut("a.py", A.encode() * 300, PYTHON) for _ in range(200)]
        futures[0].result()
        raise KeyboardInterrupt
    assert any(future.cancelled() for future in futures)
    assert children() == before


# What extraction makes of it


def test_several_processes_extract_what_one_does(db: Database, tmp_path: Path, extract: Extract) -> None:
    tree = write_tree(
        tmp_path / "code",
        {f"{n:02}.py": function(f"f{n}") * (1 + n % 3) for n in range(30)}
        | {"07b.py": "def broken(:\n", "11b.py": "# Code generated by a tool. DO NOT EDIT.\n" + A}
        | {"13b.py": DEEP.decode(), "notes.txt": "none"},
    )
    reports = [
        extract(name, tree, parse_processes=count, parse_seconds=0.3)
        for name, count in (("one", 1), ("three", 3))
    ]
    one, three = ({**report.to_json(), "repository": "", "seconds": 0} for report in reports)
    assert one == three
    assert [problem.partition(":")[0] for problem in reports[1].problems] == ["13b.py", "07b.py"]
    query = (
        "SELECT path, symbol, code, content_hash FROM snippets"
        " JOIN repositories ON repositories.id = repository_id WHERE name = '{}' ORDER BY path, symbol"
    )
    assert rows(db, query.format("one")) == rows(db, query.format("three")) != []


def rows(db: Database, query: str) -> list[tuple[Any, ...]]:
    with db.connect() as connection:
        return connection.execute(query.encode()).fetchall()


def test_a_file_beyond_the_limits_keeps_its_snippets_and_is_not_tried_again(
    db: Database, tmp_path: Path, extract: Extract, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = write_tree(tmp_path / "code", {"a.py": A, "b.py": function("b")})
    extract("code", tree)
    before = rows(db, "SELECT id, path, code FROM snippets WHERE vanished_at IS NULL ORDER BY id")
    write_tree(tree, {"a.py": DEEP, "b.py": function("b").replace("return", "print(value)\n    return")})
    report = extract("code", parse_seconds=0.3)
    said = "a.py: took more than 0.3 s of processor time to parse"
    assert report.problems == [said]
    assert report.files_skipped == {BEYOND_LIMITS: 1}
    assert (report.files_parsed, report.snippets_changed, report.snippets_vanished) == (1, 1, 0)
    after = rows(db, "SELECT id, path, code FROM snippets WHERE vanished_at IS NULL ORDER BY id")
    assert [row for row in after if row[1] == "a.py"] == [row for row in before if row[1] == "a.py"]
    # Its path is still one that searches may be limited to.
    with db.connect() as connection:
        assert Filters(path_regex=glob_to_regex("a.*")).with_paths(connection).paths == ("a.py",)

    with monkeypatch.context() as patch:
        patch.setattr(Cutter, "cut_several", lambda *_: pytest.fail("it was tried again"))
        again = extract("code", parse_seconds=0.3)
    assert (again.unchanged, again.problems, again.files_skipped) == (True, [said], report.files_skipped)

    # Other limits, and that file alone is tried again; so it is once it has changed.
    more = extract("code", parse_seconds=0.31)
    assert (more.files_parsed, more.files_unchanged, more.files_skipped) == (0, 1, {BEYOND_LIMITS: 1})
    write_tree(tree, {"a.py": A.replace("return value", "return -value")})
    mended = extract("code", parse_seconds=0.31)
    assert (mended.files_parsed, mended.files_skipped, mended.problems) == (1, {}, [])
    assert mended.snippets_changed == 1
    (tree / "a.py").unlink()
    assert extract("code", parse_seconds=0.31).snippets_vanished == 1


def test_a_file_whose_parsing_was_killed_is_tried_again(
    db: Database, tmp_path: Path, extract: Extract, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = write_tree(tmp_path / "code", {"a.py": A})
    with monkeypatch.context() as patch:
        killed = BeyondLimitsError("ended the process that parsed it (SIGKILL)", lasting=False)
        patch.setattr(Cutter, "_ask", _raising(killed))
        report = extract("code", tree)
    assert report.files_skipped == {"unreadable": 1}
    assert "SIGKILL" in report.problems[0]
    assert extract("code").files_parsed == 1


def _raising(error: Exception) -> Any:
    def raises(*_: object) -> None:
        raise error

    return raises
