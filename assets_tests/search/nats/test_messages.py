"""Requests and answers as JSON: what is taken and what is refused, without a server."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.errors import BadInputError
from pipeline.search.nats.messages import (
    BYTES_BESIDES,
    BYTES_PER_NUMBER,
    EmbeddingRequest,
    InvalidRequestError,
    error_answer,
    ok_answer,
    parse_request,
    require_room,
)


def parsed(content: object) -> EmbeddingRequest:
    return parse_request(json.dumps(content).encode(), max_texts=3)


def test_a_query_and_texts() -> None:
    assert parsed({"query_id": "a", "query": "x"}) == EmbeddingRequest("a", "x", (), "serving")
    request = parsed({"query_id": 7, "texts": ["x", "y"], "model": "base", "beside": "the point"})
    assert request == EmbeddingRequest(7, None, ("x", "y"), "base")
    assert request.count == 2


@pytest.mark.parametrize(
    ("data", "query_id", "said"),
    [
        (b"", None, "not JSON"),
        (b"{", None, "not JSON"),
        (b"\xff{}", None, "not JSON"),
        (b"[" * 100_000, None, "not JSON"),
        (b'{"query_id": %s, "query": "x"}' % (b"9" * 5000), None, "not JSON"),
        (b"[1]", None, "not a JSON object"),
        (b"{}", None, "`query_id` is missing"),
        (b'{"query_id": null, "query": "x"}', None, "`query_id` is missing"),
        (b'{"query_id": true, "query": "x"}', None, "`query_id` is missing"),
        (b'{"query_id": 1.5, "query": "x"}', None, "`query_id` is missing"),
        (b'{"query_id": "", "query": "x"}', None, "1 to 200 characters"),
        (b'{"query_id": "%s", "query": "x"}' % (b"a" * 201), None, "1 to 200 characters"),
        (b'{"query_id": "a"}', "a", "either `query` or `texts`"),
        (b'{"query_id": "a", "query": "x", "texts": ["y"]}', "a", "either `query` or `texts`"),
        (b'{"query_id": "a", "query": 3}', "a", "`query` is not a string"),
        (b'{"query_id": "a", "query": null}', "a", "`query` is not a string"),
        (b'{"query_id": "a", "query": " "}', "a", "The query is empty"),
        (b'{"query_id": "a", "query": "%s"}' % (b"x" * 10_001), "a", "10,001 characters"),
        (b'{"query_id": "a", "query": "\\ud800"}', "a", "no text"),
        (b'{"query_id": "a", "texts": "x"}', "a", "not a list"),
        (b'{"query_id": "a", "texts": []}', "a", "is empty"),
        (b'{"query_id": "a", "texts": ["x", 1]}', "a", "texts[1] is not a string"),
        (b'{"query_id": "a", "texts": ["x", ""]}', "a", "texts[1] is empty"),
        (b'{"query_id": "a", "texts": ["\\udfff"]}', "a", "texts[0] has characters"),
        (b'{"query_id": "a", "texts": ["%s"]}' % (b"x" * 100_001), "a", "100,001 characters"),
        (b'{"query_id": 5, "texts": ["x", "x", "x", "x"]}', 5, "4 texts; at most 3"),
        (b'{"query_id": "a", "query": "x", "model": 3}', "a", "`model` is not a name"),
        (b'{"query_id": "a", "query": "x", "model": ""}', "a", "`model` is not a name"),
        (b'{"query_id": "a", "query": "x", "model": null}', "a", "`model` is not a name"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_request(data: bytes, query_id: str | int | None, said: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_request(data, max_texts=3)
    assert said in str(refused.value)
    assert refused.value.query_id == query_id


def test_numbers_come_back_as_they_were() -> None:
    rng = np.random.default_rng(3)
    vectors = (rng.standard_normal((4, 500)) * 10.0 ** rng.integers(-30, 3, (4, 500))).astype(np.float32)
    request = EmbeddingRequest("a", None, ("w", "x", "y", "z"), "serving")
    answer = json.loads(ok_answer(request, vectors, "f" * 64))
    assert np.array_equal(np.asarray(answer["embeddings"], dtype=np.float32), vectors)
    assert (answer["query_id"], answer["status"], answer["dimensions"]) == ("a", "ok", 500)
    one = json.loads(ok_answer(EmbeddingRequest(1, "x", (), "serving"), vectors[:1], "f" * 64))
    assert np.array_equal(np.asarray(one["embedding"], dtype=np.float32), vectors[0])
    assert "embeddings" not in one


def test_what_has_room_fits_whatever_the_numbers_are() -> None:
    dims, limit = 100, BYTES_BESIDES + 3 * 100 * BYTES_PER_NUMBER
    longest = np.full((3, dims), -1.23456789e-05, dtype=np.float32)
    request = EmbeddingRequest("\x00" * 200, None, ("x", "y", "z"), "serving")
    require_room(request, dims, limit)
    assert len(ok_answer(request, longest, "f" * 64)) <= limit
    with pytest.raises(BadInputError, match="at most 2 at a time"):
        require_room(request, dims, limit - 1)
    with pytest.raises(BadInputError, match="Raise the server's max_payload"):
        require_room(EmbeddingRequest("a", "x", (), "serving"), 4000, limit)


def test_an_error_names_the_request_if_it_can() -> None:
    named = json.loads(error_answer(0, "No."))
    assert (named["query_id"], named["status"], named["error"]) == (0, "error", "No.")
    assert "query_id" not in json.loads(error_answer(None, "No."))
