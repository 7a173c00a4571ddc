"""The nearest live texts to a query vector: through the HNSW index, or exactly when few are in question."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import sql

from pipeline.index.serving import ServingIndex
from pipeline.index.tables import wrong_model_is_an_error
from pipeline.index.verifying import plan_by_keys, plan_freely, plan_hnsw
from pipeline.search.filters import Filters
from pipeline.store.connections import Connection

# So few snippets in question are always compared one by one, in some milliseconds, and so many at the most:
# 4 µs of processor time for each that is looked up by its key.
EXACT_UP_TO = 2000
EXACT_AT_MOST = 6000
# What a row costs when reached through the HNSW graph, against that: 80 µs at the median where a folder
# passes, whose snippets stand together and far from most queries (3,093 of 20,000 real functions).
GRAPH_ROW_COST = 20.0
# Where Postgres expects so many times more snippets to pass than would be compared, none are counted.
SURELY_MORE = 4
# Breadth of the HNSW search per result asked for: of the nearest 100, a breadth of 100 finds 0.952, of 400
# 0.996, for about twice the time.
BREADTH = 4
MAX_BREADTH = 1000  # pgvector's limit of hnsw.ef_search
# Texts fetched beyond k, so that equal scores at the cut are put in order before they are cut.
MARGIN = 10


@dataclass(frozen=True)
class Near:
    """A text, its cosine similarity to the query, from -1 to 1, and what it is ordered by if not by that."""

    content_hash: bytes
    score: float
    fused: float | None = None

    @property
    def order(self) -> float:
        """The higher, the better."""
        return self.score if self.fused is None else self.fused


def nearest(
    connection: Connection,
    serving: ServingIndex,
    model_version: str,
    vector: NDArray[np.float32],
    *,
    k: int,
    filters: Filters,
    ef_search: int,
    at_least: int = 0,
) -> list[Near]:
    """The k nearest texts with a live snippet that passes the filters, and up to `MARGIN` more, best first.

    Fewer only if fewer pass. Distance is cosine, computed by pgvector for the order and the score alike.
    Afterwards the transaction plans by keys: all that is left to do is to look up what was found.

    Args:
        connection: In a transaction of the search's own; planner settings hold until its end.
        serving: The index.
        model_version: Of the encoder that made `vector`; the database compares it with the table's.
        vector: Shape (dims,).
        k: How many.
        filters: Which snippets come into question.
        ef_search: Breadth of the HNSW search, at the least.
        at_least: So many texts even if k is less; beyond k they are searched for less thoroughly.

    Raises:
        HoneloopError: the vector is another model version's.
    """
    parameters = {
        "query": HalfVector(vector),
        "table": serving.table_name,
        "version": model_version,
        "limit": max(k + MARGIN, at_least),
        **filters.values,
    }
    with wrong_model_is_an_error():
        if serving.rows <= EXACT_UP_TO:
            plan_freely(connection)
            return _rows(connection, _statement(serving, filters, exact=True), parameters)
        if filters.any and (few := _few_in_question(connection, serving, k, filters)) is not None:
            plan_by_keys(connection)
            exactly = _statement(serving, few, exact=True)
            return _rows(connection, exactly, {**parameters, **few.values})
        plan_hnsw(connection, max(ef_search, min(max(BREADTH * k, at_least), MAX_BREADTH)))
        found = _rows(connection, _statement(serving, filters, exact=False), parameters)
        if len(found) < k:  # what passes lies so far from the query that the scan of the graph gave up
            plan_freely(connection)
            found = _rows(connection, _statement(serving, filters, exact=True), parameters)
        plan_by_keys(connection)
    return found


def _few_in_question(
    connection: Connection, serving: ServingIndex, k: int, filters: Filters
) -> Filters | None:
    """The filters, ready to find what passes, where comparing one by one is the cheaper way; else None.

    Where a share s of n rows passes the filters, the graph gives up k of them after about k/s rows, so the
    two ways cost the same at s·n = √(k·n·cost of a graph row).
    """
    even = math.isqrt(int((k + MARGIN) * serving.rows * GRAPH_ROW_COST))
    limit = max(EXACT_UP_TO, min(even, EXACT_AT_MOST))
    if filters.expected(connection) > SURELY_MORE * limit:
        return None
    filters = filters.with_paths(connection)
    row = connection.execute(
        sql.SQL(
            "SELECT count(*) FROM (SELECT FROM snippets s WHERE {} LIMIT %(limit)s) AS in_question"
        ).format(filters.condition),
        {**filters.values, "limit": limit + 1},
    ).fetchone()
    return filters if row is not None and row[0] <= limit else None


def _statement(serving: ServingIndex, filters: Filters, *, exact: bool) -> sql.Composed:
    # An index is not used for an order by anything but the bare distance.
    order = "(v.embedding <=> %(query)s) + 0, v.content_hash" if exact else "v.embedding <=> %(query)s"
    return sql.SQL(
        "SELECT v.content_hash, v.embedding <=> %(query)s FROM {table} v"
        " WHERE vectors_are_of(%(table)s, %(version)s)"
        " AND EXISTS (SELECT FROM snippets s WHERE s.content_hash = v.content_hash AND {condition})"
        " ORDER BY {order} LIMIT %(limit)s"
    ).format(table=serving.table.identifier, condition=filters.condition, order=sql.SQL(order))


def _rows(connection: Connection, statement: sql.Composed, parameters: dict[str, Any]) -> list[Near]:
    # Not prepared: the plan depends on the settings of this transaction and on the filters' values.
    rows = connection.execute(statement, parameters, prepare=False)
    return sorted(
        (Near(content_hash, 1.0 - distance) for content_hash, distance in rows),
        key=lambda near: (-near.score, near.content_hash),
    )
