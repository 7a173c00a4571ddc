"""Tables of vectors that no row names, rows whose table is gone, and index versions that dead builds left."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pipeline.doctor.findings import Examination, Finding
from pipeline.errors import HoneloopError
from pipeline.index.cleaning import BUILD_LOCK, abandoned, discard
from pipeline.index.tables import drop_table
from pipeline.store.connections import Connection, Database
from pipeline.store.locks import is_held, locked_if_free

# Only a table of vectors has this trigger (index/tables.py), so nobody's own table is taken for one.
_ORPHANS = (
    "SELECT c.relname FROM pg_class c JOIN pg_trigger t ON t.tgrelid = c.oid"
    " WHERE t.tgname = 'only_its_model' AND c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace"
    " AND c.relname NOT IN (SELECT table_name FROM embedding_tables)"
    " AND c.relname NOT IN (SELECT table_name FROM index_versions WHERE table_name IS NOT NULL)"
    " ORDER BY c.relname"
)
_TARGET = (
    "SELECT version FROM model_versions WHERE state IN ('approved', 'serving')"
    " ORDER BY state = 'approved' DESC LIMIT 1"
)


def examine_tables(db: Database, found: Examination) -> None:
    """Looks through the tables of vectors; those of a build that is under way are left out."""
    if is_held(db, BUILD_LOCK):
        found.notes.append("An index is being built; its table is left alone.")
    else:
        found.add(
            Finding(
                "unfinished index version",
                f"Index version {index_id} is {state}, and the process that built it has ended.",
                _unless_building(db, partial(discard, db, index_id, "failed")),
            )
            for index_id, state in abandoned(db, _target(db))
        )
    with db.connect() as connection:
        orphans = [name for (name,) in connection.execute(_ORPHANS.encode()).fetchall()]
        embeddings = connection.execute(
            "SELECT model_version, table_name FROM embedding_tables"
            " WHERE to_regclass(quote_ident(table_name)) IS NULL ORDER BY table_name"
        ).fetchall()
        indexes = connection.execute(
            "SELECT id, state, table_name FROM index_versions"
            " WHERE table_name IS NOT NULL AND state NOT IN ('building', 'failed', 'dropped')"
            " AND to_regclass(quote_ident(table_name)) IS NULL ORDER BY id"
        ).fetchall()
    found.add(
        Finding(
            "orphan table",
            f"The table {name} of vectors is named by no index version and no model.",
            _unless_building(db, partial(_drop_orphan, db, name)),
        )
        for name in orphans
    )
    found.add(
        Finding(
            "missing table",
            f"The table {name} of the vectors of {version[:12]} is gone.",
            partial(_forget_embeddings, db, version),
        )
        for version, name in embeddings
    )
    for index_id, state, name in indexes:
        what = f"The table {name} of index version {index_id}, which is {state}, is gone."
        if state == "serving":
            found.add(
                [Finding("missing table", what, hint="Searches fail: `honeloop index` builds another.")]
            )
        else:
            mend = _unless_building(db, partial(discard, db, index_id, "dropped"))
            found.add([Finding("missing table", what, mend)])


def _target(db: Database) -> str | None:
    with db.connect() as connection:
        row = connection.execute(_TARGET).fetchone()
    return None if row is None else str(row[0])


def _unless_building(db: Database, work: Callable[[], object]) -> Callable[[], None]:
    """The work, done while no index can be built."""

    def mend() -> None:
        with locked_if_free(db, BUILD_LOCK) as free:
            if not free:
                raise HoneloopError("An index is being built.", hint="Wait until that ends.")
            work()

    return mend


def _drop_orphan(db: Database, name: str) -> None:
    with db.connect() as connection:
        _no_embedding_begins(connection)
        if (name,) in connection.execute(_ORPHANS.encode()).fetchall():
            drop_table(connection, name)


def _forget_embeddings(db: Database, version: str) -> None:
    """The next run embeds anew."""
    with db.connect() as connection:
        _no_embedding_begins(connection)
        connection.execute(
            "DELETE FROM embedding_tables WHERE model_version = %s"
            " AND to_regclass(quote_ident(table_name)) IS NULL",
            [version],
        )


def _no_embedding_begins(connection: Connection) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('honeloop.embedding_tables', 0))")
