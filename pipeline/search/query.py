"""One search: a query in, the nearest snippets out, and what was shown remembered."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import psycopg
from numpy.typing import NDArray

from pipeline.errors import BadInputError, HoneloopError
from pipeline.index.serving import ServingIndex, WrongModelError, connected, serving_index
from pipeline.search.answer import SearchAnswer, SearchResult, SearchTimes, ranked
from pipeline.search.filters import Filters, resolve_filters
from pipeline.search.hybrid.candidates import find_candidates
from pipeline.search.hybrid.fusion import Weights, fused
from pipeline.search.nearest import MARGIN, Near, nearest
from pipeline.search.places import find_places
from pipeline.search.recording import SearchRecord, store_searches
from pipeline.search.request import SearchRequest
from pipeline.store.connections import Connection, Database

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

# A search that meets a table dropped or a snippet deleted under it starts anew with what is there now.
ATTEMPTS = 3
ANEW = (psycopg.errors.UndefinedTable, psycopg.errors.SerializationFailure)


def search(
    db: Database | Connection,
    encoder: Encoder,
    query: str | SearchRequest,
    *,
    k: int = 10,
    language: str | None = None,
    source: str | None = None,
    user: str | None = None,
    record: bool = True,
    ef_search: int | None = None,
) -> SearchAnswer:
    """The k live snippets best for `query`, best first; identical texts once, of a definition its best part.

    Equal scores are ordered by repository, path and line, so the same search gives the same answer. For one
    search; whoever answers many keeps a `SearchEngine`.

    Args:
        db: The database, or a connection to it that is in no transaction.
        encoder: The model version that serves; any other is refused.
        query: 1 to 10,000 characters; or a whole request, and then k, language, source and user are its.
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
    request = (
        query
        if isinstance(query, SearchRequest)
        else SearchRequest(
            query,
            k,
            languages=() if language is None else (language,),
            sources=() if source is None else (source,),
            user=user,
            client="cli",
        )
    )
    request.check()
    if ef_search is not None and not 1 <= ef_search <= 1000:
        raise BadInputError(f"ef_search is {ef_search}; it must be from 1 to 1,000.")
    with connected(db) as connection:
        # Before embedding, which costs most: is the encoder the right one at all?
        with connection.transaction():
            _require_serving(serving_index(connection), encoder)
        vector = encoder.embed_queries([request.query])[0]
        for remaining in reversed(range(ATTEMPTS)):
            try:
                with connection.transaction():
                    one_snapshot(connection)
                    serving = serving_index(connection)
                    _require_serving(serving, encoder)
                    answer = answer_query(
                        connection, serving, vector, request, started=started, ef_search=ef_search
                    )
                    if not record:
                        return answer
                    named = replace(answer, search_id=str(uuid4()))
                    assert named.search_id is not None
                    store_searches(
                        connection, [SearchRecord.of(named.search_id, datetime.now(UTC), request, named)]
                    )
                    return named
            except ANEW:
                if not remaining:
                    raise
    raise AssertionError  # the loop returns or raises


def one_snapshot(connection: Connection) -> None:
    """First in a transaction: all of it sees one state, so that an answer is of one index version."""
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def answer_query(
    connection: Connection,
    serving: ServingIndex,
    vector: NDArray[np.float32],
    request: SearchRequest,
    *,
    started: float,
    ef_search: int | None = None,
) -> SearchAnswer:
    """The answer out of one index version, without a search_id: nothing is recorded.

    Args:
        connection: In a transaction after `one_snapshot`.
        serving: The index version to search, serving or one that served and still stands.
        vector: The query, embedded by that index's model version; shape (dims,).
        request: A checked one.
        started: `time.perf_counter()` when the search came in.
        ef_search: See `search`.

    Raises:
        BadInputError: unknown language or source.
    """
    begun, search_seconds, fetch_seconds = time.perf_counter(), 0.0, 0.0
    filters = resolve_filters(connection, request)
    results: tuple[SearchResult, ...] = ()
    wanted = request.k
    while len(results) < request.k:
        near = best_texts(
            connection, serving, vector, request.query, k=wanted, filters=filters, ef_search=ef_search
        )
        found = time.perf_counter()
        places = find_places(connection, [each.content_hash for each in near], filters)
        results = ranked(near, places, request.k)
        search_seconds += found - begun
        begun = time.perf_counter()
        fetch_seconds += begun - found
        if len(near) < wanted:  # that is all there is
            break
        wanted *= 2  # parts of one definition stood in others' places
    return SearchAnswer(
        None,
        request.query,
        serving.model_version,
        serving.index_version_id,
        (time.perf_counter() - started) * 1000,
        results,
        SearchTimes(search_ms=search_seconds * 1000, fetch_ms=fetch_seconds * 1000),
    )


def best_texts(
    connection: Connection,
    serving: ServingIndex,
    vector: NDArray[np.float32],
    query: str,
    *,
    k: int,
    filters: Filters,
    ef_search: int | None,
) -> list[Near]:
    """The k best texts and up to `MARGIN` more: by meaning alone, unless more was proven to help."""
    breadth = ef_search or serving.ef_search
    if serving.by_meaning_alone:
        return nearest(
            connection, serving, serving.model_version, vector, k=k, filters=filters, ef_search=breadth
        )
    candidates = find_candidates(connection, serving, vector, query, k=k, filters=filters, ef_search=breadth)
    order = fused(candidates, Weights(serving.lexical_weight, serving.crowding_weight))
    near = [
        Near(each.content_hash, each.cosine, float(score))
        for each, score in zip(candidates, order, strict=True)
    ]
    near.sort(key=lambda each: (-each.order, each.content_hash))
    return near[: k + MARGIN]


def _require_serving(serving: ServingIndex, encoder: Encoder) -> None:
    if encoder.version != serving.model_version:
        raise WrongModelError(serving, encoder.version)
    if encoder.dims != serving.dims:
        raise HoneloopError(
            f"The encoder makes {encoder.dims} dimensions, the index that serves has {serving.dims}.",
            hint=f"Load it again from {serving.location}.",
        )
