"""Tables of vectors: each holds one model version's and no other's, which the database itself enforces.

The column's type carries the model's dimensions, and a trigger compares the model version that a load states
with the one the table was made for. Two encoders with equal dimensions are therefore kept apart as well.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import sql

from pipeline.errors import HoneloopError
from pipeline.store.connections import Connection

# What the functions of sql/0002 raise when vectors and table are not of the same model version.
WRONG_MODEL = "HL001"
# Every live text once, however many snippets share it.
LIVE_CONTENTS = sql.SQL("SELECT DISTINCT content_hash FROM snippets WHERE vanished_at IS NULL")


@dataclass(frozen=True)
class VectorTable:
    """A table (content_hash, embedding halfvec(dims)) of vectors that `model_version` made."""

    name: str
    model_version: str
    dims: int

    @property
    def identifier(self) -> sql.Identifier:
        """The name, quoted for use in a statement."""
        return sql.Identifier(self.name)


def vectors_name(model_version: str) -> str:
    """What the table of all vectors of a model version is called."""
    return f"vectors_{model_version[:16]}"


def create_table(connection: Connection, table: VectorTable) -> None:
    """Creates an empty table that accepts vectors of `table.model_version` only.

    It has no key yet: one is added by `add_key`, after a bulk load if there is one.
    """
    connection.execute(
        # In the row itself instead of beside it: an exact scan then reads one page, not one and a detour.
        sql.SQL(
            "CREATE TABLE {} (content_hash bytea NOT NULL, embedding halfvec({}) STORAGE PLAIN NOT NULL)"
        ).format(table.identifier, sql.Literal(table.dims))
    )
    connection.execute(
        sql.SQL(
            "CREATE TRIGGER only_its_model BEFORE INSERT OR UPDATE ON {}"
            " FOR EACH STATEMENT EXECUTE FUNCTION only_vectors_of({})"
        ).format(table.identifier, sql.Literal(table.model_version))
    )


def add_key(connection: Connection, table: VectorTable) -> None:
    """Makes the content hash the key: each text has one vector of a model version."""
    connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (content_hash)").format(table.identifier))


def use_tablespace(connection: Connection, name: str | None) -> None:
    """Has the rest of this transaction create its tables and indexes in a tablespace; None: as always.

    Raises:
        HoneloopError: there is none of that name, or this user may create nothing in it.
    """
    if name is None:
        return
    try:
        with connection.transaction():
            row = connection.execute("SELECT has_tablespace_privilege(%s, 'CREATE')", [name]).fetchone()
    except psycopg.errors.UndefinedObject as error:
        raise HoneloopError(
            f"Postgres has no tablespace {name!r}, which HONELOOP_INDEX_TABLESPACE names.",
            hint=f"Create it as a superuser: CREATE TABLESPACE {name} LOCATION '/a/folder/of/the/server'.",
        ) from error
    if row is None or not row[0]:
        raise HoneloopError(
            f"The database's user may create nothing in the tablespace {name!r}.",
            hint=f"As a superuser: GRANT CREATE ON TABLESPACE {name} TO the user.",
        )
    connection.execute("SELECT set_config('default_tablespace', %s, true)", [name])


def drop_table(connection: Connection, name: str) -> None:
    """Drops a table of vectors, with its indexes, if it is there."""
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name)))


def state_model(connection: Connection, model_version: str) -> None:
    """Says whose vectors the rest of this transaction loads; tables of other model versions refuse them."""
    connection.execute("SELECT set_config('honeloop.model_version', %s, true)", [model_version])


@contextmanager
def wrong_model_is_an_error() -> Generator[None]:
    """Turns the database's refusal of another model's vectors into a HoneloopError that says so."""
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate != WRONG_MODEL and not isinstance(error, psycopg.errors.DataException):
            raise
        # DataException: pgvector's "expected n dimensions, not m".
        raise HoneloopError(
            f"The database refuses these vectors: {error.diag.message_primary or error}.",
            hint=error.diag.message_hint
            or "Each model version has its own tables; use the encoder of these.",
        ) from error


def copy_vectors(
    connection: Connection,
    table: VectorTable,
    model_version: str,
    hashes: Sequence[bytes],
    vectors: NDArray[np.float32],
) -> int:
    """Adds the vectors that the table does not have yet, by binary COPY, in one transaction.

    Args:
        connection: Where to; outside or inside a transaction.
        table: Where to.
        model_version: Of the encoder that made `vectors`.
        hashes: Content hashes, one for each row of `vectors`.
        vectors: Shape (len(hashes), dims), unit norm.

    Returns:
        How many were new.

    Raises:
        HoneloopError: the vectors are another model version's, have other dimensions, or are no unit vectors.
    """
    _check(table, model_version, hashes, vectors)
    staging = sql.Identifier(f"incoming_{table.name}")
    with wrong_model_is_an_error(), connection.transaction():
        state_model(connection, model_version)
        connection.execute(
            sql.SQL(
                "CREATE TEMP TABLE IF NOT EXISTS {} (content_hash bytea NOT NULL,"
                " embedding halfvec({}) STORAGE PLAIN NOT NULL) ON COMMIT DELETE ROWS"
            ).format(staging, sql.Literal(table.dims))
        )
        with connection.cursor() as cursor:
            statement = sql.SQL("COPY {} (content_hash, embedding) FROM STDIN (FORMAT BINARY)")
            with cursor.copy(statement.format(staging)) as copy:
                copy.set_types(["bytea", "halfvec"])
                for content_hash, vector in zip(hashes, vectors.astype(np.float16), strict=True):
                    copy.write_row((content_hash, HalfVector(vector)))
            # In the order of the key, so that two loads of the same rows wait for each other, not deadlock.
            cursor.execute(
                sql.SQL(
                    "INSERT INTO {} (content_hash, embedding) SELECT content_hash, embedding FROM {}"
                    " ORDER BY content_hash ON CONFLICT (content_hash) DO NOTHING"
                ).format(table.identifier, staging)
            )
            return cursor.rowcount


def to_unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales vectors that were stored as half floats, and so rounded, back to unit length, in place.

    Args:
        vectors: Shape (n, dims).

    Returns:
        The same array; a dot product is now the cosine that the index computes.
    """
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return vectors


def _check(
    table: VectorTable, model_version: str, hashes: Sequence[bytes], vectors: NDArray[np.float32]
) -> None:
    if model_version != table.model_version:
        raise HoneloopError(
            f"Vectors of model version {model_version[:12]} cannot be loaded into the table of"
            f" {table.model_version[:12]}.",
            hint="Each model version has its own table; embed with the encoder of the table.",
        )
    if vectors.shape != (len(hashes), table.dims):
        raise HoneloopError(
            f"Model version {model_version[:12]} makes {table.dims} dimensions; for {len(hashes)} texts came"
            f" vectors of shape {vectors.shape}.",
            hint="The encoder does not do what its spec says: `honeloop check` runs its sanity checks.",
        )
    norms = np.linalg.norm(vectors, axis=1)
    # Not-a-number compares false, so it counts as wrong here.
    wrong = np.flatnonzero(~(np.abs(norms - 1) < 1e-3))
    if len(wrong):
        raise HoneloopError(
            f"Model version {model_version[:12]} made {len(wrong)} of {len(hashes)} vectors that are not of"
            f" unit length; the first is of content {hashes[int(wrong[0])].hex()[:12]}.",
            hint="The encoder is unsound: `honeloop check` runs its sanity checks.",
        )
