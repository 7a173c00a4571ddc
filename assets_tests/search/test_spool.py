"""The queue on disk: nothing that was answered is lost, whatever ends or goes away, and nothing blocks it."""

from __future__ import annotations

import json
import logging
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from assets_tests.index.click_corpus import Function, add_functions
from pipeline.config import Settings
from pipeline.errors import HoneloopError, UnavailableError
from pipeline.feedback.events import add_feedback
from pipeline.search import spool as spool_module
from pipeline.search.recording import SearchRecord
from pipeline.search.spool import SearchSpool, queue_path
from pipeline.store.connections import Database
from pipeline.store.server import database_url

Functions = tuple[Function, ...]
NOWHERE = Database("postgresql://nobody@127.0.0.1:1/nothing")


@pytest.fixture
def shown(db: Database, functions: Functions) -> list[int]:
    """The numbers of some snippets that are there to be shown."""
    add_functions(db, functions[:5])
    with db.connect() as connection:
        return [number for (number,) in connection.execute("SELECT id FROM snippets ORDER BY id").fetchall()]


def a_record(query: str = "open a file", shown: list[int] | None = None) -> SearchRecord:
    impressions = tuple((number, rank, 1 / rank) for rank, number in enumerate(shown or [], start=1))
    return SearchRecord(
        str(uuid4()), datetime.now(UTC).isoformat(), query, "ada", "api", {"k": 10}, "m", 1, 12.5, impressions
    )


def stored(db: Database) -> dict[str, str]:
    """Query by search."""
    with db.connect() as connection:
        return dict(connection.execute("SELECT id::text, query FROM searches").fetchall())


@contextmanager
def away(db: Database, settings: Settings) -> Generator[None]:
    """The database refuses everybody, and ends the connections it has."""
    name = db.url.split("?")[0].rsplit("/", 1)[1]
    with psycopg.connect(database_url(settings, "template1"), autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())


def test_a_record_reaches_the_database_with_what_was_shown(
    db: Database, settings: Settings, shown: list[int]
) -> None:
    record = a_record("read a line", shown)
    with SearchSpool(settings, db) as spool:
        assert spool.record(record)
        assert spool.flush()
        assert spool.depth == 0
    with db.connect() as connection:
        row = connection.execute(
            "SELECT id::text, query, user_name, client, filters, latency_ms, at FROM searches"
        ).fetchone()
        impressions = connection.execute(
            "SELECT snippet_id, rank, score FROM impressions ORDER BY rank"
        ).fetchall()
    assert row is not None
    assert row[:6] == (record.search_id, "read a line", "ada", "api", {"k": 10}, 12.5)
    assert row[6] == datetime.fromisoformat(record.at)
    assert impressions == [tuple(each) for each in record.impressions]


def test_what_waits_while_the_database_is_away_is_written_when_it_is_back(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spool_module, "LONGEST_WAIT_SECONDS", 0.25)
    records = [a_record(f"query {number}") for number in range(30)]
    with SearchSpool(settings, db) as spool, caplog.at_level(logging.WARNING):
        with away(db, settings):
            assert all(spool.record(record) for record in records)
            assert not spool.flush(timeout=1.5)
            assert spool.depth == 30
        assert spool.flush()
        assert spool.unusable == 0
    assert stored(db) == {record.search_id: record.query for record in records}
    said = [each.getMessage() for each in caplog.records]
    assert len([line for line in said if "wait in" in line]) == 1, said
    assert not [line for line in said if "query" in line]


def test_the_next_process_writes_what_this_one_could_not(db: Database, settings: Settings) -> None:
    record = a_record()
    with SearchSpool(settings, NOWHERE) as spool:
        assert spool.record(record)
    assert stored(db) == {}
    with SearchSpool(settings, db) as spool:
        assert spool.flush()
    assert stored(db) == {record.search_id: record.query}


KILLED = """
import json, sys
from pathlib import Path
from pipeline.config import Settings
from pipeline.search.recording import SearchRecord
from pipeline.search.spool import SearchSpool
from pipeline.store.connections import Database
spool = SearchSpool(Settings(home=Path(sys.argv[1])), Database(sys.argv[2]))
from uuid import uuid4
while True:
    record = SearchRecord(str(uuid4()), "2026-01-02T03:04:05+00:00", "q", None, "api", {}, "m", 1, 1.0, ())
    if not spool.record(record):
        sys.exit("not kept")
    print(record.search_id, flush=True)
"""


