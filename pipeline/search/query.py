"""One search: a query in, the nearest snippets out, and what was shown remembered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from pipeline.errors import BadInputError, HoneloopError
from pipeline.index.serving import ServingIndex, WrongModelError, connected, serving_index
from pipeline.search.nearest import Filters, Near, nearest
from pipeline.search.places import Found, Place, find_places
from pipeline.store.connections import Connection, Database

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

MAX_QUERY_CHARACTERS = 10_000
MAX_K = 1000
# A search that meets a table dropped or a snippet deleted under it starts anew with what is there now.
ATTEMPTS = 3


@dataclass(frozen=True)
class SearchResult:
    """One snippet shown. `score` is the cosine similarity to the query, from -1 to 1; `rank` is from 1.

    `also_at` lists other live snippets with the same text (at most 50), `places` counts all of them.
    """

    rank: int
    score: float
    snippet_id: int
    repository: str
    path: str
    symbol: str
    kind: str
    language: str
    start_line: int
    end_line: int
    code: str
    also_at: tuple[Place, ...]
    places: int


@dataclass(frozen=True)
class SearchAnswer:
    """What a search gave. `search_id` is what feedback refers to; None when it was not recorded."""

    search_id: str | None
    query: str
    model_version: str
    index_version_id: int
    latency_ms: float
    results: tuple[SearchResult, ...]


def search(
    db: Database | Connection,
    encoder: Encoder,
    query: str,
    *,
    k: int = 10,
    language: str | None = None,
    source: str | None = None,
    user: str | None = None,
    record: bool = True,
    ef_search: int | None = None,
) -> SearchAnswer:
    """The k live snippets nearest to `query`, best first; identical texts once.

    Equal scores are ordered by repository, path and line, so the same search gives the same answer.

    Args:
        db: The database, or a connection to it that is in no transaction.
        encoder: The model version that serves; any other is refused.
        query: 1 to 10,000 characters.
        k: 1 to 1,000.
        language: Only snippets in it, such as "python".
        source: Only snippets of the repository of this name.
        user: Who asks, for the record.
        record: Remember the search and what it showed, in the transaction that read it.
        ef_search: Breadth of the HNSW search, at the least; None: as the index's recall was measured with.

    Raises:
        BadInputError: `query` or `k` out of range, unknown language or source.
        WrongModelError: `encoder` is not the model version that serves.
        HoneloopError: nothing is indexed yet.
    """
    started = time.perf_counter()
    _check(query, k, ef_search)
    with connected(db) as connection:
        # Before embedding, which costs most: is the encoder the right one at all?
        with connection.transaction():
            _require_serving(serving_index(connection), encoder)
        vector = encoder.embed_queries([query])[0]
        attempt = _Attempt(
            encoder.version, vector, query, k, language, source, user, record, ef_search, started
        )
        for remaining in reversed(range(ATTEMPTS)):
            try:
                with connection.transaction():
                    return attempt.run(connection)
            except (psycopg.errors.UndefinedTable, psycopg.errors.SerializationFailure):
                if not remaining:
                    raise
    raise AssertionError  # the loop returns or raises


@dataclass(frozen=True)
class _Attempt:
    """One transaction: everything is read from, and recorded against, one index version."""

    model_version: str
    vector: NDArray[np.float32]
    query: str
    k: int
    language: str | None
    source: str | None
    user: str | None
    record: bool
    ef_search: int | None
    started: float

    def run(self, connection: Connection) -> SearchAnswer:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        serving = serving_index(connection)
        _require_serving(serving, self.model_version)
        filters = _filters(connection, self.language, self.source)
        near = nearest(
            connection,
            serving,
            self.model_version,
            self.vector,
            k=self.k,
            filters=filters,
            ef_search=self.ef_search or serving.ef_search,
        )
        places = find_places(connection, [each.content_hash for each in near], filters)
        results = _rank(near, places)[: self.k]
        latency = (time.perf_counter() - self.started) * 1000
        search_id = self._remember(connection, serving, results, latency) if self.record else None
        return SearchAnswer(
            search_id,
            self.query,
            serving.model_version,
            serving.index_version_id,
            latency,
            tuple(results),
        )

    def _remember(
        self,
        connection: Connection,
        serving: ServingIndex,
        results: Sequence[SearchResult],
        latency_ms: float,
    ) -> str:
        asked: dict[str, Any] = {"k": self.k, "language": self.language, "source": self.source}
        row = connection.execute(
            "INSERT INTO searches"
            " (query, source, user_name, filters, model_version, index_version_id, latency_ms)"
            " VALUES (%s, 'search', %s, %s, %s, %s, %s) RETURNING id",
            [
                self.query,
                self.user,
                Jsonb({name: value for name, value in asked.items() if value is not None}),
                serving.model_version,
                serving.index_version_id,
                latency_ms,
            ],
        ).fetchone()
        assert row is not None  # RETURNING
        connection.execute(
            "INSERT INTO impressions (search_id, snippet_id, rank, score)"
            " SELECT %s, * FROM unnest(%s::bigint[], %s::int[], %s::float8[])",
            [
                row[0],
                [result.snippet_id for result in results],
                [result.rank for result in results],
                [result.score for result in results],
            ],
        )
        return str(row[0])


def _check(query: str, k: int, ef_search: int | None) -> None:
    if not query.strip():
        raise BadInputError("The query is empty.", hint="Say in a few words what the code should do.")
    if len(query) > MAX_QUERY_CHARACTERS:
        raise BadInputError(
            f"The query has {len(query):,} characters; at most {MAX_QUERY_CHARACTERS:,} are taken.",
            hint="Ask with a few words, or with the part of the code that matters.",
        )
    if "\x00" in query or any("\ud800" <= character <= "\udfff" for character in query):
        raise BadInputError("The query has characters that are no text.", hint="Send it as valid UTF-8.")
    if not 1 <= k <= MAX_K:
        raise BadInputError(f"k is {k}; it must be from 1 to {MAX_K:,}.")
    if ef_search is not None and not 1 <= ef_search <= 1000:
        raise BadInputError(f"ef_search is {ef_search}; it must be from 1 to 1,000.")


def _require_serving(serving: ServingIndex, encoder: Encoder | str) -> None:
    version = encoder if isinstance(encoder, str) else encoder.version
    if version != serving.model_version:
        raise WrongModelError(serving, version)
    if not isinstance(encoder, str) and encoder.dims != serving.dims:
        raise HoneloopError(
            f"The encoder makes {encoder.dims} dimensions, the index that serves has {serving.dims}.",
            hint=f"Load it again from {serving.location}.",
        )


def _filters(connection: Connection, language: str | None, source: str | None) -> Filters:
    repository_id: int | None = None
    if source is not None:
        row = connection.execute("SELECT id FROM repositories WHERE name = %s", [source]).fetchone()
        if row is None:
            names = connection.execute("SELECT name FROM repositories ORDER BY name").fetchall()
            raise BadInputError(f"There is no source {source!r}.", hint=_known("Known", names))
        repository_id = row[0]
    if language is not None:
        language = language.strip().lower()
        known = connection.execute(
            "SELECT EXISTS (SELECT FROM snippets WHERE language = %s AND vanished_at IS NULL)", [language]
        ).fetchone()
        if known is None or not known[0]:
            names = connection.execute(
                "SELECT DISTINCT language FROM snippets WHERE vanished_at IS NULL ORDER BY language"
            ).fetchall()
            raise BadInputError(
                f"No snippet is in the language {language!r}.", hint=_known("There are", names)
            )
    return Filters(language, repository_id)


def _known(lead: str, names: Sequence[tuple[Any, ...]]) -> str:
    return f"{lead}: {', '.join(name for (name,) in names)}."


def _rank(near: Sequence[Near], places: dict[bytes, Found]) -> list[SearchResult]:
    shown = [(each.score, places[each.content_hash]) for each in near if each.content_hash in places]
    shown.sort(key=lambda pair: (-pair[0], pair[1].repository, pair[1].path, pair[1].start_line))
    return [
        SearchResult(
            rank,
            score,
            found.snippet_id,
            found.repository,
            found.path,
            found.symbol,
            found.kind,
            found.language,
            found.start_line,
            found.end_line,
            found.code,
            found.also_at,
            found.places,
        )
        for rank, (score, found) in enumerate(shown, start=1)
    ]
