"""Exact search in one pass over a table, against Postgres itself."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from pgvector import HalfVector

from assets_tests.index.click_corpus import Function, add_functions, store_vectors
from pipeline.encoders.encoder import Encoder
from pipeline.index import exact
from pipeline.index.embeddings import embedding_table
from pipeline.index.exact import RecallQuery, nearest_distances
from pipeline.store.connections import Database

Vectors = NDArray[np.float32]
Functions = tuple[Function, ...]


@pytest.mark.parametrize("count", [1, 10, 300])
def test_the_distances_are_those_that_postgres_sorts_by(  # noqa: PLR0917 fixtures
    db: Database,
    minilm: Encoder,
    functions: Functions,
    vectors: Vectors,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In chunks that do not fit evenly; and of 250 rows no 300 neighbours can be had."""
    monkeypatch.setattr(exact, "CHUNK", 70)
    add_functions(db, functions)
    store_vectors(db, minilm, functions, vectors)
    strange = minilm.embed_queries(["open a file for reading"])[0].astype(np.float16)
    halves = vectors.astype(np.float16)
    queries = [RecallQuery(strange)] + [RecallQuery(halves[i], functions[i].content_hash) for i in (0, 71)]
    with db.connect() as connection:
        table = embedding_table(connection, minilm.version)
        assert table is not None
        found = nearest_distances(connection, table, queries, count)
        for query, distances in zip(queries, found, strict=True):
            rows = connection.execute(
                f"SELECT embedding <=> %(query)s AS distance FROM {table.name}"
                " WHERE content_hash <> %(itself)s ORDER BY distance LIMIT %(count)s".encode(),
                {"query": HalfVector(query.vector), "itself": query.itself, "count": count},
            ).fetchall()
            assert len(rows) == min(count, len(functions) - bool(query.itself))
            np.testing.assert_allclose(distances, [distance for (distance,) in rows], atol=5e-7)
