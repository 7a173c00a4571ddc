"""What is too large, too often, or too long, and what happens inside stays inside."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from starlette.testclient import TestClient

from assets_tests.search.api.conftest import World
from pipeline.errors import HoneloopError
from pipeline.search.api import threads
from pipeline.search.engine import SearchEngine
from pipeline.search.request import SearchRequest

ClientOf = Callable[..., TestClient]
QUERY = {"query": "open a file"}


def test_a_body_that_says_it_is_too_large_is_refused(client: TestClient) -> None:
    body = b'{"query": "' + b"x" * 262_144 + b'"}'
    response = client.post("/search", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert response.json()["error"] == "The body is larger than 262,144 bytes."


def test_a_body_that_does_not_say_is_cut_off(client_of: ClientOf) -> None:
    """Chunked; that it is not read to its end, see test_over_http.py."""

    def pieces() -> Iterator[bytes]:
        yield from [b"x" * 10_000] * 6

    client = client_of(max_body_bytes=50_000)
    form = "application/x-www-form-urlencoded"
    for path, kind in (("/search", "application/json"), ("/feedback", "application/json"), ("/login", form)):
        response = client.post(path, content=pieces(), headers={"Content-Type": kind})
        assert response.status_code == 413, path


def test_a_body_within_the_limit_is_taken_in_any_pieces(client_of: ClientOf) -> None:
    client = client_of(max_body_bytes=5000)
    pieces = iter([b'{"query": "', *[b"open a file "] * 400, b'"}'])
    response = client.post("/search", content=pieces, headers={"Content-Type": "application/json"})
    assert response.status_code == 200


def test_one_client_may_ask_so_often(client_of: ClientOf) -> None:
    client = client_of(rate_limit="5/minute")
    statuses = [client.post("/search", json=QUERY).status_code for _ in range(8)]
    assert statuses == [200] * 5 + [429] * 3
    response = client.get("/metrics")
    assert response.status_code == 429
    assert "5 per 1 minute" in response.json()["error"]
    assert 1 <= int(response.headers["retry-after"]) <= 61
    # Another client is not concerned.
    other = TestClient(client.app, base_url="http://127.0.0.1:8321", client=("127.0.0.2", 5))
    assert other.post("/search", json=QUERY).status_code == 200


def test_what_nobody_expected_is_a_500_that_tells_nothing(
    client_of: ClientOf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("with the secret inside")

    monkeypatch.setattr(SearchEngine, "search", broken)
    with caplog.at_level(logging.ERROR, "pipeline"):
        response = client_of().post("/search", json=QUERY)
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "RuntimeError" not in response.text
    (number,) = re.findall(r"error ([0-9a-f]{12})", response.json()["hint"])
    (line,) = [record.getMessage() for record in caplog.records if number in record.getMessage()]
    assert "RuntimeError" in line
    assert "test_limits.py" in line
    assert "with the secret inside" not in line.replace('raise RuntimeError("with the secret inside")', "")


def test_a_model_that_cannot_be_used_is_a_503(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise HoneloopError("model.safetensors is truncated.", hint="Download it again.")

    monkeypatch.setattr(SearchEngine, "search", broken)
    monkeypatch.setattr(SearchEngine, "serving", broken)
    response = client.post("/search", json=QUERY)
    assert (response.status_code, response.json()["error"]) == (503, "model.safetensors is truncated.")
    assert response.headers["retry-after"] == "2"
    response = client.get("/health")
    assert response.status_code == 503
    assert "cannot be used" in response.json()["reason"]
    assert response.json()["database"] == "ok"


def test_health_answers_while_every_search_is_stuck(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """More searches than there are threads, none of which ends before it is let go."""
    free = threading.Event()
    stuck = threading.Semaphore(0)
    search = SearchEngine.search

    def waits(engine: SearchEngine, request: SearchRequest) -> object:
        stuck.release()
        assert free.wait(60)
        return search(engine, request)

    monkeypatch.setattr(SearchEngine, "search", waits)
    with TestClient(world.app(), base_url="http://127.0.0.1:8321") as client, ThreadPoolExecutor(60) as pool:
        try:
            asked = [pool.submit(client.post, "/search", json=QUERY) for _ in range(threads.WORK_THREADS + 8)]
            for _ in range(threads.WORK_THREADS):
                assert stuck.acquire(timeout=30)
            assert client.get("/health").status_code == 200
            text = client.get("/metrics").text
            assert f"honeloop_searches_in_flight {threads.WORK_THREADS}.0" in text
            assert not any(each.done() for each in asked)
        finally:
            free.set()
        assert {each.result(60).status_code for each in asked} == {200}
        assert "honeloop_searches_in_flight 0.0" in client.get("/metrics").text


def test_without_a_database_it_says_so_and_recovers(world: World, client: TestClient) -> None:
    name = world.db.url.split("?")[0].rsplit("/", 1)[1]
    admin_url = world.db.url.replace(f"/{name}", "/template1")
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        try:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            health = client.get("/health")
            response = client.post("/search", json=QUERY)
            feedback = client.post(
                "/feedback",
                json={"search_id": "0" * 32, "snippet_id": 1, "judgement": "click"},
            )
            metrics = client.get("/metrics")
        finally:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
    assert health.status_code == 503
    found = health.json()
    assert (found["status"], found["database"]) == ("unavailable", "away")
    assert found["reason"] == "The database does not answer."
    assert name not in health.text
    for refused in (response, feedback):
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "2"
        assert refused.json()["hint"]
    assert metrics.status_code == 200
    deadline = time.monotonic() + 60
    while client.post("/search", json=QUERY).status_code != 200:
        assert time.monotonic() < deadline
    assert client.get("/health").status_code == 200
