"""How much memory there is, of a machine or of a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import Settings
from pipeline.index import hnsw
from pipeline.index.hnsw import build_hnsw, build_memory
from pipeline.index.tables import VectorTable
from pipeline.progress import Silent
from pipeline.store import memory
from pipeline.store.connections import Database
from pipeline.store.memory import machine_memory


@pytest.mark.parametrize(("limit", "known"), [("max\n", False), ("268435456\n", True)])
def test_a_container_has_what_it_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, *, known: bool
) -> None:
    monkeypatch.setattr(memory, "LIMITS", ())
    machine = machine_memory()
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(memory, "LIMITS", (tmp_path / "memory.max", tmp_path / "not_there"))
    assert machine_memory() == (2**28 if known else machine)


def test_a_build_may_use_a_quarter_of_this_machine_but_of_no_other(
    db: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text(str(2**33 + 4096))
    monkeypatch.setattr(memory, "LIMITS", (tmp_path / "memory.max",))
    if machine_memory() < 2**33:
        pytest.skip("this machine has less than 8 GB")
    # As `honeloop up` has it: its children are given the URL of the embedded server.
    assert settings.database_url == db.url
    assert build_memory(settings, db.url) == "2048MB"
    assert build_memory(Settings(), db.url) == "2048MB"
    assert build_memory(settings.model_copy(update={"maintenance_work_mem": "300MB"}), db.url) == "300MB"
    nobody = tmp_path / "socket"
    nobody.mkdir()
    for elsewhere in (
        "postgresql://elsewhere/honeloop",
        "postgresql://127.0.0.1:5432/honeloop",  # which may be forwarded to anywhere
        f"postgresql://postgres@/honeloop?host={nobody}",  # at which a proxy might listen
    ):
        assert build_memory(Settings(database_url=elsewhere), elsewhere) == "1024MB"
    (tmp_path / "memory.max").write_text(str(2**30))
    assert build_memory(settings, db.url) == "1024MB"  # the least; no more is taken than the graph needs


def test_a_build_takes_the_memory_that_it_may_use(
    db: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that would fill it all: what Postgres is told is what it may have of this machine."""
    (tmp_path / "memory.max").write_text(str(5 * 2**30))
    monkeypatch.setattr(memory, "LIMITS", (tmp_path / "memory.max",))
    if machine_memory() < 5 * 2**30:
        pytest.skip("this machine has less than 5 GB")
    monkeypatch.setattr(hnsw, "_kilobytes_needed", lambda *_: 2**31 - 1)
    table = VectorTable("made", "0" * 64, 3)
    with db.connect() as connection:
        connection.execute("CREATE TABLE made (content_hash bytea, embedding halfvec(3))")
        # Says while the index is built what it is built with.
        connection.execute(
            "CREATE FUNCTION told() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE NOTICE 'it has %', current_setting('maintenance_work_mem'); END $$"
        )
        connection.execute("CREATE EVENT TRIGGER telling ON ddl_command_end EXECUTE FUNCTION told()")
    notes: list[str] = []
    listening = Silent()
    monkeypatch.setattr(listening, "note", notes.append)
    build_hnsw(db, table, 0, settings.model_copy(update={"index_build_workers": 0}), listening)
    assert notes == ["Postgres: it has 1280MB"]
