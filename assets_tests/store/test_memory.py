"""How much memory there is, of a machine or of a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import Settings
from pipeline.index.hnsw import build_memory
from pipeline.store import memory
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text(str(2**33 + 4096))
    monkeypatch.setattr(memory, "LIMITS", (tmp_path / "memory.max",))
    if machine_memory() < 2**33:
        pytest.skip("this machine has less than 8 GB")
    assert build_memory(Settings()) == "2048MB"
    assert build_memory(Settings(database_url="postgresql://elsewhere/honeloop")) == "1024MB"
    assert build_memory(Settings(maintenance_work_mem="300MB")) == "300MB"
    (tmp_path / "memory.max").write_text(str(2**30))
    assert build_memory(Settings()) == "1024MB"  # the least; no more is taken than the graph needs
