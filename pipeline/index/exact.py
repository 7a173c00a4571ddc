"""Exact search for many queries at once: what the recall of an HNSW index is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from pipeline.index.tables import VectorTable, to_unit_length
from pipeline.store.connections import Connection
from pipeline.store.cursors import server_cursor

# Rows held in memory at once.
CHUNK = 20_000


@dataclass(frozen=True)
class RecallQuery:
    """A query of a recall measurement.

    Args:
        vector: Shape (dims,), of the precision that the database compares with: half floats.
        itself: The content that the vector is of, which is no neighbour of its own; empty if of none.
    """

    vector: NDArray[np.float16]
    itself: bytes = b""


def nearest_distances(
    connection: Connection, table: VectorTable, queries: Sequence[RecallQuery], count: int
) -> list[NDArray[np.float32]]:
    """Cosine distances of the `count` rows nearest to each query, ascending; fewer if there are no more rows.

    The table is read once for all queries, where Postgres would read and sort it for each.

    Args:
        connection: In a transaction.
        table: Whose rows.
        queries: Shape (dims,) each.
        count: Neighbours of each.
    """
    asked = to_unit_length(np.stack([query.vector for query in queries]).astype(np.float32))
    best = np.full((len(queries), count), np.inf, dtype=np.float32)
    statement = sql.SQL("SELECT content_hash, embedding FROM {}").format(table.identifier)
    with server_cursor(connection, "exact_search", binary=True) as cursor:
        cursor.execute(statement)
        while rows := cursor.fetchmany(CHUNK):
            vectors = np.stack([vector.to_numpy() for _, vector in rows]).astype(np.float32)
            distances = 1 - asked @ to_unit_length(vectors).T
            place = {content_hash: number for number, (content_hash, _) in enumerate(rows)}
            for number, query in enumerate(queries):
                if query.itself in place:
                    distances[number, place[query.itself]] = np.inf
            together = np.concatenate([best, distances], axis=1)
            best = np.sort(np.partition(together, count - 1, axis=1)[:, :count], axis=1)
    return [row[np.isfinite(row)] for row in best]
