"""Postgres stopped as in a crash, and started again, under a run, a build, flips and the service."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from assets_tests.index.click_corpus import Function, add_functions, serve, store_vectors
from assets_tests.search.api.running import running
from assets_tests.survival.homes import Home, kill_server, temporary_directory, wait_until
from assets_tests.training.notes import Notes
from pipeline.cli import app
from pipeline.config import Settings
from pipeline.corpus.repositories import add_repository
from pipeline.defs import in_process
from pipeline.defs.in_process import run_loop
from pipeline.encoders.encoder import Encoder
from pipeline.errors import DatabaseAwayError, UnavailableError
from pipeline.index.building import build_index
from pipeline.index.flipping import flip, rollback
from pipeline.index.serving import index_counts, serving_index
from pipeline.progress import Silent
from pipeline.search.api.app import create_app
from pipeline.search.engine import SearchEngine
from pipeline.search.spool import SearchSpool
from pipeline.store.connections import Database
from pipeline.store.embedded import HomeServer
from pipeline.store.server import database_url

Functions = tuple[Function, ...]


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """A server of this room's own, that may be stopped."""
    with temporary_directory() as path:
        home = Home(path / "home")
        yield home
        home.leave()


@pytest.fixture
def settings(home: Home) -> Iterator[Settings]:
    """Settings on that server: embedded, so that who waits for it may start it."""
    settings = home.settings
    yield settings
    with psycopg.connect(database_url(settings, "template1"), autocommit=True) as connection:
        for name in ("honeloop", "dagster"):
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


@pytest.fixture
def db(home: Home, settings: Settings) -> Database:
    del settings
    return home.database()


@pytest.fixture
def indexed(
    db: Database, minilm: Encoder, functions: Functions, vectors: NDArray[np.float32], settings: Settings
) -> Database:
    """60 functions that are searched, and 30 more that are embedded."""
    add_functions(db, functions[:60])
    store_vectors(db, minilm, functions[:90], vectors[:90])
    serve(db, minilm, settings)
    return db


def control(home: Home, *arguments: str) -> None:
    """Postgres' own command, as whoever owns the data."""
    server = HomeServer._instances[home.data.resolve()]
    subprocess.run(
        [str(server.bin_path / "pg_ctl"), "-w", "-D", str(home.data.resolve()), *arguments],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=server.system_user,
    )


def stop(home: Home) -> None:
    control(home, "stop", "-m", "immediate")


def start(home: Home) -> None:
    control(home, "-o", f'-h "" -k {home.data.resolve()}', "-l", str(home.data / "log"), "start")


@contextmanager
def stopping(home: Home, seconds: float) -> Generator[None]:
    """The server is stopped and started again and again, each time after so many seconds, meanwhile."""
    over = threading.Event()

    def again_and_again() -> None:
        while not over.wait(seconds):
            stop(home)
            time.sleep(0.1)
            start(home)

    thread = threading.Thread(target=again_and_again)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(120)


def test_flips_and_rollbacks_are_whole_or_not_at_all(
    home: Home, indexed: Database, settings: Settings, minilm: Encoder
) -> None:
    first = serving_index(indexed).index_version_id
    anew = settings.model_copy(update={"hnsw_m": 8, "keep_retired_indexes": 50})
    done = refused = 0
    with stopping(home, 0.4):
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            try:
                report = build_index(indexed, minilm.version, anew, Silent())
                flip(indexed, report.index_version_id, actor="index", reasons=[], settings=anew)
                rollback(indexed)
                done += 1
            except UnavailableError:
                refused += 1
    assert refused
    states = [count.state for count in index_counts(indexed)]
    assert states.count("serving") == 1
    # And the next one goes through, having cleared away what the others left.
    report = build_index(indexed, minilm.version, anew, Silent())
    flip(indexed, report.index_version_id, actor="index", reasons=[], settings=anew)
    assert serving_index(indexed).index_version_id == report.index_version_id != first
    assert "building" not in [count.state for count in index_counts(indexed)]


@pytest.fixture
def tiny(db: Database, tmp_path: Path) -> Database:
    """A source with one function."""
    (tmp_path / "a.py").write_text("def f(x):\n    return x + 1\n")
    add_repository(db, "tiny", str(tmp_path))
    return db


