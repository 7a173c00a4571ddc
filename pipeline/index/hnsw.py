"""The HNSW build itself: with the memory it needs, on several workers, saying how far it is."""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor, wait

import psycopg
from psycopg import sql

from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.index.tables import VectorTable, use_tablespace
from pipeline.index.verifying import hnsw_name
from pipeline.processors import usable_processors
from pipeline.progress import Advance, Progress
from pipeline.store.connections import Connection, Database
from pipeline.store.memory import MEGABYTE, machine_memory
from pipeline.store.server import runs_here

# So many rows are linked well enough by a list of candidates of the length that is set.
ROWS_AT_THE_LEAST = 100_000
MOST_WORKERS = 2
LONGEST_LIST = 1000  # pgvector's limit of ef_construction


def ef_construction(rows: int, settings: Settings) -> int:
    """How many candidates a row's neighbours are chosen from: what is set, and once more per tenfold of rows.

    A list that a row's near-duplicates fill leaves no link to anything else, so that a search that arrives
    among others never gets there. Measured (100,000 rows, each vector with 79 twins): lists of 100 find 0.88
    of the nearest 10 at a breadth of 400, lists of 200 find 0.98, at the same size and twice the build time;
    more links (m) instead find 0.92.

    Args:
        rows: To be indexed.
        settings: `hnsw_ef_construction`, the length up to 100,000 rows, and `hnsw_m`.
    """
    tenfolds = max(0, math.ceil(math.log10(max(rows, 1) / ROWS_AT_THE_LEAST)))
    # pgvector wants at least 2 * m.
    return min(max(settings.hnsw_ef_construction * (1 + tenfolds), 2 * settings.hnsw_m), LONGEST_LIST)


def build_memory(settings: Settings, url: str) -> str:
    """What `maintenance_work_mem` a build may use: what is set, else a share of this machine's memory.

    A graph that does not fit is finished on disk, which takes many times as long; one of a million rows of
    384 dimensions takes 1.3 GB.

    Args:
        settings: `maintenance_work_mem`.
        url: Of the database that builds. What a server elsewhere has is not known here.
    """
    if settings.maintenance_work_mem is not None:
        return settings.maintenance_work_mem
    share = machine_memory() // 4 // MEGABYTE if runs_here(url) else 0
    return f"{max(share, 1024)}MB"


def build_workers(settings: Settings) -> int:
    """How many parallel workers build beside the one that leads: what is set, else two at the most.

    One processor is left to searches. Measured (100,000 rows, 2 processors): while both build, the 95th
    percentile of a search is 2.3 to 2.8 times the quiet one, and niceness changes nothing; while one builds
    it is as ever, and the build takes 1.7 times as long.
    """
    if settings.index_build_workers is not None:
        return settings.index_build_workers
    return max(0, min(MOST_WORKERS, usable_processors() - 2))


def build_hnsw(db: Database, table: VectorTable, rows: int, settings: Settings, progress: Progress) -> None:
    """Creates the HNSW index (cosine) of a loaded table.

    Raises:
        HoneloopError: a setting is not one that Postgres takes.
        psycopg.Error: Postgres could not build it.
    """
    statement = sql.SQL(
        "CREATE INDEX {} ON {} USING hnsw (embedding halfvec_cosine_ops) WITH (m = {}, ef_construction = {})"
    ).format(
        sql.Identifier(hnsw_name(table)),
        table.identifier,
        sql.Literal(settings.hnsw_m),
        sql.Literal(ef_construction(rows, settings)),
    )
    memory, needed = build_memory(settings, db.url), _kilobytes_needed(table, rows, settings)
    with (
        db.connect(autocommit=True) as connection,
        progress.stage(f"Building HNSW of {table.name}", rows) as advance,
    ):
        connection.add_notice_handler(lambda diagnostic: _note(progress, diagnostic))
        for workers in (build_workers(settings), 0):
            with ThreadPoolExecutor(max_workers=1) as executor:
                building = executor.submit(
                    _create, connection, statement, settings, memory=memory, kilobytes=needed, workers=workers
                )
                try:
                    _follow(db, connection.info.backend_pid, building, advance)
                except BaseException:
                    connection.cancel_safe()
                    raise
            try:
                building.result()
                return
            except (psycopg.errors.DiskFull, psycopg.errors.OutOfMemory) as error:
                # Workers share the graph in /dev/shm, which a container may limit to 64 MB.
                if not workers or "shared memory" not in str(error):
                    raise
                progress.note(f"Building without parallel workers, since {str(error).strip()}.")


def _note(progress: Progress, diagnostic: psycopg.errors.Diagnostic) -> None:
    """Passes on what Postgres finds worth saying, such as a graph that outgrew the memory it may use."""
    said = " ".join(part for part in (diagnostic.message_primary, diagnostic.message_hint) if part)
    progress.note(f"Postgres: {said}")


def _create(
    connection: Connection,
    statement: sql.Composed,
    settings: Settings,
    *,
    memory: str,
    kilobytes: int,
    workers: int,
) -> None:
    with connection.transaction():
        try:
            connection.execute(
                "SELECT set_config('maintenance_work_mem', %s, true),"
                " set_config('max_parallel_maintenance_workers', %s, true)",
                [memory, str(workers)],
            )
        except psycopg.errors.InvalidParameterValue as error:
            raise HoneloopError(
                f"Postgres does not take a setting: {error.diag.message_primary}.",
                hint="Set HONELOOP_MAINTENANCE_WORK_MEM to a size such as 512MB or 2GB.",
            ) from error
        # A parallel build takes all of its memory at once, however small the table: no more than it needs.
        connection.execute(
            "SELECT set_config('maintenance_work_mem', least(setting::bigint, %s)::text, true)"
            " FROM pg_settings WHERE name = 'maintenance_work_mem'",
            [kilobytes],
        )
        use_tablespace(connection, settings.index_tablespace)
        connection.execute(statement)


def _kilobytes_needed(table: VectorTable, rows: int, settings: Settings) -> int:
    """Memory for the graph, generously: per row its vector, its element and its neighbour lists.

    A row has 2m neighbours on the lowest layer and m on each above, to which one row in m rises. Measured
    (384 dimensions, m = 16): 1.34 kB per row, where this gives 2.2. Postgres starts a parallel worker for
    each 32 MB beyond the first.
    """
    per_row = 2 * table.dims + 8 + 256 + 3 * settings.hnsw_m * 24
    return (32 * MEGABYTE * (build_workers(settings) + 1) + rows * per_row) // 1024


def _follow(db: Database, backend: int, building: Future[None], advance: Advance) -> None:
    """Says once a second how many more rows are in the graph, until the build ends."""
    done = 0
    with db.connect(autocommit=True) as connection:
        while not wait([building], timeout=1).done:
            row = connection.execute(
                "SELECT tuples_done FROM pg_stat_progress_create_index WHERE pid = %s", [backend]
            ).fetchone()
            if row is not None and row[0] > done:
                advance(row[0] - done)
                done = row[0]
