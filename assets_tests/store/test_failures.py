"""What the database's failures are taken for."""

from __future__ import annotations

import psycopg
import psycopg2
import pytest
import sqlalchemy
import sqlalchemy.exc

from pipeline.errors import DatabaseAwayError, HoneloopError, UnavailableError
from pipeline.store.connections import Database
from pipeline.store.failures import explained, unreachable
from pipeline.store.locks import is_held, locked_if_free, shared


def test_a_connection_that_is_ended_is_unavailable(db: Database) -> None:
    with (
        pytest.raises(DatabaseAwayError, match="went away: terminating connection") as gone,
        db.connect() as victim,
        db.connect(autocommit=True) as other,
    ):
        other.execute("SELECT pg_terminate_backend(%s)", [victim.info.backend_pid])
        victim.execute("SELECT 1")
    assert "do the same once more" in gone.value.hint


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "could not write init file: No space left on device",
            "disk that holds the database is full: .*FATAL",
        ),
        ("could not resize shared memory segment: No space left on device", "cannot be reached"),
        ("the database system is starting up", "cannot be reached"),
    ],
)
def test_where_a_full_disk_lets_nobody_in_it_is_named(said: str, shown: str) -> None:
    with pytest.raises(DatabaseAwayError, match=shown):
        raise unreachable(psycopg.OperationalError(f"connection failed: FATAL:  {said}"))


def test_the_same_through_sqlalchemy() -> None:
    engine = sqlalchemy.create_engine("postgresql+psycopg2://nobody@127.0.0.1:1/nothing")
    with pytest.raises(sqlalchemy.exc.OperationalError) as failure:
        engine.connect()
    assert isinstance(failure.value.orig, psycopg2.OperationalError)
    assert isinstance(explained(failure.value), DatabaseAwayError)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("No space left on device"),
        psycopg.errors.UniqueViolation("twice"),
        psycopg.errors.QueryCanceled("too long"),
        psycopg.errors.DiskFull("could not resize shared memory segment: No space left on device"),
    ],
)
def test_what_is_about_something_else_is_left_as_it_is(error: Exception) -> None:
    assert explained(error) is None


def test_a_full_disk_is_said() -> None:
    known = explained(psycopg.errors.DiskFull('could not extend file "base/1": No space left on device'))
    assert known is not None
    assert not isinstance(known, UnavailableError)
    assert known.message == (
        'The disk that holds the database is full: could not extend file "base/1": No space left on device.'
    )


def test_a_lock_ends_with_its_connection(db: Database) -> None:
    with locked_if_free(db, "a lock") as mine, locked_if_free(db, "a lock") as others:
        assert (mine, others) == (True, False)
        assert is_held(db, "a lock")
    assert not is_held(db, "a lock")
    with pytest.raises(HoneloopError), locked_if_free(db, "a lock") as mine:
        assert mine
        raise HoneloopError("whatever")
    with locked_if_free(db, "a lock") as mine:
        assert mine


def test_a_lock_is_shared_by_many_or_had_alone(db: Database) -> None:
    with shared(db, "a lock"):
        with shared(db, "a lock"), locked_if_free(db, "a lock") as alone:
            assert not alone
        with locked_if_free(db, "a lock") as alone:
            assert not alone
    with locked_if_free(db, "a lock") as alone:
        assert alone