@pytest.mark.parametrize("writing", [False, True], ids=["database away", "database there"])
def test_a_killed_process_loses_nothing_that_it_answered(
    db: Database, settings: Settings, writing: bool
) -> None:
    """Killed with SIGKILL while it records, once with a writer at work between queue and database."""
    url = db.url if writing else NOWHERE.url
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(settings.home_path), url], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        answered = [process.stdout.readline().strip() for _ in range(3000)]
        process.kill()
        answered += process.stdout.read().split("\n")[:-1]
    assert process.returncode == -9
    assert len(answered) >= 3000
    assert "" not in answered
    with SearchSpool(settings, db) as spool:
        assert spool.flush(60)
        assert spool.unusable == 0
    # It may have kept one more than it had time to answer.
    assert set(answered) <= set(stored(db))
    assert len(stored(db)) <= len(answered) + 1


def test_a_full_queue_says_so_once_and_takes_more_when_it_is_emptied(
    db: Database, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    bounded = settings.model_copy(update={"search_queue_size": 10})
    with SearchSpool(bounded, NOWHERE) as spool, caplog.at_level(logging.ERROR):
        assert [spool.record(a_record()) for _ in range(14)] == [True] * 10 + [False] * 4
        assert spool.unrecorded == 4
        assert spool.depth == 10
    assert len([each for each in caplog.records if "10 searches wait already" in each.message]) == 1
    with SearchSpool(bounded, db) as spool:
        assert spool.flush()
        assert spool.record(a_record())
        assert spool.unrecorded == 0


def test_the_bound_holds_for_several_processes_at_once(settings: Settings) -> None:
    bounded = settings.model_copy(update={"search_queue_size": 500})
    kept: list[bool] = []
    with SearchSpool(bounded, NOWHERE) as one, SearchSpool(bounded, NOWHERE) as other:

        def fill(spool: SearchSpool) -> None:
            kept.extend([spool.record(a_record()) for _ in range(200)])

        threads = [threading.Thread(target=fill, args=[spool]) for spool in (one, other) * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert kept.count(True) == one.depth == other.depth == 500
        assert one.unrecorded + other.unrecorded == 300


def test_a_full_disk_is_no_exception(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """SQLite's own bound on pages: it fails as it does on a disk without room."""
    with SearchSpool(settings, NOWHERE) as spool, caplog.at_level(logging.ERROR):
        (pages,) = spool._file.execute("PRAGMA page_count").fetchone()
        spool._file.execute(f"PRAGMA max_page_count = {pages + 2}")
        kept = [spool.record(a_record("x" * 3000)) for _ in range(20)]
        assert True in kept
        assert kept[-1] is False
        assert spool.unrecorded == kept.count(False)
        assert spool.depth == kept.count(True)
        spool._file.execute("PRAGMA max_page_count = 100000")
        assert spool.record(a_record("x" * 3000))
    assert len([each for each in caplog.records if "disk is full" in each.message]) == 1


def test_a_record_that_the_database_refuses_does_not_hold_up_the_others(
    db: Database, settings: Settings
) -> None:
    good = [a_record(f"query {number}") for number in range(9)]
    empty, cut = a_record(""), a_record("with a NUL \x00 inside")
    with closing(SearchSpool(settings, NOWHERE)) as spool:
        for record in (*good[:4], empty, *good[4:], cut):
            assert spool.record(record)
        # And one that another release wrote.
        spool._file.execute("INSERT INTO records (search_id, record) VALUES ('old', '{\"query\": 1}')")
    with SearchSpool(settings, db) as spool:
        assert spool.flush()
        assert spool.unusable == 3
    assert stored(db) == {record.search_id: record.query for record in good}
    with closing(sqlite3.connect(queue_path(settings))) as file:
        aside = dict(file.execute("SELECT search_id, reason FROM unusable").fetchall())
        kept = dict(file.execute("SELECT search_id, record FROM unusable").fetchall())
    assert set(aside) == {empty.search_id, cut.search_id, "old"}
    assert "searches_query_check" in aside[empty.search_id]
    assert SearchRecord.from_json(json.loads(kept[empty.search_id])) == empty


def test_a_source_that_is_removed_meanwhile_costs_no_search(
    db: Database, settings: Settings, shown: list[int]
) -> None:
    """What was shown of it is left out, as it is once the source is gone."""
    record = a_record("q", shown)
    with SearchSpool(settings, db) as spool:
        with psycopg.connect(db.url) as removing, psycopg.connect(db.url, autocommit=True) as watching:
            removing.execute("DELETE FROM snippets WHERE id = %s", [shown[0]])
            assert spool.record(record)
            deadline = time.monotonic() + 30
            waiting = "SELECT FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
            while watching.execute(waiting, [removing.info.backend_pid]).fetchone() is None:
                assert time.monotonic() < deadline, "it did not wait for the removal"
                time.sleep(0.02)
        assert spool.flush()
        assert spool.unusable == 0
    with db.connect() as connection:
        impressions = connection.execute("SELECT snippet_id FROM impressions ORDER BY rank").fetchall()
    assert stored(db) == {record.search_id: "q"}
    assert impressions == [(number,) for number in shown[1:]]


def test_writing_twice_adds_nothing(db: Database, settings: Settings, shown: list[int]) -> None:
    """As after a crash between the database's commit and the removal from the queue."""
    record = a_record("q", shown)
    for _ in range(2):
        with SearchSpool(settings, db) as spool:
            assert spool.record(record)
            assert spool.flush()
    with db.connect() as connection:
        counts = connection.execute("SELECT (SELECT count(*) FROM searches), count(*) FROM impressions")
        assert counts.fetchone() == (1, len(shown))


def test_two_processes_empty_one_queue(db: Database, settings: Settings) -> None:
    with SearchSpool(settings, db) as one, SearchSpool(settings, db) as other:
        records = [a_record() for _ in range(600)]
        assert all((one, other)[at % 2].record(record) for at, record in enumerate(records))
        assert one.flush()
        assert other.flush()
        assert (one.unusable, other.depth) == (0, 0)
    assert set(stored(db)) == {record.search_id for record in records}


def test_feedback_can_follow_at_once(
    db: Database, settings: Settings, shown: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the thread is still gathering."""
    monkeypatch.setattr(spool_module, "GATHER_SECONDS", 3600)
    record, other = a_record("q", shown), a_record("other")
    spool = SearchSpool(settings, db)
    assert spool.record(other)
    assert spool.record(record)
    spool.flush_search(record.search_id)
    assert spool.depth == 1
    assert add_feedback(db, record.search_id, shown[0], "accept").added
    spool.flush_search(record.search_id)  # nothing waits: nothing happens
    with away(db, settings), pytest.raises(UnavailableError, match="is kept until it is back"):
        spool.flush_search(other.search_id)
    assert spool.depth == 1
    spool.close(timeout=0.1)
    assert set(stored(db)) == {record.search_id}


def test_what_was_carried_on_is_not_left_readable_in_the_file(db: Database, settings: Settings) -> None:
    with SearchSpool(settings, db) as spool:
        assert all(spool.record(a_record("unmistakable " * 50)) for _ in range(20))
        assert spool.flush()
    assert len(stored(db)) == 20
    left = b"".join(file.read_bytes() for file in queue_path(settings).parent.iterdir())
    assert b"unmistakable" not in left


def test_closed_it_keeps_nothing_and_says_so(settings: Settings) -> None:
    spool = SearchSpool(settings, NOWHERE)
    spool.close()
    spool.close()
    assert spool.record(a_record()) is False


def test_what_is_no_queue_is_an_error(settings: Settings, tmp_path: Path) -> None:
    path = queue_path(settings)
    path.parent.mkdir(parents=True)
    path.write_text("This is no database, and long enough to be seen as none. " * 100)
    with pytest.raises(HoneloopError, match="cannot be opened"):
        SearchSpool(settings, NOWHERE)
    (tmp_path / "file").write_text("")
    blocked = settings.model_copy(update={"home": tmp_path / "file"})
    with pytest.raises(HoneloopError, match="cannot be opened"):
        SearchSpool(blocked, NOWHERE)
