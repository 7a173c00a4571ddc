"""Importing judgements: every line either becomes feedback or is set aside with its reason, exactly once."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from assets_tests.feedback.world import add_code, vanish, write_lines
from pipeline.config import Settings
from pipeline.errors import BadInputError, UnavailableError
from pipeline.feedback import import_store
from pipeline.feedback.importing import import_feedback, rejected_path
from pipeline.feedback.pairs import feedback_pairs
from pipeline.store.connections import Connection, Database

GOOD: dict[str, object] = {
    "query": "read a file",
    "repository": "demo",
    "path": "a.py",
    "judgement": "accept",
}


@pytest.fixture
def snippets(db: Database) -> dict[str, int]:
    return add_code(
        db,
        {
            "a.py": {"first": "def first(): 1", "second": "def second(): 2", "gone": "def gone(): 3"},
            "dir/b.py": {"B.run": "def run(self): 4"},
        },
    )


def feedback(db: Database) -> list[tuple[Any, ...]]:
    with db.connect() as connection:
        return connection.execute(
            "SELECT s.query, f.user_name, f.snippet_id, f.judgement, s.source, i.rank, i.score "
            "FROM feedback f JOIN searches s ON s.id = f.search_id "
            "JOIN impressions i USING (search_id, snippet_id) ORDER BY f.id"
        ).fetchall()


def set_aside(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in rejected_path(file).read_text().splitlines()]


def test_what_a_line_becomes(db: Database, snippets: dict[str, int], tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "f.jsonl",
        GOOD,
        {**GOOD, "symbol": "second", "judgement": "reject", "user": "ann", "at": "2026-01-31T09:30:00Z"},
        {**GOOD, "path": "dir/b.py", "judgement": "click", "symbol": None, "user": None, "at": None},
    )
    report = import_feedback(db, file)
    assert (report.read, report.added, report.already_known, report.rejected) == (3, 3, 0, 0)
    assert report.rejected_file is None
    assert not rejected_path(file).exists()
    assert feedback(db) == [
        ("read a file", None, snippets["a.py:first"], "accept", "import", None, None),
        ("read a file", "ann", snippets["a.py:second"], "reject", "import", None, None),
        ("read a file", None, snippets["dir/b.py:B.run"], "click", "import", None, None),
    ]
    with db.connect() as connection:
        dated = connection.execute("SELECT at FROM feedback WHERE user_name = 'ann'").fetchone()
    assert dated == (datetime(2026, 1, 31, 9, 30, tzinfo=UTC),)


BAD_LINES: list[tuple[bytes, str]] = [
    (b'{"query": "read a fi\n', "not JSON: "),
    (b"\n", "empty line"),
    (b"[1, 2]\n", "not a JSON object"),
    (b"null\n", "not a JSON object"),
    (b"[" * 100_000 + b"\n", "not JSON: "),
    (b'{"query": ' + b"9" * 5000 + b"}\n", "not JSON: "),
    (
        b'{"query": "caf\xe9", "repository": "demo", "path": "a.py", "judgement": "accept"}\n',
        "not UTF-8: byte 15",
    ),
    *(
        (json.dumps({**GOOD, **change}).encode() + b"\n", reason)
        for change, reason in [
            ({"query": 3}, "wrong type: query"),
            ({"query": None}, "wrong type: query"),
            ({"symbol": ["first"]}, "wrong type: symbol"),
            ({"at": 1700000000}, "wrong type: at"),
            ({"user": True}, "wrong type: user"),
            ({"query": " \t"}, "empty query"),
            ({"query": "x" * 10_001}, "query too long: 10001"),
            ({"query": "a\0b"}, "unusable character: query holds a NUL"),
            ({"user": "\ud800"}, "unusable character: user holds half"),
            ({"symbl": "first"}, "unknown field: 'symbl'"),
            ({"judgement": "copy"}, "unknown judgement: 'copy'"),
            ({"judgement": "Accept"}, "unknown judgement: 'Accept'"),
            ({"at": "yesterday"}, "bad date: 'yesterday'"),
            ({"at": "2026-02-30"}, "bad date: '2026-02-30'"),
            ({"at": "0001-01-01T00:00:00+14:00"}, "bad date: "),
            ({"at": "9000-01-01"}, "bad date: '9000-01-01' lies in the future"),
            ({"repository": "other"}, "unknown repository: other"),
            ({"path": "none.py"}, "unknown path: demo has no file none.py"),
            ({"path": "x/" * 5000}, "unknown path: "),
            ({"symbol": "third"}, "unknown symbol: a.py of demo has no third"),
            ({"symbol": "gone"}, "unknown symbol: gone is no longer in a.py"),
        ]
    ),
    (
        json.dumps({name: GOOD[name] for name in GOOD if name != "path"}).encode() + b"\n",
        "missing field: path",
    ),
    (json.dumps(GOOD).encode()[:-1] + b', "path": "b.py"}\n', "field given twice"),
]


def test_every_kind_of_bad_line_is_set_aside_and_costs_no_good_one(
    db: Database, snippets: dict[str, int], tmp_path: Path
) -> None:
    vanish(db, snippets["a.py:gone"])
    file = write_lines(tmp_path / "f.jsonl", GOOD, *(line for line, _ in BAD_LINES), {**GOOD, "user": "bob"})
    report = import_feedback(db, file)
    assert report.rejected_file == tmp_path / "f.rejected.jsonl"
    assert (report.read, report.added, report.rejected) == (len(BAD_LINES) + 2, 2, len(BAD_LINES))
    assert sum(report.reasons.values()) == len(BAD_LINES)
    assert report.reasons["bad date"] == 4
    for number, ((original, reason), entry) in enumerate(
        zip(BAD_LINES, set_aside(file), strict=True), start=2
    ):
        assert entry["line"] == number
        assert entry["reason"].startswith(reason), original[:80]
        kept = (
            base64.b64decode(entry["original_base64"])
            if "original_base64" in entry
            else entry["original"].encode()
        )
        assert kept + b"\n" == original
    assert [user for _, user, *_ in feedback(db)] == [None, "bob"]


def test_a_vanished_file_is_said_to_be(db: Database, snippets: dict[str, int], tmp_path: Path) -> None:
    vanish(db, snippets["dir/b.py:B.run"])
    file = write_lines(tmp_path / "f.jsonl", {**GOOD, "path": "dir/b.py"})
    assert import_feedback(db, file).reasons == {"unknown path": 1}
    assert set_aside(file)[0]["reason"] == "unknown path: dir/b.py is no longer in demo"


def test_marks_and_line_ends_of_other_systems(db: Database, snippets: dict[str, int], tmp_path: Path) -> None:
    content = json.dumps(GOOD).encode()
    file = write_lines(tmp_path / "f.jsonl", b"\xef\xbb\xbf" + content + b"\r\n", content + b"\r\n\r\n\n  \n")
    report = import_feedback(db, file)
    assert (report.read, report.added, report.rejected) == (2, 2, 0)


def test_importing_twice_adds_nothing_and_a_grown_file_adds_the_rest(
    db: Database, snippets: dict[str, int], tmp_path: Path
) -> None:
    lines: list[dict[str, object]] = [
        GOOD,
        GOOD,  # nobody's name: maybe two people
        {**GOOD, "user": "ann"},
        {**GOOD, "user": "ann"},  # the same again
        {**GOOD, "user": "ann", "judgement": "click"},
        {**GOOD, "user": "ann", "judgement": "reject"},
        {**GOOD, "user": "ann"},  # changed her mind twice
        {**GOOD, "user": "bob", "at": "2026-01-01"},
        {**GOOD, "user": "bob", "at": "2026-01-01T00:00:00+00:00"},  # the same moment, otherwise written
        {**GOOD, "user": "bob", "at": "2026-01-02"},
    ]
    file = write_lines(tmp_path / "f.jsonl", *lines)
    first = import_feedback(db, file)
    assert (first.added, first.already_known) == (8, 2)
    before = feedback(db)
    second = import_feedback(db, file)
    assert (second.read, second.added, second.already_known) == (10, 0, 10)
    assert feedback(db) == before
    grown = import_feedback(db, write_lines(tmp_path / "g.jsonl", *lines, {**GOOD, "user": "cy"}))
    assert (grown.added, grown.already_known) == (1, 10)
    with db.connect() as connection:
        searches = connection.execute("SELECT count(*) FROM searches").fetchone()
    assert searches == (4,)  # nobody, ann, bob, cy


def test_a_corrected_file_leaves_no_lines_set_aside(
    db: Database, snippets: dict[str, int], tmp_path: Path
) -> None:
    file = write_lines(tmp_path / "f.jsonl", {**GOOD, "symbol": "frist"})
    assert import_feedback(db, file).rejected == 1
    write_lines(file, {**GOOD, "symbol": "first"})
    assert import_feedback(db, file).added == 1
    assert not rejected_path(file).exists()


def test_the_last_word_is_the_latest_not_the_last_line(
    db: Database, settings: Settings, snippets: dict[str, int], tmp_path: Path
) -> None:
    ann: dict[str, object] = {**GOOD, "user": "ann"}
    file = write_lines(
        tmp_path / "f.jsonl",
        {**ann, "judgement": "accept", "at": "2026-01-03"},
        {**ann, "judgement": "reject", "at": "2026-01-02"},
        {**ann, "judgement": "accept", "at": "2026-01-01"},
    )
    import_feedback(db, file)
    assert len(feedback_pairs(db, settings).pairs) == 1
    write_lines(file, {**ann, "judgement": "reject", "at": "2026-01-04"})
    import_feedback(db, file)
    assert feedback_pairs(db, settings).pairs == ()
    assert len(feedback(db)) == 4  # the history is kept


def test_a_crash_halfway_changes_nothing_and_a_second_import_completes(
    db: Database, snippets: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_lines(tmp_path / "f.jsonl", *({**GOOD, "user": str(n)} for n in range(50)), b"broken\n")

    def die(connection: Connection) -> Iterator[tuple[int, str, bytes]]:
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        yield from ()

    with monkeypatch.context() as patched:
        patched.setattr(import_store, "rejections", die)
        with pytest.raises(UnavailableError, match="went away"):
            import_feedback(db, file)
    assert feedback(db) == []
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["f.jsonl"]
    report = import_feedback(db, file)
    assert (report.added, report.rejected) == (50, 1)


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.feedback import import_store, importing
from pipeline.store.connections import Database
add = import_store.add
def add_and_die(connection):
    add(connection)
    os.kill(os.getpid(), signal.SIGKILL)
import_store.add = add_and_die
importing.import_feedback(Database(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_killed_process_loses_nothing(db: Database, snippets: dict[str, int], tmp_path: Path) -> None:
    file = write_lines(tmp_path / "f.jsonl", *({**GOOD, "user": str(n)} for n in range(20)))
    done = subprocess.run([sys.executable, "-c", KILLED, db.url, str(file)], check=False)
    assert done.returncode == -9
    assert feedback(db) == []
    assert import_feedback(db, file).added == 20


def test_files_that_cannot_be_used(db: Database, tmp_path: Path) -> None:
    for file in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(BadInputError, match="cannot be used"):
            import_feedback(db, file)


def test_when_lines_cannot_be_set_aside_nothing_is_imported(
    db: Database, snippets: dict[str, int], tmp_path: Path
) -> None:
    file = write_lines(tmp_path / "f.jsonl", GOOD, b"broken\n")
    rejected_path(file).mkdir()  # stands in the way; permissions would not stop root
    with pytest.raises(BadInputError, match=r"f\.rejected\.jsonl"):
        import_feedback(db, file)
    assert feedback(db) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_an_empty_file_is_no_error(db: Database, tmp_path: Path) -> None:
    report = import_feedback(db, write_lines(tmp_path / "f.jsonl"))
    assert (report.read, report.added, report.rejected) == (0, 0, 0)


@pytest.mark.parametrize(
    ("name", "aside"),
    [("f.jsonl", "f.rejected.jsonl"), ("f.txt", "f.txt.rejected.jsonl"), (".jsonl", ".jsonl.rejected.jsonl")],
)
def test_where_lines_are_set_aside(name: str, aside: str) -> None:
    assert rejected_path(Path("dir") / name) == Path("dir") / aside


def test_a_clock_that_is_a_little_ahead_is_believed(
    db: Database, snippets: dict[str, int], tmp_path: Path
) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    assert import_feedback(db, write_lines(tmp_path / "f.jsonl", {**GOOD, "at": soon})).added == 1
