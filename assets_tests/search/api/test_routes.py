"""What each address takes and gives."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from assets_tests.index.click_corpus import Function, add_functions, vanish
from assets_tests.search.api.conftest import World
from pipeline.encoders.encoder import Encoder
from pipeline.search.query import search

QUERY = "open a file for reading"
PARTS = ("total", "encode", "search", "fetch")


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    response = client.post("/search", json={"query": QUERY, **body})
    assert response.status_code == 200, response.text
    return response.json()


def test_a_search_answers_as_the_command_line_does(client: TestClient, world: World, minilm: Encoder) -> None:
    answer = ask(client, k=5, user="ada")
    alone = search(world.db, minilm, QUERY, k=5, record=False)
    assert [result["snippet_id"] for result in answer["results"]] == [r.snippet_id for r in alone.results]
    assert [result["score"] for result in answer["results"]] == pytest.approx(
        [r.score for r in alone.results], abs=1e-6
    )
    assert (answer["query"], answer["model_version"]) == (QUERY, minilm.version)
    assert answer["index_version_id"] == alone.index_version_id
    first = answer["results"][0]
    assert list(first) == [
        *("rank", "score", "snippet_id", "repository", "path", "symbol", "kind", "language"),
        *("start_line", "end_line", "code", "url", "places", "also_at"),
    ]
    assert (first["rank"], first["repository"], first["places"], first["also_at"]) == (1, "click", 1, [])
    assert first["url"] == f"/snippets/{first['snippet_id']}"
    assert client.get(first["url"]).json()["code"] == first["code"]


def test_what_was_asked_and_shown_is_stored(client: TestClient, world: World) -> None:
    answer = ask(client, k=3, language="python", kind=["function"], path="click/*.py", user="grace")
    assert world.spool.flush()
    with world.db.connect() as connection:
        row = connection.execute(
            "SELECT query, user_name, client, filters FROM searches WHERE id = %s", [answer["search_id"]]
        ).fetchone()
        shown = connection.execute(
            "SELECT snippet_id, rank, score FROM impressions WHERE search_id = %s ORDER BY rank",
            [answer["search_id"]],
        ).fetchall()
    assert row == (
        QUERY,
        "grace",
        "api",
        {"k": 3, "languages": ["python"], "kinds": ["function"], "path": "click/*.py"},
    )
    assert shown == [(r["snippet_id"], r["rank"], r["score"]) for r in answer["results"]]


def test_filters_take_one_value_or_several(client: TestClient) -> None:
    one = ask(client, source="click", language="python", kind="function")
    several = ask(client, source=["click"], language=["python", "Python"], kind=["function", "method"])
    shown = [result["snippet_id"] for result in one["results"]]
    assert len(shown) == 10
    assert shown == [result["snippet_id"] for result in several["results"]]
    assert ask(client, kind="class")["results"] == []
    in_core = ask(client, path="click/core.py", k=20)["results"]
    assert {result["path"] for result in in_core} == {"click/core.py"}


@pytest.mark.parametrize(
    ("body", "field", "problem"),
    [
        ({"query": ""}, "query", "at least 1 character"),
        ({"query": " \n"}, "query", "it is empty"),
        ({"query": "x" * 10_001}, "query", "at most 10000 characters"),
        ({"query": "a\x00b"}, "query", "NUL"),
        ({"query": "\ud800"}, "query", "valid"),
        ({"query": 7}, "query", "valid string"),
        ({}, "query", "Field required"),
        ({"query": "q", "k": 0}, "k", "greater than or equal to 1"),
        ({"query": "q", "k": 101}, "k", "less than or equal to 100"),
        ({"query": "q", "k": "many"}, "k", "valid integer"),
        ({"query": "q", "kind": "struct"}, "kind", "'function', 'method', 'class' or 'module'"),
        ({"query": "q", "kind": ["function", "struct"]}, "kind.1", "'function', 'method'"),
        ({"query": "q", "language": ["python", ""]}, "language.1", "at least 1 character"),
        ({"query": "q", "source": [1]}, "source.0", "valid string"),
        ({"query": "q", "source": ["click"] * 51}, "source", "at most 50 items"),
        ({"query": "q", "path": "src/[a"}, "path", "a set that is not one"),
        ({"query": "q", "lang": "python"}, "lang", "not permitted"),
    ],
)
def test_what_cannot_be_searched_for_is_told_field_by_field(
    client: TestClient, world: World, body: dict[str, Any], field: str, problem: str
) -> None:
    before = world.count("searches")
    response = client.post(
        "/search", content=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 422
    error = response.json()
    assert set(error) == {"error", "hint", "fields"}
    assert [each["field"] for each in error["fields"]] == [field], error
    assert problem in error["fields"][0]["problem"], error
    assert field in error["error"]
    assert world.count("searches") == before


def test_the_longest_query_is_answered(client: TestClient) -> None:
    query = "reads a file " * 769 + "abc"
    assert len(query) == 10_000
    assert len(ask(client, query=query)["results"]) == 10


def test_unknown_names_are_told_with_what_there_is(client: TestClient) -> None:
    response = client.post("/search", json={"query": "q", "source": "nope"})
    assert (response.status_code, response.json()["error"]) == (422, "There is no source 'nope'.")
    assert "click" in response.json()["hint"]
    assert response.json()["fields"] == [{"field": "source", "problem": "There is no source 'nope'."}]
    response = client.post("/search", json={"query": "q", "language": ["python", "cobol"]})
    assert response.status_code == 422
    assert "python" in response.json()["hint"]
    problem = "No snippet is in the language 'cobol'."
    assert response.json()["fields"] == [{"field": "language", "problem": problem}]


def test_feedback_on_what_was_not_shown_names_the_field(client: TestClient) -> None:
    answer = ask(client, k=1)
    said = {"search_id": answer["search_id"], "snippet_id": 999_999_999, "judgement": "accept"}
    response = client.post("/feedback", json=said)
    assert response.status_code == 422
    assert [each["field"] for each in response.json()["fields"]] == ["snippet_id"]
    assert "was not shown" in response.json()["fields"][0]["problem"]


@pytest.mark.parametrize(
    "content", [b"{", b"", b"\xff\xfe", b"[]", b'"text"', b"null", b"[" * 100_000, b'{"a":' * 40_000]
)
def test_what_is_no_json_object_is_said_to_be_none(client: TestClient, content: bytes) -> None:
    response = client.post("/search", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert response.json()["error"]
    assert [each["field"] for each in response.json()["fields"]] == ["body"]


def test_feedback_on_a_search_answered_a_moment_ago(client: TestClient, world: World) -> None:
    answer = ask(client)
    said = {"search_id": answer["search_id"], "snippet_id": answer["results"][1]["snippet_id"]}
    for body, added in (
        ({"judgement": "click", "dwell_ms": 1200, "user": "ada"}, True),
        ({"judgement": "click", "dwell_ms": 1200, "user": "ada"}, False),
        ({"judgement": "accept", "user": "ada"}, True),
    ):
        response = client.post("/feedback", json={**said, **body})
        assert (response.status_code, response.json()) == (200, {"added": added})
    with world.db.connect() as connection:
        rows = connection.execute(
            "SELECT judgement, dwell_ms, user_name FROM feedback WHERE search_id = %s ORDER BY id",
            [answer["search_id"]],
        ).fetchall()
    assert rows == [("click", 1200, "ada"), ("accept", None, "ada")]


def test_feedback_on_what_was_not_shown_is_refused(client: TestClient, world: World) -> None:
    answer = ask(client, k=3)
    shown = {result["snippet_id"] for result in answer["results"]}
    other = next(number for number in range(1, 100) if number not in shown)
    before = world.count("feedback")
    said = {"search_id": answer["search_id"], "snippet_id": other, "judgement": "accept"}
    response = client.post("/feedback", json=said)
    assert response.status_code == 422
    assert f"Snippet {other} was not shown in search {answer['search_id']}" in response.json()["error"]
    unknown = str(uuid4())
    response = client.post("/feedback", json={**said, "search_id": unknown})
    assert (response.status_code, response.json()["error"]) == (404, f"There is no search '{unknown}'.")
    for body, field in (
        ({**said, "search_id": "x"}, "search_id"),
        ({**said, "snippet_id": 0}, "snippet_id"),
        ({**said, "snippet_id": 2**63}, "snippet_id"),
        ({**said, "judgement": "like"}, "judgement"),
        ({**said, "dwell_ms": -1}, "dwell_ms"),
        ({**said, "dwell_ms": 2**31}, "dwell_ms"),
        ({**said, "user": "a\x00"}, "user"),
    ):
        response = client.post("/feedback", json=body)
        assert response.status_code == 422
        assert [each["field"] for each in response.json()["fields"]] == [field]
    assert world.count("feedback") == before


def test_feedback_on_a_search_that_expired_is_refused(client: TestClient, world: World) -> None:
    answer = ask(client)
    said = {"search_id": answer["search_id"], "snippet_id": answer["results"][0]["snippet_id"]}
    assert client.post("/feedback", json={**said, "judgement": "accept", "user": "ada"}).status_code == 200
    with world.db.connect() as connection:
        connection.execute("UPDATE searches SET expired_at = now() WHERE id = %s", [answer["search_id"]])
    before = world.count("feedback")
    response = client.post("/feedback", json={**said, "judgement": "reject", "user": "ada"})
    assert (response.status_code, world.count("feedback")) == (410, before)
    assert response.json()["error"].startswith(f"Search {answer['search_id']} has expired")
    assert response.json()["hint"]


def test_a_snippet_says_where_it_stands_and_whether_it_vanished(
    client: TestClient, world: World, functions: tuple[Function, ...]
) -> None:
    function = functions[0]
    add_functions(world.db, [function], repository="other")
    try:
        with world.db.connect() as connection:
            numbers = dict(
                connection.execute(
                    "SELECT r.name, s.id FROM snippets s JOIN repositories r ON r.id = s.repository_id"
                    " WHERE s.content_hash = %s",
                    [function.content_hash],
                ).fetchall()
            )
        found = client.get(f"/snippets/{numbers['click']}").json()
        assert (found["code"], found["path"], found["symbol"]) == (
            function.code,
            function.path,
            function.symbol,
        )
        assert (found["places"], found["vanished_at"], found["commit"]) == (2, None, None)
        assert [(place["repository"], place["snippet_id"]) for place in found["also_at"]] == [
            ("other", numbers["other"])
        ]
        assert found["also_at"][0]["url"] == f"/snippets/{numbers['other']}"
        vanish(world.db, [function])
        found = client.get(f"/snippets/{numbers['click']}").json()
        assert (found["places"], found["also_at"], found["code"]) == (0, [], function.code)
        assert found["vanished_at"] is not None
    finally:
        vanish(world.db, [function], back=True)
        with world.db.connect() as connection:
            connection.execute("DELETE FROM repositories WHERE name = 'other'")


@pytest.mark.parametrize(
    ("path", "status"),
    [("/snippets/999999999", 404), (f"/snippets/{2**63}", 422), ("/snippets/0", 422), ("/snippets/x", 422)],
)
def test_a_snippet_that_is_none(client: TestClient, path: str, status: int) -> None:
    response = client.get(path)
    assert response.status_code == status
    assert response.json()["error"]
    if status == 404:
        assert "There is no snippet 999999999" in response.json()["error"]


def test_other_addresses_and_methods(client: TestClient) -> None:
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("DELETE", "/feedback", 405),
        ("PUT", "/health", 405),
    ):
        response = client.request(method, path)
        assert response.status_code == status
        assert set(response.json()) == {"error", "hint", "fields"}


def test_health_names_what_serves(client: TestClient, minilm: Encoder) -> None:
    response = client.get("/health")
    assert response.status_code == 200
    found = response.json()
    assert (found["status"], found["database"], found["reason"]) == ("ok", "ok", None)
    assert found["model_version"] == minilm.version
    assert found["index_version_id"] == ask(client)["index_version_id"]
    assert isinstance(found["queue_depth"], int)


def samples(client: TestClient) -> dict[str, float]:
    """Each metric with its labels, and its value."""
    text = client.get("/metrics").text
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_metrics_count_what_happens(client: TestClient, minilm: Encoder) -> None:
    answer = ask(client)
    ask(client)
    client.post("/search", json={})
    client.get("/snippets/999999999")
    client.get("/nowhere/at/all")
    found = samples(client)
    searches = 'honeloop_requests_total{method="POST",route="/search",status="%d"}'
    assert found[searches % 200] == 2
    assert found[searches % 422] == 1
    assert found['honeloop_requests_total{method="GET",route="/snippets/{snippet_id}",status="404"}'] == 1
    assert found['honeloop_requests_total{method="GET",route="none",status="404"}'] == 1
    assert found['honeloop_search_seconds_count{part="total"}'] == 2
    assert 0 < found['honeloop_search_seconds_sum{part="total"}'] < 60
    assert found["honeloop_searches_in_flight"] == 0
    assert found["honeloop_unrecorded_searches_total"] == 0
    assert "honeloop_queue_depth" in found
    info = f'{{index_version_id="{answer["index_version_id"]}",model_version="{minilm.version}"}}'
    assert found[f"honeloop_serving_info{info}"] == 1
    assert not [name for name in found if "python_gc" in name]


def test_metrics_tell_the_parts_of_a_search(client: TestClient) -> None:
    answers = [ask(client, query=f"parts of a search {number}") for number in range(3)]
    found = samples(client)
    spent = {part: found[f'honeloop_search_seconds_sum{{part="{part}"}}'] for part in PARTS}
    assert {found[f'honeloop_search_seconds_count{{part="{part}"}}'] for part in PARTS} == {3}
    assert spent["total"] == pytest.approx(sum(answer["latency_ms"] for answer in answers) / 1000)
    assert all(spent.values())
    assert spent["encode"] + spent["search"] + spent["fetch"] <= spent["total"]
    # A vector that is remembered costs hardly anything.
    ask(client, query="parts of a search 0")
    again = samples(client)['honeloop_search_seconds_sum{part="encode"}'] - spent["encode"]
    assert again < spent["encode"] / 3


def test_metrics_tell_where_vectors_came_from_and_how_many_at_once(client: TestClient) -> None:
    """The engine counts for all its life; here it is what three searches added."""
    before = samples(client)
    for query in ("a query of its own", "a query of its own", "and another of its own"):
        ask(client, query=query)
    after = samples(client)
    added = {name: after[name] - before[name] for name in before}
    assert added['honeloop_query_vectors_total{cache="hit"}'] == 1
    assert added['honeloop_query_vectors_total{cache="joined"}'] == 0
    assert added['honeloop_query_vectors_total{cache="miss"}'] == 2
    assert added["honeloop_query_batch_size_count"] == 2
    assert added["honeloop_query_batch_size_sum"] == 2
    assert added['honeloop_query_batch_size_bucket{le="1.0"}'] == 2
    assert added['honeloop_query_batch_size_bucket{le="+Inf"}'] == 2
