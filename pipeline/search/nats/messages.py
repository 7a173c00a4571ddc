"""A request and its answer as JSON: what is taken, what is refused and why, and how large it may be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BadInputError
from pipeline.search.request import SearchRequest

MAX_ID_CHARACTERS = 200
MAX_MODEL_CHARACTERS = 200
# No encoder sees as much of a text; a whole file pasted by mistake is told from code.
MAX_TEXT_CHARACTERS = 100_000
# The longest a float32 gets in 9 digits, -1.23456789e-05, and a comma.
BYTES_PER_NUMBER = 16
# All but the vectors: names, version, time, brackets, and a query_id with every character escaped.
BYTES_BESIDES = 512 + 12 * MAX_ID_CHARACTERS

QueryId = str | int


@dataclass(frozen=True)
class EmbeddingRequest:
    """What is to be embedded, by which model: one query, or some texts as documents."""

    query_id: QueryId
    query: str | None
    texts: tuple[str, ...]
    model: str

    @property
    def count(self) -> int:
        """How many vectors it asks for."""
        return 1 if self.query is not None else len(self.texts)


class InvalidRequestError(BadInputError):
    """A message that is no request. `query_id` is the one it gave, if that could be read."""

    def __init__(self, query_id: QueryId | None, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.query_id = query_id


def parse_request(data: bytes, *, max_texts: int) -> EmbeddingRequest:
    """The request that a message holds.

    Raises:
        InvalidRequestError: it is not JSON, a field is missing, of a wrong type or too large, or a text is
            empty or no text.
    """
    content = _object(data)
    query_id = _query_id(content)
    model = content.get("model", "serving")
    if not isinstance(model, str) or not 0 < len(model) <= MAX_MODEL_CHARACTERS:
        raise InvalidRequestError(
            query_id, "`model` is not a name.", hint='Say "serving", "base", or a registered version or name.'
        )
    if ("query" in content) == ("texts" in content):
        raise InvalidRequestError(query_id, "A request has either `query` or `texts`.")
    if "query" in content:
        return EmbeddingRequest(query_id, _query(query_id, content["query"]), (), model)
    return EmbeddingRequest(query_id, None, _texts(query_id, content["texts"], max_texts), model)


def require_room(request: EmbeddingRequest, dims: int, max_payload: int) -> None:
    """Raises BadInputError if the answer might be larger than the NATS server takes.

    By the longest form a number can have, so that what fits does not depend on the numbers.
    """
    most = (max_payload - BYTES_BESIDES) // (dims * BYTES_PER_NUMBER)
    if request.count > most:
        raise BadInputError(
            f"The answer, {request.count} vectors of {dims} dimensions, would exceed the NATS server's "
            f"max_payload of {max_payload:,} bytes.",
            hint=f"Ask for at most {most} at a time." if most > 0 else "Raise the server's max_payload.",
        )


def ok_answer(request: EmbeddingRequest, vectors: NDArray[np.float32], model_version: str) -> bytes:
    """The answer with the vectors, shape (n, dims), one per text."""
    numbers = [[_short(number) for number in vector.tolist()] for vector in vectors]
    return _encoded(
        {
            "query_id": request.query_id,
            "status": "ok",
            **({"embedding": numbers[0]} if request.query is not None else {"embeddings": numbers}),
            "dimensions": vectors.shape[1],
            "model_version": model_version,
            "timestamp": _now(),
        }
    )


def error_answer(query_id: QueryId | None, error: str) -> bytes:
    """The answer that says what was wrong."""
    named = {} if query_id is None else {"query_id": query_id}
    return _encoded({**named, "status": "error", "error": error, "timestamp": _now()})


def _object(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested without end
        raise InvalidRequestError(
            None, f"The request is not JSON ({_first_line(error)}).", hint="Send one JSON object in UTF-8."
        ) from error
    if not isinstance(content, dict):
        raise InvalidRequestError(None, "The request is not a JSON object.")
    return cast("dict[str, Any]", content)


def _query_id(content: dict[str, Any]) -> QueryId:
    query_id = content.get("query_id")
    if isinstance(query_id, bool) or not isinstance(query_id, (str, int)):
        raise InvalidRequestError(None, "`query_id` is missing, or neither a string nor an integer.")
    if not 0 < len(str(query_id)) <= MAX_ID_CHARACTERS:
        raise InvalidRequestError(None, f"`query_id` must have 1 to {MAX_ID_CHARACTERS} characters.")
    return query_id


def _query(query_id: QueryId, query: Any) -> str:
    if not isinstance(query, str):
        raise InvalidRequestError(query_id, "`query` is not a string.")
    try:
        SearchRequest(query).check()  # what can be searched for
    except BadInputError as error:
        raise InvalidRequestError(query_id, error.message, hint=error.hint) from error
    return query


def _texts(query_id: QueryId, given: Any, max_texts: int) -> tuple[str, ...]:
    texts = cast("Sequence[Any]", given) if isinstance(given, list) else ()
    if not texts:
        raise InvalidRequestError(query_id, "`texts` is not a list of strings, or it is empty.")
    if len(texts) > max_texts:
        raise InvalidRequestError(
            query_id,
            f"`texts` has {len(texts):,} texts; at most {max_texts:,} are taken.",
            hint="Send fewer.",
        )
    for position, text in enumerate(texts):
        wrong = _wrong(text)
        if wrong:
            raise InvalidRequestError(query_id, f"texts[{position}] {wrong}.")
    return tuple(texts)


def _wrong(text: Any) -> str:
    if not isinstance(text, str):
        return "is not a string"
    if not text.strip():
        return "is empty"
    if len(text) > MAX_TEXT_CHARACTERS:
        return f"has {len(text):,} characters; at most {MAX_TEXT_CHARACTERS:,} are taken"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "has characters that are no text"
    return ""


def _short(number: float) -> float:
    # Nine digits tell every float32 from its neighbours (IEEE 754), and are half of what a double takes.
    return float(f"{number:.9g}")


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:200]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _encoded(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
