"""The documentation at /openapi.json: what it promises changes only on purpose."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

ERRORS = {"401", "403", "413", "422", "429", "503"}
ROUTES = {
    "POST /search": ERRORS | {"200"},
    "POST /feedback": ERRORS | {"200", "404", "410"},
    "GET /snippets/{snippet_id}": ERRORS - {"413"} | {"200", "404"},
    "GET /health": {"200", "403", "429", "503"},
    "GET /metrics": {"200", "401", "403", "429", "503"},
}
SCHEMAS = {
    "SearchIn": ["query", "k", "language", "source", "kind", "path", "user"],
    "SearchOut": ["search_id", "query", "model_version", "index_version_id", "latency_ms", "results"],
    "ResultOut": [
        *("rank", "score", "snippet_id", "repository", "path", "symbol", "kind", "language"),
        *("start_line", "end_line", "code", "url", "places", "also_at"),
    ],
    "PlaceOut": ["repository", "path", "start_line"],
    "SnippetOut": [
        *("snippet_id", "repository", "path", "symbol", "kind", "language", "start_line", "end_line"),
        *("code", "url", "places", "signature", "commit", "vanished_at", "also_at"),
    ],
    "SnippetPlaceOut": ["repository", "path", "start_line", "snippet_id", "symbol", "end_line", "url"],
    "FeedbackIn": ["search_id", "snippet_id", "judgement", "dwell_ms", "user"],
    "FeedbackOut": ["added"],
    "HealthOut": ["status", "reason", "database", "model_version", "index_version_id", "queue_depth"],
    "ErrorOut": ["error", "hint", "fields"],
    "FieldProblem": ["field", "problem"],
}


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    response = client.get("/openapi.json")
    assert response.status_code == 200
    return response.json()


def test_routes_and_their_answers(document: dict[str, Any]) -> None:
    assert {
        f"{method.upper()} {path}": set(operation["responses"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    } == ROUTES


def test_fields(document: dict[str, Any]) -> None:
    found = document["components"]["schemas"]
    assert {name: list(schema["properties"]) for name, schema in found.items()} == SCHEMAS


def test_every_error_has_the_one_shape(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status != "200" and (path, status) != ("/health", "503"):
                    schema = response["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorOut"}


def test_everything_is_explained(document: dict[str, Any]) -> None:
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert operation["description"]
    for name in ("SearchIn", "FeedbackIn"):
        for field in document["components"]["schemas"][name]["properties"].values():
            forms = [field, *field.get("anyOf", [])]
            assert any("description" in form for form in forms)
            assert any("examples" in form for form in forms)


def test_no_page_of_it_loads_anything_from_elsewhere(client: TestClient) -> None:
    assert client.get("/docs").status_code == 404
    assert client.get("/redoc").status_code == 404