@pytest.mark.parametrize("how", ["stopped", pytest.param("killed", marks=pytest.mark.slow)])
def test_a_run_waits_for_the_database_and_goes_on(
    home: Home, settings: Settings, tiny: Database, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It goes away within a step, and the embedded one is started by the run that needs it."""
    steps: list[str] = []
    really = in_process.Loop._execute

    def executed(self: in_process.Loop, *arguments: object) -> object:
        steps.append(str(arguments[0]))
        if len(steps) == 2:
            (stop if how == "stopped" else kill_server)(home)
        return really(self, *arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(in_process.Loop, "_execute", executed)
    result = run_loop(settings, Silent(), only_index=True)
    assert result.failures == []
    assert len(steps) == 3  # one of them twice
    assert serving_index(tiny).rows == 1


def test_a_run_says_when_the_database_stays_away(
    home: Home, settings: Settings, tiny: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = settings.model_copy(update={"database_url": tiny.url, "database_patience_seconds": 1})
    monkeypatch.setattr(in_process.Loop, "synchronise", lambda self: stop(home) or ["tiny"])
    began = time.monotonic()
    with pytest.raises(DatabaseAwayError, match="database cannot be reached"):
        run_loop(own, Silent(), only_index=True)
    assert time.monotonic() - began < 60
    monkeypatch.undo()
    start(home)
    assert run_loop(own, Silent(), only_index=True).failures == []
    assert serving_index(tiny).rows == 1


def test_a_cluster_that_is_away_is_not_taken_for_the_database(settings: Settings, tiny: Database) -> None:
    """It is said at once, and nothing is done again."""
    pytest.importorskip("ray", reason="Ray is not installed")
    progress = Notes()
    with socket.socket() as taken:  # bound, so that nobody else takes it, and not listening
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        there = settings.model_copy(update={"engine": "ray", "ray_address": address})
        result = run_loop(there, progress, only_index=True)
    (cut,) = [failure for failure in result.failures if failure.step == "snippets"]
    assert f"The Ray cluster at {address} cannot be reached" in cut.message
    assert "ray start" in cut.hint
    assert not any(failure.database_away for failure in result.failures)
    assert not any("waited for" in note for note in progress.notes)
    assert len(result.run_ids) == 2  # the source's, and that of the vectors of what it held before
    # Here, it can be done.
    assert run_loop(settings, Silent(), only_index=True).failures == []
    assert serving_index(tiny).rows == 1


def test_the_service_answers_503_and_recovers_and_loses_nothing(
    home: Home, indexed: Database, settings: Settings
) -> None:
    statuses: set[int] = set()
    searched: set[str] = set()
    judged: set[str] = set()
    with (
        SearchSpool(settings, indexed) as spool,
        SearchEngine(settings, indexed, spool) as engine,
        running(create_app(engine, settings, db=indexed, spool=spool)) as address,
        httpx.Client(base_url=address, timeout=60) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        engine.serving()

        def ask() -> int:
            answer = client.post("/search", json={"query": "open a file", "k": 3})
            if answer.status_code == 200:
                searched.add(answer.json()["search_id"])
                result = answer.json()["results"][0]
                given = {
                    "search_id": answer.json()["search_id"],
                    "snippet_id": result["snippet_id"],
                    "judgement": "accept",
                }
                said = client.post("/feedback", json=given)
                statuses.add(said.status_code)
                if said.status_code == 200:
                    judged.add(given["search_id"])
            else:
                assert answer.json()["hint"]
            statuses.add(answer.status_code)
            return answer.status_code

        assert ask() == 200
        stop(home)
        assert ask() == 503
        assert client.get("/health").status_code == 503
        start(home)
        assert wait_until(lambda: ask() == 200, 60, every=0.2)

        def ask_on() -> None:
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                ask()

        with stopping(home, 1.0):
            pool.submit(ask_on).result()
        assert wait_until(lambda: ask() == 200, 60, every=0.2)
        assert statuses == {200, 503}
        assert spool.flush(60)
        assert spool.unusable == spool.unrecorded == 0
    with indexed.connect() as connection:
        kept = {str(row[0]) for row in connection.execute("SELECT id FROM searches").fetchall()}
        accepted = {str(row[0]) for row in connection.execute("SELECT search_id FROM feedback").fetchall()}
    assert searched <= kept
    assert judged <= accepted
    assert len(judged) >= 2


def test_a_command_says_so_in_one_sentence(
    home: Home, db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONELOOP_HOME", str(settings.home))
    monkeypatch.setenv("HONELOOP_DATABASE_URL", db.url)
    with pytest.raises(UnavailableError, match="went away"), db.connect() as connection:
        stop(home)
        connection.execute("SELECT 1")
    said = CliRunner().invoke(app, ["status"])
    start(home)
    assert said.exit_code == 1
    assert "The database cannot be reached" in said.stderr
    assert len(said.stderr.strip().splitlines()) == 1
