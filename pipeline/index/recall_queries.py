"""What recall is measured with: documentation of live snippets, embedded as people's searches are.

Their vectors are kept, for a graph is measured whenever it changes: to make them again each time took a tenth
of a run for one changed file.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from pipeline.index.tables import LIVE_CONTENTS
from pipeline.store.connections import Connection, Database

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

# Of this model; those of models that nobody needs any more go with their embeddings, see `cleaning`.
_PASSED = "DELETE FROM recall_queries WHERE model_version = %s AND query_hash <> ALL(%s)"


def documentation_queries(db: Database, encoder: Encoder, sample: int) -> NDArray[np.float32]:
    """Query vectors as people's searches make them, to measure recall with: documentation of live snippets.

    A query lies farther from the code than code lies from code, so recall on these is what searchers get.

    Args:
        db: The database, in which the encoder's version is registered.
        encoder: Asked for those alone that are not kept.
        sample: How many queries, at the most; the same ones as long as what they document lives.

    Returns:
        Shape (at most `sample`, dims); no row if nothing live is documented.
    """
    with db.connect() as connection:
        asked = _documentation(connection, sample)
        kept = _kept(connection, encoder, list(asked))
    new = {hash: text for hash, text in asked.items() if hash not in kept}
    if new:
        vectors = encoder.embed_queries(list(new.values())).astype("<f4")
        made = {hash: vector.tobytes() for hash, vector in zip(new, vectors, strict=True)}
        with db.connect() as connection:
            _keep(connection, encoder.version, made, list(asked))
        kept |= made
    together = b"".join(kept[hash] for hash in asked)
    return np.frombuffer(together, dtype="<f4").astype(np.float32).reshape(-1, encoder.dims)


def _documentation(connection: Connection, sample: int) -> dict[bytes, str]:
    """The queries, by their hashes."""
    rows = connection.execute(
        sql.SQL(
            "SELECT c.documentation FROM contents c WHERE c.documentation IS NOT NULL"
            " AND c.content_hash IN ({}) ORDER BY c.content_hash LIMIT %s"
        ).format(LIVE_CONTENTS),
        [sample],
    ).fetchall()
    return {hashlib.sha256(text.encode()).digest(): text for (text,) in rows}


def _kept(connection: Connection, encoder: Encoder, hashes: list[bytes]) -> dict[bytes, bytes]:
    rows = connection.execute(
        "SELECT query_hash, vector FROM recall_queries"
        " WHERE model_version = %s AND query_hash = ANY(%s) AND octet_length(vector) = %s",
        [encoder.version, hashes, 4 * encoder.dims],
    ).fetchall()
    return dict(rows)


def _keep(connection: Connection, version: str, made: dict[bytes, bytes], asked: list[bytes]) -> None:
    connection.execute(_PASSED, [version, asked])
    connection.execute(
        "INSERT INTO recall_queries (model_version, query_hash, vector)"
        " SELECT %s, * FROM unnest(%s::bytea[], %s::bytea[])"
        " ON CONFLICT (model_version, query_hash) DO UPDATE SET vector = excluded.vector",
        [version, list(made), list(made.values())],
    )
