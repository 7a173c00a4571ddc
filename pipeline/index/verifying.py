"""Is an index right? Its recall against exact search on real vectors, and whether it has every live text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import sql

from pipeline.errors import HoneloopError
from pipeline.index.exact import RecallQuery, nearest_distances
from pipeline.index.tables import LIVE_CONTENTS, VectorTable
from pipeline.store.connections import Connection

NEIGHBOURS = 10
# Distances come from half floats; equal texts that were cut at the token limit have equal vectors.
TIE = 1e-6
# Each breadth tried is so many times the last one.
WIDER = 1.4


@dataclass(frozen=True)
class Recall:
    """Share of the exact nearest 10 that the HNSW index finds, from 0 to 1.

    Args:
        recall_at_10: That share, the mean over the queries.
        queries: How many there were.
        ef_search: The breadth of the HNSW search that found it.
    """

    recall_at_10: float
    queries: int
    ef_search: int


@dataclass(frozen=True)
class Coverage:
    """An index's rows against the live texts: `missing` are not indexed, `surplus` are no longer live.

    `rows_print` and `live_print` tell which texts these are: the exclusive or of 64 bits of each one's hash.
    """

    rows: int
    live: int
    missing: int
    surplus: int
    rows_print: int
    live_print: int

    @property
    def equal(self) -> bool:
        """Whether the index has every live text and nothing else."""
        return self.missing == self.surplus == 0


def measure_recall(
    connection: Connection,
    table: VectorTable,
    *,
    ef_search: int,
    sample: int,
    query_vectors: NDArray[np.float32] | None = None,
    target: float = 0.0,
    max_ef_search: int | None = None,
) -> Recall:
    """Measures recall@10 of the table's HNSW index: the same queries with the index and by exact search.

    A text found counts when it is no farther than the tenth exact one, so that equal vectors, whose order
    is arbitrary, do not look like misses.

    Args:
        connection: In a transaction; its planner settings are changed until that ends.
        table: The indexed table.
        ef_search: As it will be served with, if that reaches `target`.
        sample: How many queries when `query_vectors` is not given: rows of the table, each searching for
            its neighbours, itself left out. Content hashes are SHA-256, so the first in their order are a
            random sample, and the same one every time.
        query_vectors: Queries to use instead, shape (n, dims), made by the table's model version.
        target: While recall is below this, it is measured again with a breadth `WIDER` times as large: the
            same breadth finds less in a larger index.
        max_ef_search: The largest breadth tried; None: `ef_search` itself.

    Raises:
        HoneloopError: the planner does not use the HNSW index, or `query_vectors` have the wrong shape.
    """
    queries = _sampled(connection, table, sample) if query_vectors is None else _given(table, query_vectors)
    nearest = sql.SQL(
        "SELECT embedding <=> %(query)s AS distance FROM {}"
        " WHERE content_hash <> %(itself)s ORDER BY embedding <=> %(query)s LIMIT %(limit)s"
    ).format(table.identifier)

    def distances(query: RecallQuery) -> NDArray[np.float64]:
        # Prepared plans would be kept across the changes of planner settings, so nothing is prepared here.
        rows = connection.execute(nearest, _parameters(query), prepare=False)
        return np.array([distance for (distance,) in rows])

    broadest = max_ef_search or ef_search
    exact = nearest_distances(connection, table, queries, NEIGHBOURS) if queries else []
    plan_hnsw(connection, ef_search)
    if queries:
        _require_hnsw(connection, table, nearest, _parameters(queries[0]))
    while True:
        shares = [
            min(int((distances(query) <= wanted[-1] + TIE).sum()), len(wanted)) / len(wanted)
            for query, wanted in zip(queries, exact, strict=True)
            if len(wanted)  # a table of one row has no neighbours to miss
        ]
        recall = Recall(float(np.mean(shares)) if shares else 1.0, len(shares), ef_search)
        if recall.recall_at_10 >= target or ef_search >= broadest:
            return recall
        ef_search = min(broader(ef_search), broadest)
        plan_hnsw(connection, ef_search)


def broader(ef_search: int) -> int:
    """The breadth that is tried after `ef_search`."""
    return math.ceil(WIDER * ef_search)


def plan_hnsw(connection: Connection, ef_search: int) -> None:
    """For the rest of the transaction: nearest neighbours come from the HNSW index.

    A scan goes on beyond `ef_search` until enough rows pass the filters, in relaxed order, so the caller
    sorts: strict order throws away what turns up late, and on 16,000 real functions found less of the exact
    nearest for it, in the same time (a fifth passing a filter: 0.947 of the nearest 100 against 0.984).
    """
    connection.execute(
        "SELECT set_config('hnsw.ef_search', %s, true),"
        " set_config('hnsw.iterative_scan', 'relaxed_order', true),"
        " set_config('hnsw.max_scan_tuples', '20000', true),"
        " set_config('hnsw.scan_mem_multiplier', '4', true),"
        " set_config('enable_indexscan', 'on', true), set_config('enable_seqscan', 'off', true),"
        " set_config('enable_sort', 'off', true), set_config('jit', 'off', true)",
        [str(ef_search)],
    )


def plan_freely(connection: Connection) -> None:
    """For the rest of the transaction: Postgres plans as it thinks best again."""
    connection.execute(
        "SELECT set_config('enable_indexscan', 'on', true), set_config('enable_seqscan', 'on', true),"
        " set_config('enable_hashjoin', 'on', true), set_config('enable_mergejoin', 'on', true),"
        " set_config('enable_sort', 'on', true), set_config('jit', 'off', true)"
    )


def plan_by_keys(connection: Connection) -> None:
    """For the rest of the transaction, until `plan_freely`: every row is looked up by its key or an index.

    For a statement that is known to touch few rows where Postgres cannot know it: a condition on words or a
    union makes it expect many, and then read whole tables.
    """
    connection.execute(
        "SELECT set_config('enable_indexscan', 'on', true), set_config('enable_seqscan', 'off', true),"
        " set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),"
        " set_config('enable_sort', 'on', true), set_config('jit', 'off', true)"
    )


def coverage(connection: Connection, table: VectorTable) -> Coverage:
    """Compares the table's rows with the distinct live texts."""
    row = connection.execute(
        sql.SQL(
            "SELECT count(v.content_hash), count(live.content_hash),"
            " count(*) FILTER (WHERE v.content_hash IS NULL),"
            " count(*) FILTER (WHERE live.content_hash IS NULL),"
            " coalesce(bit_xor({}), 0), coalesce(bit_xor({}), 0)"
            " FROM ({}) AS live FULL JOIN {} v USING (content_hash)"
        ).format(_print_of("v"), _print_of("live"), LIVE_CONTENTS, table.identifier)
    ).fetchone()
    assert row is not None  # an aggregate always returns one row
    return Coverage(*row)


