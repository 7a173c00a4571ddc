"""Whatever is asked, by the real engine over a real index: no server error, no SQL error, nothing done."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import strategies as st
from starlette.testclient import TestClient

from assets_tests.properties import few_or_many, holds
from assets_tests.search.api.conftest import World

# What means something to SQL, LIKE, regular expressions, COPY, psycopg's parameters, globs or a terminal.
PIECES = [
    *(
        "'",
        "''",
        '"',
        "`",
        ";",
        "--",
        "/*",
        "*/",
        "%",
        "%%",
        "%s",
        "%(query)s",
        "{}",
        "{0}",
        "_",
        "\\",
        "\\\\",
    ),
    *(
        "\\.",
        "\\N",
        "$1",
        "$$",
        "E'\\x'",
        "::text",
        "'; DROP TABLE precious; --",
        "' OR '1'='1",
        "UNION SELECT",
    ),
    *(
        "*",
        "**",
        "?",
        "[a-z]",
        "[!a]",
        "[",
        "]",
        "[[:alpha:]]",
        "[]-a]",
        "(",
        ")",
        "|",
        "^",
        "+",
        "{2}",
        "/",
        "..",
    ),
    *("\0", "\x01", "\x1b[2J", "\n", "\r", "\t", "\ud800", "\udfff", "\ufeff", "\u202e", "\u200f", "\ufffe"),
    *("שלום", "مرحبا", "日本語", "e\u0301", "🐝", "\U0010ffff", "a" * 300, "retry", "file", "open a file"),
]
TEXTS = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map(" ".join),
    st.text(max_size=40),
    st.sampled_from(["x" * 10_000, "'" * 10_000, "%s" * 5_000, "x" * 10_001, "a " * 5_000, "\u202e" * 9_999]),
)
MAYBE = st.one_of(st.none(), TEXTS)
ANSWERS = {200, 400, 404, 413, 422}


@pytest.fixture
def precious(world: World) -> Iterator[None]:
    """A table that every statement above would be glad to drop."""
    with world.db.connect() as connection:
        connection.execute("CREATE TABLE precious AS SELECT 42 AS answer")
    yield
    with world.db.connect() as connection:
        assert connection.execute("SELECT answer FROM precious").fetchall() == [(42,)]
        connection.execute("DROP TABLE precious")


@few_or_many(80, 3_000)
def test_searches(world: World, client: TestClient, precious: None, examples: int) -> None:
    statuses: Counter[int] = Counter()
    before = world.count("snippets")

    @holds(examples, TEXTS, MAYBE, MAYBE, MAYBE, st.one_of(st.none(), st.integers(-5, 2_000)))
    def ask(query: str, path: str | None, language: str | None, source: str | None, k: int | None) -> None:
        body = {"query": query, "path": path, "language": language, "source": source, "k": k}
        # As JSON escapes it: so that half a surrogate pair, too, reaches the service.
        sent = json.dumps({name: value for name, value in body.items() if value is not None}).encode()
        response = client.post("/search", content=sent, headers={"Content-Type": "application/json"})
        statuses[response.status_code] += 1
        assert response.status_code in ANSWERS, (body, response.text)
        assert "psycopg" not in response.text
        assert "syntax error" not in response.text

    assert statuses[200] > 0
    assert world.count("snippets") == before


@few_or_many(80, 3_000)
def test_queries_and_path_globs_alone(client: TestClient, precious: None, examples: int) -> None:
    # Each on its own, so that it is not always the other one that is refused.
    statuses: Counter[tuple[str, int]] = Counter()

    @holds(examples, TEXTS, st.sampled_from(["query", "path"]), st.booleans())
    def ask(text: str, field: str, page: bool) -> None:
        given = {"query": "open a file", field: text}
        if page:
            try:
                response = client.get("/search", params={"q": given["query"], "path": given.get("path", "*")})
            except UnicodeEncodeError:  # no address can hold half a surrogate pair
                return
        else:
            response = client.post(
                "/search", content=json.dumps(given).encode(), headers={"Content-Type": "application/json"}
            )
        statuses[field, response.status_code] += 1
        assert response.status_code in ANSWERS, (given, response.text)

    assert statuses["query", 200] > 5
    assert statuses["path", 200] > 5
