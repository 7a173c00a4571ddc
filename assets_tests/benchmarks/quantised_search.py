"""Smaller graphs with exact re-ranking: signs (a bit for each dimension) and cut vectors; recall and memory.

The nearest some hundred are found by HNSW over the signs, or the first dimensions, of each vector, and put in
order by the cosine of the whole vectors, which stay in the table. Truth is the exact scan.

Run: `python -m assets_tests.benchmarks.quantised_search --rows 50000 --cache V.npz --json F.json`; a million
takes `--rows 1000000 --embedded 20000`: the other rows are then the embedded ones with noise, as near to each
other as near-duplicate code is.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import LiteralString, cast

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import sql
from rich.table import Table

from assets_tests.benchmarks.provenance import provenance, show, write_figures
from assets_tests.benchmarks.real_vectors import RealVectors, fresh_database, real_vectors
from pipeline.config import Settings
from pipeline.index.hnsw import build_memory, build_workers, ef_construction
from pipeline.index.tables import VectorTable, add_key, copy_vectors, create_table
from pipeline.store.connections import Connection, Database

SEED = 17
K = 10
# Of unit vectors: the cosine of a row with what it was made of is 0.98 at the median, as of near-duplicates.
NOISE = 0.2


@dataclass(frozen=True)
class Way:
    """How candidates are found: an indexed expression of the vector, and the order it is searched in."""

    name: str
    expression: str
    operators: str
    order: str

    def index(self, m: int, candidates: int) -> sql.Composed:
        return sql.SQL(
            "CREATE INDEX way ON bench USING hnsw (({}) {}) WITH (m = {}, ef_construction = {})"
        ).format(_trusted(self.expression), _trusted(self.operators), sql.Literal(m), sql.Literal(candidates))

    def search(self) -> sql.Composed:
        return sql.SQL(
            "SELECT content_hash FROM (SELECT content_hash, embedding FROM bench"
            " ORDER BY {} LIMIT %(candidates)s) AS found"
            " ORDER BY embedding <=> %(query)s, content_hash LIMIT {}"
        ).format(_trusted(self.order), sql.Literal(K))


def _trusted(text: str) -> sql.SQL:
    """SQL made of nothing but numbers and words of this file."""
    return sql.SQL(cast("LiteralString", text))


@dataclass(frozen=True)
class Figure:
    """One way with one number of candidates."""

    way: str
    candidates: int
    recall_at_10: float
    p50_ms: float
    p95_ms: float
    index_bytes_per_row: float
    build_seconds: float


def ways(dims: int) -> list[Way]:
    """Whole vectors; their signs; their first half, third and quarter."""
    cut = [
        Way(
            f"first {length} dimensions",
            f"subvector(embedding, 1, {length})::halfvec({length})",
            "halfvec_cosine_ops",
            f"subvector(embedding, 1, {length})::halfvec({length})"
            f" <=> subvector(%(query)s::halfvec({dims}), 1, {length})::halfvec({length})",
        )
        for length in (dims // 2, dims // 3, dims // 4)
    ]
    signs = Way(
        "signs",
        f"binary_quantize(embedding)::bit({dims})",
        "bit_hamming_ops",
        f"binary_quantize(embedding)::bit({dims})"
        f" <~> binary_quantize(%(query)s::halfvec({dims}))::bit({dims})",
    )
    whole = Way("whole vectors", "embedding", "halfvec_cosine_ops", "embedding <=> %(query)s")
    return [whole, *cut, signs]


def spread(real: RealVectors, rows: int) -> tuple[list[bytes], NDArray[np.float32]]:
    """As many rows as asked for: the real ones, and then real ones with noise."""
    have = len(real.hashes)
    if rows <= have:
        return real.hashes[:rows], real.vectors[:rows]
    random = np.random.default_rng(SEED)
    made = np.empty((rows, real.vectors.shape[1]), dtype=np.float32)
    made[:have] = real.vectors
    for start in range(have, rows, 65_536):
        of = np.arange(start, min(rows, start + 65_536)) % have
        noise = random.standard_normal((len(of), made.shape[1]), dtype=np.float32)
        noise *= NOISE / np.linalg.norm(noise, axis=1, keepdims=True)
        near = real.vectors[of] + noise
        made[start : start + len(of)] = near / np.linalg.norm(near, axis=1, keepdims=True)
    return [*real.hashes, *(number.to_bytes(32, "big") for number in range(have, rows))], made


def measured(
    db: Database, settings: Settings, rows: int, queries: NDArray[np.float32], candidates: Sequence[int]
) -> list[Figure]:
    """Every way, one index at a time, so that none helps another."""
    figures: list[Figure] = []
    with db.connect(autocommit=True) as connection:
        truth = [_exact(connection, query) for query in queries]
        for way in ways(queries.shape[1]):
            connection.execute(
                "SELECT set_config('maintenance_work_mem', %s, false),"
                " set_config('max_parallel_maintenance_workers', %s, false)",
                [build_memory(settings), str(build_workers(settings))],
            )
            started = time.perf_counter()
            connection.execute(way.index(settings.hnsw_m, ef_construction(rows, settings)))
            seconds = time.perf_counter() - started
            row = connection.execute("SELECT pg_relation_size('way')").fetchone()
            assert row is not None
            connection.execute("SET enable_seqscan = off")
            for count in candidates:
                recall, times = _searched(connection, way, count, queries, truth)
                p50, p95 = (round(float(np.percentile(times, share)), 2) for share in (50, 95))
                bytes_per_row = round(row[0] / rows, 1)
                figures.append(
                    Figure(way.name, count, round(recall, 4), p50, p95, bytes_per_row, round(seconds, 1))
                )
            connection.execute("RESET enable_seqscan")
            connection.execute("DROP INDEX way")
    return figures


def _searched(
    connection: Connection,
    way: Way,
    candidates: int,
    queries: NDArray[np.float32],
    truth: Sequence[set[bytes]],
) -> tuple[float, list[float]]:
    """recall@10, and the milliseconds of each search."""
    # Each candidate costs, so that the number of them is what ways are compared at.
    connection.execute("SELECT set_config('hnsw.ef_search', %s, false)", [str(max(candidates, K))])
    statement = way.search()
    found: list[float] = []
    times: list[float] = []
    plan = connection.execute(
        sql.SQL("EXPLAIN {}").format(statement), _values(queries[0], candidates), prepare=False
    ).fetchall()
    assert any("Index Scan using way" in line for (line,) in plan), plan
    for again in (False, True):  # the first time fills the cache
        for query, exact in zip(queries, truth, strict=True):
            started = time.perf_counter()
            rows = connection.execute(statement, _values(query, candidates), prepare=False).fetchall()
            if again:
                times.append((time.perf_counter() - started) * 1000)
                found.append(len(exact & {content_hash for (content_hash,) in rows}) / K)
    return float(np.mean(found)), times


def _exact(connection: Connection, query: NDArray[np.float32]) -> set[bytes]:
    rows = connection.execute(
        "SELECT content_hash FROM bench ORDER BY (embedding <=> %s) + 0, content_hash LIMIT %s",
        [HalfVector(query), K],
    ).fetchall()
    return {content_hash for (content_hash,) in rows}


def _values(query: NDArray[np.float32], candidates: int) -> dict[str, object]:
    return {"query": HalfVector(query), "candidates": candidates}


def load(db: Database, own: VectorTable, hashes: list[bytes], vectors: NDArray[np.float32]) -> None:
    """The rows into the table that is searched."""
    table = VectorTable("bench", own.model_version, own.dims)
    with db.connect(autocommit=True) as connection:
        create_table(connection, table)
        add_key(connection, table)
        for start in range(0, len(hashes), 8192):
            part = slice(start, start + 8192)
            copy_vectors(connection, table, table.model_version, hashes[part], vectors[part])
        connection.execute("VACUUM (ANALYZE) bench")


def main() -> None:
    """Measures, prints a table, and writes the figures."""
    parser = argparse.ArgumentParser(description="Signs and cut vectors with exact re-ranking.")
    parser.add_argument("--rows", type=int, default=50_000, help="Rows that are searched.")
    parser.add_argument("--embedded", type=int, help="So many of them really embedded; by default all.")
    parser.add_argument("--candidates", type=int, nargs="+", default=[50, 100, 200, 400])
    parser.add_argument("--cache", type=Path, help="A .npz file to keep the vectors in between runs.")
    parser.add_argument("--json", type=Path, help="Where the figures go, too.")
    asked = parser.parse_args()
    real = real_vectors(asked.embedded or asked.rows, asked.cache)
    hashes, vectors = spread(real, asked.rows)
    with fresh_database() as (db, settings, own):
        load(db, own, hashes, vectors)
        figures = measured(db, settings, len(hashes), real.queries, asked.candidates)
    table = Table(
        "candidates by", "how many", "recall@10", "p50 ms", "p95 ms", "index, bytes a row", "build s"
    )
    for each in figures:
        table.add_row(*(str(value) for value in asdict(each).values()))
    show(table)
    said = provenance(
        [SEED], rows=len(hashes), embedded=len(real.hashes), queries=len(real.queries), noise=NOISE
    )
    write_figures(asked.json, {**said, "figures": [asdict(each) for each in figures]})


if __name__ == "__main__":
    main()
