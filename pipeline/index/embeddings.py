"""The vectors of every live text: made once for each model version, stored by content hash."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from psycopg import IsolationLevel, sql

from pipeline.config import Settings
from pipeline.engines.engine import Chunk, engine_for
from pipeline.errors import HoneloopError
from pipeline.index.in_use import vectors_in_use
from pipeline.index.tables import (
    LIVE_CONTENTS,
    VectorTable,
    add_key,
    copy_vectors,
    create_table,
    to_unit_length,
    use_tablespace,
    vectors_name,
)
from pipeline.progress import Progress
from pipeline.store.connections import Connection, Database

if TYPE_CHECKING:
    from pipeline.corpus.repositories import Repository
    from pipeline.encoders.encoder import Encoder

# Of half floats; a row of the table then still fits into a page of Postgres.
MAX_DIMS = 4000


@dataclass(frozen=True)
class EmbeddingReport:
    """What `embed_missing` did.

    Args:
        model_version: Whose vectors.
        embedded: Texts embedded and stored now.
        reused: Texts that had their vector already.
        seconds: Wall time.
        backends: What computed each member of the encoder: `torch` or `onnx`; none if nothing was embedded.
    """

    model_version: str
    embedded: int
    reused: int
    seconds: float
    backends: tuple[str, ...] = ()

    @property
    def snippets_per_second(self) -> float:
        """Texts embedded per second of wall time; 0 when there was nothing to embed."""
        return self.embedded / self.seconds if self.embedded and self.seconds else 0.0


def embed_missing(
    db: Database,
    encoder: Encoder,
    settings: Settings,
    progress: Progress,
    repository: Repository | None = None,
    *,
    hashes: Sequence[bytes] | None = None,
) -> EmbeddingReport:
    """Embeds the live texts that have no vector of `encoder` yet, and stores them.

    Texts are read, embedded and stored `settings.embed_chunk_size` at a time at the most, each chunk in a
    transaction of its own: memory does not grow with the corpus, a killed run goes on where it was, and runs
    side by side do each other no harm. Where they are embedded is the engine's affair. No index build cleans
    the vectors away meanwhile; whoever needs them afterwards is in `vectors_in_use` itself.

    Args:
        db: The database.
        encoder: Its version must be registered (`promotion.registry.ensure_registered`).
        settings: Give the engine and the chunk size.
        progress: Told of each text.
        repository: Only this one's live snippets; None: all.
        hashes: These contents instead, live or not.

    Raises:
        HoneloopError: the encoder is not registered or not what is registered under its version; it made
            vectors that are no unit vectors; `hashes` has unknown contents.
        OvertakenError: the vectors were cleaned away all the same, as the server had forgotten their lock.
    """
    started = time.perf_counter()
    # Before its table is looked for, or that could be dropped between being found and being written to.
    with vectors_in_use(db, encoder.version), db.connect(autocommit=True) as connection:
        table = ensure_embedding_table(connection, encoder, settings.index_tablespace)
        wanted = _set_aside_missing(connection, table, repository, hashes)
        todo = _count(connection, sql.SQL("SELECT count(*) FROM to_embed"))
        embedded, backends = 0, ()
        if todo:
            with progress.stage(f"Embedding with {encoder.spec.name}", todo) as advance:
                engine = engine_for(settings, progress.note)
                chunks = _chunks(connection, table, engine.chunk_size(todo))
                with closing(engine.embed(encoder, chunks, advance)) as results:
                    for chunk, vectors in results:
                        embedded += copy_vectors(connection, table, encoder.version, chunk.hashes, vectors)
                backends = engine.backends(encoder)
            _require_nothing_left(connection, table)
            connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(table.identifier))
    seconds = time.perf_counter() - started
    progress.note(f"{embedded} texts embedded, {wanted - embedded} had their vector already.")
    return EmbeddingReport(encoder.version, embedded, wanted - embedded, seconds, backends)


def count_missing(db: Database, model_version: str, repository: Repository | None = None) -> int:
    """How many live texts (of one repository, or all) have no vector of `model_version` yet.

    Zero means that `embed_missing` has nothing to do, so that the encoder need not even be loaded.
    """
    with db.connect() as connection:
        table = embedding_table(connection, model_version)
        live = _scope(repository)
        if table is None:
            return _count(connection, sql.SQL("SELECT count(*) FROM ({}) AS live").format(live))
        return _count(
            connection,
            sql.SQL(
                "SELECT count(*) FROM ({}) AS live WHERE NOT EXISTS"
                " (SELECT FROM {} v WHERE v.content_hash = live.content_hash)"
            ).format(live, table.identifier),
        )


def load_vectors(
    db: Database, model_version: str, hashes: Sequence[bytes] | None = None
) -> tuple[list[bytes], NDArray[np.float32]]:
    """The stored vectors of a model version, as one array: for exact ranking and mining.

    Args:
        db: The database.
        model_version: Whose vectors.
        hashes: Of these contents, in this order; None: of all live contents, in the order of their hash.

    Returns:
        The content hashes and their unit vectors, shape (n, dims). Stored as half floats, they are scaled
        back to unit length, so that a dot product is the cosine that the index computes.

    Raises:
        HoneloopError: some of the contents have no vector of this model version; says how many.
        OvertakenError: as `embed_missing`.
    """
    with vectors_in_use(db, model_version), db.connect(autocommit=True) as connection:
        # One view of the data for the count and the rows.
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        with connection.transaction():
            table = embedding_table(connection, model_version)
            if hashes is None:
                scope = LIVE_CONTENTS
            else:
                _copy_hashes(connection, "asked_for", set(hashes))
                scope = sql.SQL("SELECT content_hash FROM asked_for")
            count = _count(connection, sql.SQL("SELECT count(*) FROM ({}) AS scope").format(scope))
            if table is None:
                if count:
                    raise _missing(count, count, model_version)
                return [], np.empty((0, _dims(connection, model_version)), dtype=np.float32)
            found, vectors = _read(connection, table, scope, count)
    if len(found) < count:
        raise _missing(count - len(found), count, model_version)
    to_unit_length(vectors)
    if hashes is None:
        return found, vectors
    row = {content_hash: number for number, content_hash in enumerate(found)}
    return list(hashes), vectors[[row[content_hash] for content_hash in hashes]]


def embedding_table(connection: Connection, model_version: str) -> VectorTable | None:
    """The table of all vectors that `model_version` made; None before its first."""
    row = connection.execute(
        "SELECT table_name, model_version, dims FROM embedding_tables WHERE model_version = %s",
        [model_version],
    ).fetchone()
    return None if row is None else VectorTable(*row)


def ensure_embedding_table(
    connection: Connection, encoder: Encoder, tablespace: str | None = None
) -> VectorTable:
    """The table for the vectors of `encoder`, created if need be, and then in `tablespace`.

    Raises:
        HoneloopError: the encoder's version is not registered, or with other dimensions, or with too
            many.
    """
    with connection.transaction():
        # Two runs that both begin with a new model: the second waits, then finds the table.
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('honeloop.embedding_tables', 0))")
        dims = _dims(connection, encoder.version)
        if dims != encoder.dims:
            raise HoneloopError(
                f"The encoder makes {encoder.dims} dimensions, but its version {encoder.version[:12]} is"
                f" registered with {dims}.",
                hint="Vectors of different models are never mixed: load it from where it is registered.",
            )
        if dims > MAX_DIMS:
            raise HoneloopError(
                f"The encoder makes {dims} dimensions; pgvector's HNSW takes at most {MAX_DIMS}.",
                hint="Use an encoder with fewer, or one that was trained to be truncated.",
            )
        table = embedding_table(connection, encoder.version)
        if table is None:
            table = VectorTable(vectors_name(encoder.version), encoder.version, encoder.dims)
            use_tablespace(connection, tablespace)
            create_table(connection, table)
            add_key(connection, table)
            connection.execute(
                "INSERT INTO embedding_tables (model_version, table_name, dims) VALUES (%s, %s, %s)",
                [table.model_version, table.name, table.dims],
            )
        return table


def _dims(connection: Connection, model_version: str) -> int:
    row = connection.execute("SELECT dims FROM model_versions WHERE version = %s", [model_version]).fetchone()
    if row is None:
        raise HoneloopError(
            f"The model version {model_version[:12]} is not registered.",
            hint="`honeloop models` lists the known ones; a run registers the encoder it uses.",
        )
    return row[0]


def _scope(repository: Repository | None) -> sql.Composable:
    if repository is None:
        return LIVE_CONTENTS
    return sql.SQL("{} AND repository_id = {}").format(LIVE_CONTENTS, sql.Literal(repository.id))


def _set_aside_missing(
    connection: Connection,
    table: VectorTable,
    repository: Repository | None,
    hashes: Sequence[bytes] | None,
) -> int:
    """Fills the session's table `to_embed` with what has no vector, and returns how many were looked at.

    On the server, where it costs this process nothing however large the corpus is.
    """
    if hashes is None:
        scope = _scope(repository)
    else:
        _copy_hashes(connection, "asked_for", set(hashes))
        scope = sql.SQL("SELECT content_hash FROM asked_for")
        unknown = _count(
            connection,
            sql.SQL(
                "SELECT count(*) FROM asked_for WHERE content_hash NOT IN (SELECT content_hash FROM contents)"
            ),
        )
        if unknown:
            raise HoneloopError(
                f"{unknown} of {len(set(hashes))} contents to embed are not stored.",
                hint="They were removed with their repository meanwhile; run again.",
            )
    connection.execute("CREATE TEMP TABLE to_embed (content_hash bytea PRIMARY KEY)")
    connection.execute(
        sql.SQL(
            "INSERT INTO to_embed SELECT content_hash FROM ({}) AS scope WHERE NOT EXISTS"
            " (SELECT FROM {} v WHERE v.content_hash = scope.content_hash)"
        ).format(scope, table.identifier)
    )
    connection.execute("ANALYZE to_embed")
    return _count(connection, sql.SQL("SELECT count(*) FROM ({}) AS scope").format(scope))


def _copy_hashes(connection: Connection, name: str, hashes: set[bytes]) -> None:
    table = sql.Identifier(name)
    connection.execute(sql.SQL("CREATE TEMP TABLE {} (content_hash bytea PRIMARY KEY)").format(table))
    with (
        connection.cursor() as cursor,
        cursor.copy(sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(table)) as copy,
    ):
        copy.set_types(["bytea"])
        for content_hash in hashes:
            copy.write_row((content_hash,))
    connection.execute(sql.SQL("ANALYZE {}").format(table))


def _chunks(connection: Connection, table: VectorTable, size: int) -> Iterator[Chunk]:
    """The texts in the order of their hash, without those another run has embedded meanwhile."""
    after = b""
    while rows := connection.execute(
        sql.SQL(
            "SELECT content_hash, c.text FROM to_embed t JOIN contents c USING (content_hash)"
            " WHERE content_hash > %s"
            " AND NOT EXISTS (SELECT FROM {} v WHERE v.content_hash = t.content_hash)"
            " ORDER BY content_hash LIMIT %s"
        ).format(table.identifier),
        [after, size],
    ).fetchall():
        after = rows[-1][0]
        yield Chunk([content_hash for content_hash, _ in rows], [text for _, text in rows])


def _require_nothing_left(connection: Connection, table: VectorTable) -> None:
    left = _count(
        connection,
        sql.SQL(
            "SELECT count(*) FROM to_embed t JOIN contents USING (content_hash)"
            " WHERE NOT EXISTS (SELECT FROM {} v WHERE v.content_hash = t.content_hash)"
        ).format(table.identifier),
    )
    if left:
        raise HoneloopError(f"{left} texts were left without a vector.", hint="Run again; it goes on there.")


def _read(
    connection: Connection, table: VectorTable, scope: sql.Composable, count: int
) -> tuple[list[bytes], NDArray[np.float32]]:
    found: list[bytes] = []
    vectors = np.empty((count, table.dims), dtype=np.float32)
    statement = sql.SQL(
        "COPY (SELECT v.content_hash, v.embedding FROM ({}) AS scope JOIN {} v USING (content_hash)"
        " ORDER BY v.content_hash) TO STDOUT (FORMAT BINARY)"
    ).format(scope, table.identifier)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(["bytea", "halfvec"])
        for content_hash, vector in copy.rows():
            vectors[len(found)] = vector.to_numpy()
            found.append(content_hash)
    return found, vectors[: len(found)]


def _count(connection: Connection, statement: sql.SQL | sql.Composed) -> int:
    row = connection.execute(statement).fetchone()
    return row[0] if row else 0


def _missing(missing: int, count: int, model_version: str) -> HoneloopError:
    return HoneloopError(
        f"{missing} of {count} texts have no vector of model version {model_version[:12]} yet.",
        hint="Embed them first: `honeloop index` does for the model that serves.",
    )
