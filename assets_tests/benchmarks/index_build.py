"""How vectors best get into Postgres: binary COPY against text, HNSW after the load against before.

Run: `python -m assets_tests.benchmarks.index_build --functions 3000`.
Measured (16,000 functions, 384 dimensions, on 2 cores that eight other processes used too: ratios matter):

    binary COPY, then HNSW          0.25 s (63,300 rows/s)   3.2 s   recall@10 0.989
    text COPY, then HNSW            3.63 s ( 4,400 rows/s)   3.9 s   recall@10 0.991
    HNSW first, then binary COPY   20.5 s together                   recall@10 0.988
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from psycopg import sql

from assets_tests.benchmarks.real_vectors import RealVectors, arguments, fresh_database, real_vectors
from pipeline.config import Settings
from pipeline.index.hnsw import build_hnsw
from pipeline.index.tables import VectorTable, add_key, copy_vectors, create_table, drop_table, state_model
from pipeline.index.verifying import measure_recall
from pipeline.progress import Silent
from pipeline.store.connections import Database

CHUNK = 2048


def load_binary(db: Database, table: VectorTable, real: RealVectors) -> None:
    with db.connect(autocommit=True) as connection:
        for start in range(0, len(real.hashes), CHUNK):
            chunk = slice(start, start + CHUNK)
            copy_vectors(connection, table, table.model_version, real.hashes[chunk], real.vectors[chunk])


def load_text(db: Database, table: VectorTable, real: RealVectors) -> None:
    statement = sql.SQL("COPY {} (content_hash, embedding) FROM STDIN").format(table.identifier)
    with db.connect() as connection:
        state_model(connection, table.model_version)
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for content_hash, vector in zip(real.hashes, real.vectors, strict=True):
                copy.write_row((content_hash, str(vector.tolist())))


def recall(db: Database, settings: Settings, table: VectorTable, real: RealVectors) -> float:
    with db.connect() as connection:
        return measure_recall(
            connection, table, ef_search=settings.hnsw_ef_search, sample=200, query_vectors=real.queries
        ).recall_at_10


def main(given: Sequence[str] | None = None) -> None:
    asked = arguments("COPY binary against text; HNSW after the load against before.", given)
    real = real_vectors(asked.functions, asked.cache)
    rows = len(real.hashes)
    with fresh_database() as (db, settings, own):
        loads = {"binary COPY, then HNSW": load_binary, "text COPY, then HNSW": load_text}
        for name, load in loads.items():
            table = VectorTable("bench", own.model_version, own.dims)
            with db.connect() as connection:
                create_table(connection, table)
                add_key(connection, table)
            started = time.perf_counter()
            load(db, table, real)
            loaded = time.perf_counter()
            build_hnsw(db, table, rows, settings, Silent())
            built = time.perf_counter()
            found = recall(db, settings, table, real)
            print(
                f"{name}: load {loaded - started:.2f} s ({rows / (loaded - started):,.0f} rows/s),"
                f" HNSW {built - loaded:.2f} s, recall@10 {found:.4f}"
            )
            with db.connect() as connection:
                drop_table(connection, table.name)
        with db.connect() as connection:
            table = VectorTable("bench", own.model_version, own.dims)
            create_table(connection, table)
            add_key(connection, table)
        build_hnsw(db, table, rows, settings, Silent())
        started = time.perf_counter()
        load_binary(db, table, real)
        seconds = time.perf_counter() - started
        found = recall(db, settings, table, real)
        print(f"HNSW first, then binary COPY: {seconds:.2f} s, recall@10 {found:.4f}")


if __name__ == "__main__":
    main()
