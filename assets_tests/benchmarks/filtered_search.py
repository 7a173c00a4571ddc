"""Filtered searches: through the HNSW graph in strict or relaxed order, or row by row; time and recall.

What EXACT_UP_TO, GRAPH_ROW_COST and BREADTH in pipeline/search/nearest.py, and relaxed order, come from.
Run: `python -m assets_tests.benchmarks.filtered_search --functions 3000`.

Measured (16,000 functions, 384 dimensions, on 2 cores that eight other processes used too: ratios matter);
milliseconds per query, and the share of the exact nearest k found; "x4": breadth 4k instead of k:

    passing     k   row by row   strict        strict x4     relaxed       relaxed x4
    all        10   36           4.6  0.993    5.2  0.993    4.0  0.993    5.8  0.993
    all       100   35           7.7  0.952   20    0.996    9.0  0.952   19    0.996
    half      100   42          18    0.941   25    0.991   21    0.969   24    0.991
    fifth      10   22           7.5  0.976    8.0  0.976    8.0  0.976    9.2  0.976
    fifth     100   17          40    0.947   63    0.977   48    0.984   52    0.994
    tenth      10   10          12    0.953   13    0.953    4.7  0.972    9.8  0.972
    tenth     100    6.3        43    0.959   51    0.978   73    0.991   86    0.993
    twentieth  10   15          21    0.941   22    0.941   22    0.969   22    0.969
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from pgvector import HalfVector
from psycopg import sql

from assets_tests.benchmarks.real_vectors import RealVectors, arguments, fresh_database, real_vectors
from pipeline.index.hnsw import build_hnsw
from pipeline.index.tables import VectorTable, copy_vectors
from pipeline.index.verifying import TIE, plan_hnsw
from pipeline.progress import Silent
from pipeline.store.connections import Connection, Database

# Share of the snippets that are of each language.
SHARES = {"half": 0.5, "fifth": 0.2, "tenth": 0.1, "twentieth": 0.05, "fiftieth": 0.02}


def fill(db: Database, table: VectorTable, real: RealVectors) -> None:
    rng = np.random.default_rng(17)
    languages = rng.choice([*SHARES, "rest"], size=len(real.hashes), p=[*SHARES.values(), 0.13])
    with db.connect() as connection, connection.cursor() as cursor:
        copy_vectors(connection, table, table.model_version, real.hashes, real.vectors)
        cursor.execute("INSERT INTO repositories (name, kind, location) VALUES ('real', 'directory', '-')")
        cursor.executemany(
            "INSERT INTO contents (content_hash, text) VALUES (%s, 'x')", [(each,) for each in real.hashes]
        )
        cursor.executemany(
            "INSERT INTO snippets (repository_id, path, symbol, kind, language, signature, code, start_line,"
            " end_line, content_hash) VALUES (1, %s, 'x', 'function', %s, 'x', 'x', 1, 1, %s)",
            [
                (str(i), str(language), each)
                for i, (language, each) in enumerate(zip(languages, real.hashes, strict=True))
            ],
        )
    with db.connect(autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def ask(
    connection: Connection, table: VectorTable, real: RealVectors, condition: dict[str, Any], *, exact: bool
) -> tuple[list[list[float]], float]:
    """The distances found for each query, and the median time in milliseconds."""
    statement = sql.SQL(
        "SELECT v.embedding <=> %(query)s FROM {} v WHERE EXISTS (SELECT FROM snippets s WHERE"
        " s.content_hash = v.content_hash AND s.vanished_at IS NULL"
        " AND (%(language)s::text IS NULL OR s.language = %(language)s))"
        " ORDER BY {} LIMIT %(k)s"
    ).format(
        table.identifier, sql.SQL("(v.embedding <=> %(query)s) + 0" if exact else "v.embedding <=> %(query)s")
    )
    found: list[list[float]] = []
    seconds: list[float] = []
    for query in real.queries:
        started = time.perf_counter()
        rows = connection.execute(
            statement, {"query": HalfVector(query), **condition}, prepare=False
        ).fetchall()
        seconds.append(time.perf_counter() - started)
        found.append([distance for (distance,) in rows])
    return found, float(np.median(seconds)) * 1000


def recall(found: Sequence[Sequence[float]], exact: Sequence[Sequence[float]]) -> float:
    shares = [
        sum(distance <= wanted[-1] + TIE for distance in got) / len(wanted)
        for got, wanted in zip(found, exact, strict=True)
    ]
    return float(np.mean(shares))


def main(given: Sequence[str] | None = None) -> None:
    asked = arguments("Filtered searches: graph against row by row.", given)
    real = real_vectors(asked.functions, asked.cache)
    with fresh_database() as (db, settings, table):
        fill(db, table, real)
        build_hnsw(db, table, len(real.hashes), settings, Silent())
        for language in (None, *SHARES):
            for k in (10, 100):
                condition = {"language": language, "k": k}
                with db.connect() as connection:
                    connection.execute("SET LOCAL jit = off")
                    exact, exact_ms = ask(connection, table, real, condition, exact=True)
                line = f"{language or 'all':>10}, k {k:>3}: row by row {exact_ms:6.2f} ms"
                for order in ("strict_order", "relaxed_order"):
                    for breadth in (1, 4):
                        with db.connect() as connection:
                            plan_hnsw(connection, max(100, breadth * k))
                            connection.execute("SELECT set_config('hnsw.iterative_scan', %s, true)", [order])
                            found, ms = ask(connection, table, real, condition, exact=False)
                        line += f" | {order} x{breadth} {ms:6.2f} ms {recall(found, exact):.4f}"
                print(line, flush=True)


if __name__ == "__main__":
    main()
