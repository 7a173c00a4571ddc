"""Over a real socket: clients that go away or never end, and thousands of searches while models change."""

from __future__ import annotations

import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import Function, add_functions
from assets_tests.search.api.conftest import World
from assets_tests.search.api.running import running
from assets_tests.search.models import Model, index_of, load_perturbed
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.index.flipping import flip, rollback
from pipeline.search.api.app import create_app
from pipeline.search.engine import SearchEngine
from pipeline.search.spool import SearchSpool
from pipeline.store.connections import Database

COUNT = 100
CLIENTS = 12
QUERIES = [
    "open a file for reading",
    "print a coloured message",
    "ask the user for confirmation",
    "parse command line options",
    "show the help page",
    "convert a string to a number",
    "complete a word in the shell",
    "wrap text to the terminal's width",
]


@pytest.fixture
def first(minilm: Encoder, functions: tuple[Function, ...], vectors: NDArray[np.float32]) -> Model:
    """MiniLM as it is."""
    return Model(minilm, "minilm", functions[:COUNT], vectors[:COUNT])


@pytest.fixture
def second(functions: tuple[Function, ...], tmp_path: Path) -> Model:
    """A really different model."""
    return load_perturbed(tmp_path / "model", functions[:COUNT])


def test_a_client_that_goes_away_does_no_harm(world: World) -> None:
    before = world.count("searches")
    body = b'{"query": "open a file for reading"}'
    head = b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
    with running(world.app()) as url, httpx.Client(base_url=url) as client:
        port = httpx.URL(url).port
        assert port is not None
        for sent in (
            head + str(len(body)).encode() + b"\r\n\r\n" + body,  # gone before the answer
            head + b"5000\r\n\r\n" + body,  # gone amid the body
            head,  # gone amid the headers
            b"\x00\xff nonsense\r\n\r\n",
        ):
            for _ in range(5):
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    connection.sendall(sent)
        assert client.post("/search", content=body, headers={"Content-Type": "application/json"}).is_success
        deadline = time.monotonic() + 30
        while "honeloop_searches_in_flight 0.0" not in client.get("/metrics").text:
            assert time.monotonic() < deadline
        assert client.get("/health").status_code == 200
    # Those who had asked in full were answered, and recorded: 1 to 6, as far as they were still there.
    assert before + 1 <= world.count("searches") <= before + 6


def test_a_body_without_an_end_is_cut_off(world: World) -> None:
    with running(world.app(max_body_bytes=50_000)) as url:
        port = httpx.URL(url).port
        assert port is not None
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(
                b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
            for _ in range(6):  # 60,000 bytes, and never the last chunk
                connection.sendall(chunk)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")


def expected_of(model: Model, k: int) -> dict[str, list[str]]:
    """The code of the nearest k for each query, best first, by numpy alone."""
    stored = model.vectors.astype(np.float16).astype(np.float64)
    asked = model.encoder.embed_queries(QUERIES).astype(np.float16).astype(np.float64)
    cosine = asked @ stored.T / np.linalg.norm(stored, axis=1)
    return {
        query: [model.functions[i].code for i in np.argsort(-row)[:k]]
        for query, row in zip(QUERIES, cosine, strict=True)
    }


@pytest.mark.parametrize("least", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_concurrent_clients_through_a_flip_and_a_rollback(
    db: Database, settings: Settings, first: Model, second: Model, least: int
) -> None:
    """Nothing fails, every answer is wholly of one model, and every search is recorded as it was answered."""
    settings = settings.model_copy(update={"rate_limit": "1000000/minute"})
    expected = {model.version: expected_of(model, 5) for model in (first, second)}
    assert sum(expected[first.version][q] != expected[second.version][q] for q in QUERIES) >= 4
    add_functions(db, first.functions)
    flip(db, index_of(db, first, settings), actor="index", reasons=["test"], settings=settings)
    answers: list[dict[str, Any]] = []
    stop = threading.Event()

    def ask(url: str, number: int) -> None:
        picked = random.Random(number)
        with httpx.Client(base_url=url, timeout=60) as client:
            while not stop.is_set():
                response = client.post("/search", json={"query": picked.choice(QUERIES), "k": 5})
                assert response.status_code == 200, response.text
                answers.append(response.json())

    def until(count: int, asking: list[Any]) -> None:
        while len(answers) < count:
            for each in asking:
                if each.done():
                    each.result()  # raises what went wrong
            time.sleep(0.02)

    with SearchSpool(settings, db) as spool, SearchEngine(settings, db, spool) as engine:
        app = create_app(engine, settings, db=db, spool=spool)
        with running(app) as url, ThreadPoolExecutor(CLIENTS) as pool:
            asking = [pool.submit(ask, url, number) for number in range(CLIENTS)]
            try:
                until(least // 3, asking)
                flip(db, index_of(db, second, settings), actor="index", reasons=["test"], settings=settings)
                until(max(2 * least // 3, len(answers) + least // 3), asking)
                rollback(db)
                until(max(least, len(answers) + least // 3), asking)
            finally:
                stop.set()
            for each in asking:
                each.result()
        assert spool.flush(120)
        assert (spool.unusable, spool.unrecorded) == (0, 0)
    assert len(answers) >= least
    with db.connect() as connection:
        model_of = dict(connection.execute("SELECT id, model_version FROM index_versions").fetchall())
        recorded = {
            str(search): (model, index)
            for search, model, index in connection.execute(
                "SELECT id, model_version, index_version_id FROM searches"
            )
        }
    for answer in answers:
        assert model_of[answer["index_version_id"]] == answer["model_version"]
        assert [result["code"] for result in answer["results"]] == (
            expected[answer["model_version"]][answer["query"]]
        )
        assert recorded[answer["search_id"]] == (answer["model_version"], answer["index_version_id"])
    assert len(recorded) == len(answers)
    changes = [answer["model_version"] for answer in answers]
    assert changes[0] == changes[-1] == first.version
    assert second.version in changes
