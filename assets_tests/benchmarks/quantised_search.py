"""Smaller graphs with exact re-ranking: signs (a bit for each dimension) and cut vectors; recall and memory.

The nearest some hundred are found by HNSW over the signs, or the first dimensions, of each vector, and put in
order by the cosine of the whole vectors, which stay in the table. Truth is the exact scan. All indexes stand
side by side, none can serve another's searches, and each query is asked of all in turn: enough memory for all
of them at once is needed, and swapped they say nothing.

Run: `python -m assets_tests.benchmarks.quantised_search --rows 50000 --cache V.npz --json F.json`; a million
takes `--rows 1000000 --embedded 100000`: the other rows are then copies of the embedded ones that differ from
them as real near-duplicates differ (`big_corpus`). `HONELOOP_INDEX_BUILD_WORKERS` builds with more processes.
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

from assets_tests.benchmarks.big_corpus import near_duplicate_noise, repeated
from assets_tests.benchmarks.provenance import provenance, show, write_figures
from assets_tests.benchmarks.real_vectors import RealVectors, fresh_database, real_vectors
from pipeline.config import Settings
from pipeline.index.hnsw import _kilobytes_needed, build_memory, build_workers, ef_construction
from pipeline.index.tables import VectorTable, add_key, copy_vectors, create_table
from pipeline.store.connections import Connection, Database

SEED = 17
K = 10
CHUNK = 65_536
COLUMNS = (
    "candidates by",
    "how many",
    "recall@10",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "times whole",
    "index, bytes a row",
    "of whole's",
    "table, bytes a row",
    "both, MB",
    "built in s",
)


@dataclass(frozen=True)
class Way:
    """How candidates are found: an indexed expression of the vector of `dims`, and the order of a search."""

    name: str
    dims: int
    expression: str
    operators: str
    order: str

    @property
    def index_name(self) -> str:
        return f"by {self.name}"

    def index(self, m: int, candidates: int) -> sql.Composed:
        return sql.SQL(
            "CREATE INDEX {} ON bench USING hnsw (({}) {}) WITH (m = {}, ef_construction = {})"
        ).format(
            sql.Identifier(self.index_name),
            _trusted(self.expression),
            _trusted(self.operators),
            sql.Literal(m),
            sql.Literal(candidates),
        )

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
    """One way with one number of candidates.

    Args:
        way: Its name.
        candidates: That are re-ranked.
        recall_at_10: Against the exact scan.
        p50_ms: Of a search, with its re-ranking; likewise the other percentiles.
        p95_ms: See there.
        p99_ms: See there.
        times_whole: A search's time in times of that by whole vectors: the median over the queries.
        index_bytes_per_row: On disk. It is what has to be in memory, for a search to be quick.
        index_share: Of the index of whole vectors.
        table_bytes_per_row: On disk, with its key; the same for all ways, and read for candidates alone.
        megabytes: Index and table together.
        build_seconds: Of the index.
    """

    way: str
    candidates: int
    recall_at_10: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    times_whole: float
    index_bytes_per_row: float
    index_share: float
    table_bytes_per_row: float
    megabytes: float
    build_seconds: float


def ways(dims: int, cuts: Sequence[int] = (2, 3, 4)) -> list[Way]:
    """Whole vectors, which the others are compared with; their first half, third and so on; their signs."""
    cut = [
        Way(
            f"first {length} dimensions",
            dims,
            f"subvector(embedding, 1, {length})::halfvec({length})",
            "halfvec_cosine_ops",
            f"subvector(embedding, 1, {length})::halfvec({length})"
            f" <=> subvector(%(query)s::halfvec({dims}), 1, {length})::halfvec({length})",
        )
        for length in (dims // part for part in cuts)
    ]
    signs = Way(
        "signs",
        dims,
        f"binary_quantize(embedding)::bit({dims})",
        "bit_hamming_ops",
        f"binary_quantize(embedding)::bit({dims})"
        f" <~> binary_quantize(%(query)s::halfvec({dims}))::bit({dims})",
    )
    whole = Way("whole vectors", dims, "embedding", "halfvec_cosine_ops", "embedding <=> %(query)s")
    return [whole, *cut, signs]


def spread(real: RealVectors, rows: int) -> tuple[list[bytes], NDArray[np.float32]]:
    """As many rows as asked for: the real ones, and then real ones as their near-duplicates would be."""
    have = len(real.hashes)
    if rows <= have:
        return real.hashes[:rows], real.vectors[:rows]
    rng = np.random.default_rng(SEED)
    differences = near_duplicate_noise(real.vectors)
    made = np.empty((rows, real.vectors.shape[1]), dtype=np.float32)
    for start in range(0, rows, CHUNK):
        numbers = range(start, min(rows, start + CHUNK))
        made[start : numbers.stop] = repeated(real.vectors, differences, numbers, rng)
    return [*real.hashes, *(number.to_bytes(32, "big") for number in range(have, rows))], made


@dataclass(frozen=True)
class _Built:
    """An index: what it takes."""

    seconds: float
    bytes: int


def measured(
    db: Database,
    settings: Settings,
    rows: int,
    queries: NDArray[np.float32],
    *,
    candidates: Sequence[int],
    chosen: Sequence[Way],
) -> list[Figure]:
    """Every way, with every number of candidates; the ways take turns, query by query."""
    with db.connect(autocommit=True) as connection:
        truth = [_exact(connection, query) for query in queries]
        table_bytes = _bytes(connection, "pg_table_size('bench') + pg_relation_size('bench_pkey')")
        memory = build_memory(settings, db.url)
        built = {way.name: _build(connection, way, settings, rows, memory) for way in chosen}
        connection.execute("SET enable_seqscan = off")
        connection.execute("SET jit = off")
        figures: list[Figure] = []
        for count in candidates:
            recall, seconds = _searched(connection, chosen, count, queries, truth)
            for way in chosen:
                milliseconds = 1000 * seconds[way.name]
                p50, p95, p99 = (
                    round(float(np.percentile(milliseconds, share)), 2) for share in (50, 95, 99)
                )
                index = built[way.name]
                figures.append(
                    Figure(
                        way.name,
                        count,
                        round(recall[way.name], 4),
                        p50,
                        p95,
                        p99,
                        round(float(np.median(seconds[way.name] / seconds[chosen[0].name])), 2),
                        round(index.bytes / rows, 1),
                        round(index.bytes / built[chosen[0].name].bytes, 3),
                        round(table_bytes / rows, 1),
                        round((index.bytes + table_bytes) / 1e6, 1),
                        round(index.seconds, 1),
                    )
                )
    return sorted(figures, key=lambda each: [way.name for way in chosen].index(each.way))


def _build(connection: Connection, way: Way, settings: Settings, rows: int, memory: str) -> _Built:
    """With the memory and the parallel workers of the settings."""
    connection.execute(
        "SELECT set_config('maintenance_work_mem', %s, false),"
        " set_config('max_parallel_maintenance_workers', %s, false)",
        [memory, str(build_workers(settings))],
    )
    # A parallel build takes all of it at once: no more than whole vectors need, as Honeloop's own does.
    table = VectorTable("bench", "", way.dims)
    connection.execute(
        "SELECT set_config('maintenance_work_mem', least(setting::bigint, %s)::text, false)"
        " FROM pg_settings WHERE name = 'maintenance_work_mem'",
        [_kilobytes_needed(table, rows, settings)],
    )
    started = time.perf_counter()
    connection.execute(way.index(settings.hnsw_m, ef_construction(rows, settings)))
    seconds = time.perf_counter() - started
    print(f"{way.name}: index built in {seconds:.0f} s", flush=True)
    return _Built(seconds, _bytes(connection, f"pg_relation_size('\"{way.index_name}\"')"))


def _bytes(connection: Connection, expression: str) -> int:
    row = connection.execute(sql.SQL("SELECT {}").format(_trusted(expression))).fetchone()
    assert row is not None
    return row[0]


def _searched(
    connection: Connection,
    chosen: Sequence[Way],
    candidates: int,
    queries: NDArray[np.float32],
    truth: Sequence[set[bytes]],
) -> tuple[dict[str, float], dict[str, NDArray[np.float64]]]:
    """recall@10, and the seconds of each search, by the name of the way."""
    # Each candidate costs, so that the number of them is what ways are compared at.
    connection.execute("SELECT set_config('hnsw.ef_search', %s, false)", [str(max(candidates, K))])
    found: dict[str, list[float]] = {way.name: [] for way in chosen}
    times: dict[str, list[float]] = {way.name: [] for way in chosen}
    for way in chosen:
        plan = connection.execute(
            sql.SQL("EXPLAIN {}").format(way.search()), _values(queries[0], candidates), prepare=False
        ).fetchall()
        assert any(f'Index Scan using "{way.index_name}"' in line for (line,) in plan), plan
    for again in (False, True):  # the first time fills the cache
        for number, (query, exact) in enumerate(zip(queries, truth, strict=True)):
            for way in chosen if number % 2 == 0 else reversed(chosen):
                started = time.perf_counter()
                rows = connection.execute(way.search(), _values(query, candidates), prepare=False).fetchall()
                if again:
                    times[way.name].append(time.perf_counter() - started)
                    found[way.name].append(len(exact & {content_hash for (content_hash,) in rows}) / K)
    return (
        {name: float(np.mean(each)) for name, each in found.items()},
        {name: np.array(each) for name, each in times.items()},
    )


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table, and writes the figures."""
    parser = argparse.ArgumentParser(description="Signs and cut vectors with exact re-ranking.")
    parser.add_argument("--rows", type=int, default=50_000, help="Rows that are searched.")
    parser.add_argument("--embedded", type=int, help="So many of them really embedded; by default all.")
    parser.add_argument("--candidates", type=int, nargs="+", default=[50, 100, 200, 400])
    parser.add_argument(
        "--cuts", type=int, nargs="*", default=[2, 3, 4], help="Parts of the dimensions kept."
    )
    parser.add_argument("--cache", type=Path, help="A .npz file to keep the vectors in between runs.")
    parser.add_argument("--json", type=Path, help="Where the figures go, too.")
    asked = parser.parse_args(arguments)
    real = real_vectors(asked.embedded or asked.rows, asked.cache)
    hashes, vectors = spread(real, asked.rows)
    with fresh_database() as (db, settings, own):
        load(db, own, hashes, vectors)
        chosen, memory = ways(own.dims, asked.cuts), build_memory(settings, db.url)
        figures = measured(
            db, settings, len(hashes), real.queries, candidates=asked.candidates, chosen=chosen
        )
    table = Table(
        title=f"{len(hashes):,} rows, {min(len(real.hashes), len(hashes)):,} of them really embedded"
    )
    for title in COLUMNS:
        table.add_column(title, justify="left" if title == COLUMNS[0] else "right")
    for each in figures:
        table.add_row(*(str(value) for value in asdict(each).values()))
    show(table)
    said = provenance(
        [SEED],
        rows=len(hashes),
        embedded=min(len(real.hashes), len(hashes)),
        queries=len(real.queries),
        noise="as real near-duplicates differ",
        workers=build_workers(settings),
        maintenance_work_mem=memory,
    )
    write_figures(asked.json, {**said, "figures": [asdict(each) for each in figures]})


if __name__ == "__main__":
    main()
