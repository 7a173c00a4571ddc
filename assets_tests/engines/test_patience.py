"""How long a cluster is waited for, and what is said meanwhile."""

from __future__ import annotations

import time

import pytest

from pipeline.engines import patience
from pipeline.engines.patience import Patience


def test_nothing_is_waited_for_so_long() -> None:
    waiting = Patience(0.2, print)
    assert not waiting.over()
    time.sleep(0.3)
    assert waiting.over()
    waiting.reset()
    assert not waiting.over()


def test_what_others_have_taken_is_waited_for_and_said_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "SAY_SECONDS", 0.25)
    notes: list[str] = []
    waiting = Patience(60, notes.append)
    for _ in range(12):
        waiting.taken()
        time.sleep(0.05)
    assert not waiting.over()
    assert 1 <= len(notes) <= 2
    assert "other work has taken" in notes[0]
    # What was taken is lost.
    waiting = Patience(0.2, notes.append)
    waiting.taken()
    time.sleep(0.3)
    assert waiting.over()
    waiting.taken()
    assert not waiting.over()