def _print_of(texts: str) -> sql.Composed:
    return sql.SQL("('x' || encode(substr({}.content_hash, 1, 8), 'hex'))::bit(64)::bigint").format(
        sql.Identifier(texts)
    )


def _sampled(connection: Connection, table: VectorTable, sample: int) -> list[RecallQuery]:
    rows = connection.execute(
        sql.SQL("SELECT content_hash, embedding FROM {} ORDER BY content_hash LIMIT %s").format(
            table.identifier
        ),
        [sample],
        binary=True,
    ).fetchall()
    return [RecallQuery(vector.to_numpy(), own) for own, vector in rows]


def _given(table: VectorTable, vectors: NDArray[np.float32]) -> list[RecallQuery]:
    if vectors.ndim != 2 or vectors.shape[1] != table.dims:
        raise HoneloopError(
            f"Recall of an index of {table.dims} dimensions cannot be measured with vectors of shape"
            f" {vectors.shape}.",
            hint="Make the query vectors with the encoder of the index.",
        )
    return [RecallQuery(row) for row in vectors.astype(np.float16)]


def _parameters(query: RecallQuery) -> dict[str, Any]:
    return {"query": HalfVector(query.vector), "itself": query.itself, "limit": NEIGHBOURS}


def _require_hnsw(
    connection: Connection, table: VectorTable, statement: sql.Composed, query: dict[str, Any]
) -> None:
    plan = connection.execute(sql.SQL("EXPLAIN (COSTS OFF) ") + statement, query, prepare=False).fetchall()
    text = "\n".join(line for (line,) in plan)
    if hnsw_name(table) not in text:
        raise HoneloopError(
            f"Recall of {table.name} cannot be measured: Postgres does not use its HNSW index but:\n{text}",
            hint="Build the index anew with `honeloop index`.",
        )


def hnsw_name(table: VectorTable) -> str:
    """The name of the table's HNSW index."""
    return f"{table.name}_hnsw"
