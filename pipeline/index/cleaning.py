"""Takes away what will not serve again: leftovers of killed runs, index versions beyond those kept."""

from __future__ import annotations

from typing import Literal

from pipeline.index.in_use import vectors_lock
from pipeline.index.tables import drop_table
from pipeline.store.connections import Database
from pipeline.store.locks import locked_if_free

# A finished index version waits for its flip for seconds. One that another model's run left this long ago
# belongs to a dead run.
ABANDONED = "1 hour"
# Held by whoever builds: what is half-built while nobody holds it has no builder any more.
BUILD_LOCK = "honeloop.build_index"
_CHALLENGING = "SELECT model_version FROM challengers WHERE until IS NULL"
# The models whose vectors no index and no rollback wants.
_UNNEEDED = (
    "SELECT m.version FROM model_versions m WHERE m.version <> %(built)s AND m.base_version IS NOT NULL"
    " AND m.state IN ('candidate', 'rejected', 'retired')"
    " AND m.version NOT IN (SELECT version FROM model_versions WHERE base_version IS NOT NULL"
    "  ORDER BY created_at DESC, version LIMIT %(keep)s)"
    " AND NOT EXISTS (SELECT FROM index_versions i WHERE i.model_version = m.version"
    "  AND i.state IN ('building', 'ready', 'serving', 'retired'))"
)


def clean_up(db: Database, model_version: str, keep: int) -> None:
    """Drops what killed builds left behind. The caller holds the build lock, so nothing is being built.

    An index version that is ready but was never flipped to stays if it is of `model_version`: the build that
    calls this uses it, as far as it can. So does the one that searches are interleaved with.
    """
    for index_id, _ in abandoned(db, model_version):
        discard(db, index_id, "failed")
    _drop_embeddings_nobody_needs(db, model_version, keep)


def abandoned(db: Database, model_version: str | None) -> list[tuple[int, str]]:
    """Id and state of the index versions that dead runs left, as `clean_up` means it.

    Only whoever holds `BUILD_LOCK` may take one that is being built for abandoned.
    """
    with db.connect() as connection:
        return connection.execute(
            "SELECT id, state FROM index_versions WHERE state = 'building'"
            " OR (state = 'ready' AND model_version IS DISTINCT FROM %s"
            f"  AND model_version NOT IN ({_CHALLENGING})"
            "  AND created_at + make_interval(secs => coalesce(build_seconds, 0)) < now() - %s::interval)"
            " ORDER BY id",
            [model_version, ABANDONED],
        ).fetchall()


def discard(db: Database, index_id: int, state: Literal["failed", "dropped"]) -> bool:
    """Drops an index version's table, unless it serves meanwhile, and says so in its state."""
    with db.connect() as connection:
        row = connection.execute(
            "SELECT table_name FROM index_versions WHERE id = %s AND state <> 'serving' FOR UPDATE",
            [index_id],
        ).fetchone()
        if row is None:
            return False
        connection.execute(
            "UPDATE index_versions SET state = %s, table_name = NULL WHERE id = %s", [state, index_id]
        )
        if row[0] is not None:
            drop_table(connection, row[0])
        return True


def discard_passed_over(db: Database, model_version: str, chosen: int) -> None:
    """Drops the ready index versions of a model besides the one chosen: no flip will ask for them."""
    with db.connect() as connection:
        rows = connection.execute(
            "SELECT id FROM index_versions WHERE state = 'ready' AND model_version = %s AND id <> %s"
            " ORDER BY id",
            [model_version, chosen],
        ).fetchall()
    for (index_id,) in rows:
        discard(db, index_id, "dropped")


def drop_retired(db: Database, keep: int) -> tuple[int, ...]:
    """Drops retired index versions but the `keep` that a rollback may want first; returns those dropped.

    These are the ones that served before each other, going back from the one that serves; then, if that line
    is shorter than `keep`, the ones that served last. What searches are interleaved with stays besides.
    """
    with db.connect() as connection:
        rows = connection.execute(
            "WITH RECURSIVE line AS ("
            "  SELECT previous_id AS id, 1 AS back FROM index_versions WHERE state = 'serving'"
            "  UNION ALL"
            "  SELECT i.previous_id, line.back + 1 FROM line JOIN index_versions i ON i.id = line.id"
            "  WHERE i.previous_id IS NOT NULL AND line.back < 1000)"
            " SELECT i.id FROM index_versions i"
            "  LEFT JOIN (SELECT id, min(back) AS back FROM line GROUP BY id) AS line ON line.id = i.id"
            f" WHERE i.state = 'retired' AND i.model_version NOT IN ({_CHALLENGING})"
            " ORDER BY line.back NULLS LAST, i.served_until DESC NULLS LAST, i.id DESC OFFSET %s",
            [keep],
        ).fetchall()
    return tuple(sorted(index_id for (index_id,) in rows if discard(db, index_id, "dropped")))


def _drop_embeddings_nobody_needs(db: Database, model_version: str, keep: int) -> None:
    """Drops the vectors of fine-tuned models that neither serve nor can be rolled back to.

    Each night's candidate embeds the whole corpus; kept for good, its vectors would soon fill the disk. Those
    of the `keep` newest stay: they may be measured again when little has changed. Those of `model_version`,
    which is being built, stay as well, and those in use until the next time.
    """
    unneeded = {"built": model_version, "keep": keep}
    with db.connect() as connection:
        rows = connection.execute(
            f"SELECT model_version FROM embedding_tables WHERE model_version IN ({_UNNEEDED})"
            " ORDER BY model_version",
            unneeded,
        ).fetchall()
    for (version,) in rows:
        # Let go only once the drop is committed: whoever waits to embed finds the table gone, and makes one.
        with locked_if_free(db, vectors_lock(version)) as free:
            if free:
                _drop_embeddings(db, {**unneeded, "version": version})


def _drop_embeddings(db: Database, unneeded: dict[str, str | int]) -> None:
    with db.connect() as connection:
        row = connection.execute(
            # Asked once more: who used them until just now may have built an index.
            "DELETE FROM embedding_tables WHERE model_version = %(version)s"
            f" AND model_version IN ({_UNNEEDED}) RETURNING table_name",
            unneeded,
        ).fetchone()
        if row is not None:
            drop_table(connection, row[0])
            connection.execute("DELETE FROM recall_queries WHERE model_version = %(version)s", unneeded)
