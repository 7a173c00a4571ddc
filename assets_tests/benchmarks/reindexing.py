"""An index for a new model: loading and HNSW against plain COPY and CREATE INDEX; searches meanwhile.

The plain way loads the same vectors from this process by binary COPY into a table without key or trigger, and
indexes it with the same parameters, memory and workers. Honeloop's copies them within the database, adds the
key, and is what serves afterwards; measuring its recall is not counted, as the plain way does not.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from pgvector import HalfVector
from psycopg import sql

from assets_tests.benchmarks.comparing import Comparison, Found, Goal, Size, speed_ratio, timed
from assets_tests.benchmarks.indexed_rows import Rows, many_rows
from pipeline.index.embeddings import load_vectors
from pipeline.index.hnsw import build_hnsw
from pipeline.index.tables import VectorTable
from pipeline.progress import Silent

ROWS: dict[Size, int] = {"quick": 10_000, "full": 100_000}
EMBEDDED: dict[Size, int] = {"quick": 200, "full": 5_000}
ROUNDS: dict[Size, int] = {"quick": 2, "full": 3}
# An index with other links is another one, and is built anew.
LINKS = (16, 17)
QUIET_SEARCHES = 200


def plainly(rows: Rows, hashes: list[bytes], vectors: np.ndarray, links: int) -> None:
    """COPY into a bare table, then CREATE INDEX; as anybody would."""
    table = VectorTable("plain", rows.encoder.version, rows.encoder.dims)
    with rows.db.connect(autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS plain")
        connection.execute(
            sql.SQL("CREATE TABLE plain (content_hash bytea, embedding halfvec({}))").format(
                sql.Literal(table.dims)
            )
        )
        with (
            connection.cursor() as cursor,
            cursor.copy("COPY plain (content_hash, embedding) FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.set_types(["bytea", "halfvec"])
            for content_hash, vector in zip(hashes, vectors.astype(np.float16), strict=True):
                copy.write_row((content_hash, HalfVector(vector)))
    settings = rows.settings.model_copy(update={"hnsw_m": links})
    build_hnsw(rows.db, table, len(hashes), settings, Silent())


def beside(rows: Rows, links: int) -> tuple[list[float], list[float]]:
    """Seconds of searches with nothing beside them, and of those while the index is built anew."""
    with rows.searching() as searching:
        for number in range(QUIET_SEARCHES // 2):
            searching.ask(number)
        quiet = [searching.ask(number) for number in range(QUIET_SEARCHES)]
        building = threading.Thread(target=rows.build, kwargs={"hnsw_m": links})
        building.start()
        during: list[float] = []
        while building.is_alive():
            during.append(searching.ask(len(during)))
        building.join()
    return quiet, during


def run(size: Size) -> Found:
    """Builds in turns, then searches beside a build."""
    return measure(ROWS[size], EMBEDDED[size], ROUNDS[size])


def measure(count: int, embedded: int, rounds: int) -> Found:
    """See the module."""
    with many_rows(count, embedded) as rows:
        hashes, vectors = load_vectors(rows.db, rows.encoder.version)
        ours: list[float] = []
        plain: list[float] = []
        for number in range(rounds):
            links = LINKS[number % 2]
            if number % 2 == 0:
                ours.append(rows.build(hnsw_m=links).build_seconds)
            plain.append(timed(lambda links=links: plainly(rows, hashes, vectors, links)))
            if number % 2:
                ours.append(rows.build(hnsw_m=links).build_seconds)
        quiet, during = beside(rows, LINKS[rounds % 2])
    p95 = {name: float(np.percentile(each, 95)) for name, each in (("quiet", quiet), ("during", during))}
    details: dict[str, Any] = {
        "rows": len(hashes),
        "real vectors": embedded,
        "seconds": {"honeloop": ours, "plain": plain},
        "searches": {"quiet": len(quiet), "during": len(during)},
        "p95_seconds": p95,
    }
    return Found(
        [
            Comparison(
                f"loading and HNSW of {len(hashes):,} vectors",
                f"{np.median(ours):.1f} s",
                f"plain COPY and CREATE INDEX {np.median(plain):.1f} s",
                speed_ratio(ours, plain),
            ),
            Comparison(
                f"p95 of {len(during)} searches during the build",
                f"{1000 * p95['during']:.1f} ms",
                f"with nothing beside them {1000 * p95['quiet']:.1f} ms",
                p95["during"] / p95["quiet"],
                Goal(2.0, "at most"),
            ),
        ],
        details,
    )
