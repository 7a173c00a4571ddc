"""Vectors and their HNSW in a tablespace of Postgres, a real folder of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from assets_tests.index.click_corpus import Function, add_functions, register
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.errors import HoneloopError
from pipeline.index.building import build_index
from pipeline.index.embeddings import embed_missing
from pipeline.index.tables import use_tablespace
from pipeline.progress import Silent
from pipeline.store.connections import Database
from pipeline.store.server import database_url

NAME = "other disk"  # a name that has to be quoted


@pytest.fixture
def tablespace(server_settings: Settings) -> Iterator[Path]:
    """Asked for before `db`, so that it goes after it: only an empty one can be dropped."""
    place = Path(tempfile.mkdtemp(prefix="hl-space-"))
    shutil.chown(place, (server_settings.home_path / "postgres").stat().st_uid)
    name = sql.Identifier(NAME)
    with psycopg.connect(database_url(server_settings, "template1"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE TABLESPACE {} LOCATION {}").format(name, sql.Literal(str(place))))
        yield place
        connection.execute(sql.SQL("DROP TABLESPACE {}").format(name))
    shutil.rmtree(place)


def where(db: Database) -> dict[str, str | None]:
    """The tablespace of each table and index of vectors; None: the database's own."""
    with db.connect() as connection:
        rows = connection.execute(
            "SELECT c.relname, s.spcname FROM pg_class c LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace"
            " WHERE c.relkind IN ('r', 'i') AND c.relname ~ '^(vectors_[0-9a-f]{16}|index_[0-9])'"
        ).fetchall()
    return dict(rows)


def test_vectors_and_their_index_are_created_there_and_nothing_else_is(
    tablespace: Path, db: Database, settings: Settings, minilm: Encoder, functions: tuple[Function, ...]
) -> None:
    used = settings.model_copy(update={"index_tablespace": NAME})
    register(db, minilm)
    add_functions(db, functions[:8])
    embed_missing(db, minilm, used, Silent())
    report = build_index(db, minilm.version, used, Silent())
    assert report.rows == 8
    found = where(db)
    assert len(found) == 5  # two tables, their two keys, one HNSW
    assert set(found.values()) == {NAME}
    assert any(path.is_file() for path in tablespace.rglob("*"))
    with db.connect() as connection:
        elsewhere = connection.execute(
            "SELECT reltablespace FROM pg_class WHERE relname = 'snippets'"
        ).fetchone()
    assert elsewhere == (0,)


def test_what_is_there_already_stays_where_it_is(
    tablespace: Path, db: Database, settings: Settings, minilm: Encoder, functions: tuple[Function, ...]
) -> None:
    register(db, minilm)
    add_functions(db, functions[:8])
    embed_missing(db, minilm, settings, Silent())
    build_index(db, minilm.version, settings.model_copy(update={"index_tablespace": NAME}), Silent())
    found = where(db)
    assert {place for name, place in found.items() if name.startswith("vectors_")} == {None}
    assert {place for name, place in found.items() if name.startswith("index_")} == {NAME}


def test_one_that_is_not_there_is_named(
    db: Database, settings: Settings, minilm: Encoder, functions: tuple[Function, ...]
) -> None:
    register(db, minilm)
    add_functions(db, functions[:1])
    used = settings.model_copy(update={"index_tablespace": "nowhere"})
    with pytest.raises(HoneloopError, match=r"no tablespace 'nowhere'.*CREATE TABLESPACE"):
        embed_missing(db, minilm, used, Silent())
    assert where(db) == {}


def test_one_that_may_not_be_used_is_named(tablespace: Path, db: Database) -> None:
    with db.connect() as connection:
        connection.execute("CREATE ROLE hl_without_rights")
        connection.execute("SET LOCAL ROLE hl_without_rights")
        with pytest.raises(HoneloopError, match=r"may create nothing in .*GRANT CREATE"):
            use_tablespace(connection, NAME)
        connection.rollback()
