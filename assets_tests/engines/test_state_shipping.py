"""States on their way home, also while there is no room for them; without a cluster."""

from __future__ import annotations

import queue
import shutil
from pathlib import Path

import pytest
import torch

from pipeline.engines.state_shipping import Kept, StateReceiver, StateSender
from pipeline.engines.training_shipping import Arrivals
from pipeline.errors import HoneloopError
from pipeline.training.following import Message
from pipeline.training.training_state import STATE, Part, SavedState, StateStore

IDENTITY = "a" * 64


def part(name: str, value: float) -> Part:
    return Part(name, {"weight": torch.full((3, 2), value)})


class Line:
    """A node that saves states, home, which keeps them, and what goes to and fro between them."""

    def __init__(self, path: Path) -> None:
        self.node, self.home = path / "node", path / "home"
        self.arriving = self.home / "arriving"
        self.notes: list[str] = []
        self.sent: list[str] = []  # files of the last state
        self.kept: list[bool] = []
        self._messages: list[Message] = []
        self.restart()

    def restart(self) -> None:
        """Both are other processes, as after a loss: the node begins with what home has."""
        self._store = StateStore(self.home, IDENTITY)
        self._receiver = StateReceiver(self._store, Arrivals(self.arriving), self.notes.append)
        shutil.rmtree(self.node, ignore_errors=True)
        self.node.mkdir()
        for file in self._store.files():
            shutil.copy(file, self.node)
        self._answers: queue.Queue[Kept] = queue.Queue()
        # Here, to wait for an answer that has not come would be to wait for ever.
        answer = self._answers.get_nowait
        self._sender = StateSender(self.node, self._messages.append, lambda: None, answer)
        self._there = StateStore(self.node, IDENTITY, self._sender.send_saved)
        self._there.load()

    def save(self, step: int, **parts: Part) -> None:
        """The node saves a state, and home takes what comes of it."""
        self._messages.clear()
        self._there.save({"step": step}, parts)
        self.sent = []
        for kind, *told in self._messages:
            if kind == "piece":
                self.sent.append(told[0])
                self._receiver.take(*told)
            else:
                self.kept.append(self._receiver.keep(told[0]))
                self._answers.put(self._store.held())

    def at_home(self) -> SavedState:
        found = StateStore(self.home, IDENTITY).load()
        assert found is not None
        return found


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def test_what_is_at_home_is_not_sent_again(line: Line) -> None:
    ended = part("ended-0", 7.0)
    line.save(1, weights=part("weights-1", 1.0), ended=ended)
    assert sorted(line.sent) == ["ended-0.safetensors", "weights-1.safetensors"]
    line.save(2, weights=part("weights-2", 2.0), ended=ended)
    assert line.sent == ["weights-2.safetensors"]
    line.restart()
    line.save(3, weights=part("weights-3", 3.0), ended=ended)
    assert line.sent == ["weights-3.safetensors"]
    assert line.kept == [True] * 3
    assert line.at_home().account == {"step": 3}
    assert torch.equal(line.at_home().parts["ended"]["weight"], torch.full((3, 2), 7.0))
    assert sorted(path.name for path in line.home.iterdir()) == [
        "ended-0.safetensors",
        STATE,
        "weights-3.safetensors",
    ]


def test_a_state_that_home_had_no_room_for_is_made_good_by_the_next(line: Line) -> None:
    """Of what does not change, too, which the node had sent already."""
    ended = part("ended-0", 7.0)
    line.save(1, weights=part("weights-1", 1.0))
    line.arriving.touch()  # where there is a file, there can be none in it
    for step in (2, 3):
        line.save(step, weights=part(f"weights-{step}", float(step)), ended=ended)
        assert sorted(line.sent) == ["ended-0.safetensors", f"weights-{step}.safetensors"]
    assert line.at_home().account == {"step": 1}
    line.arriving.unlink()
    line.save(4, weights=part("weights-4", 4.0), ended=ended)
    assert sorted(line.sent) == ["ended-0.safetensors", "weights-4.safetensors"]
    line.save(5, weights=part("weights-5", 5.0), ended=ended)
    assert line.sent == ["weights-5.safetensors"]
    assert line.kept == [True, False, False, True, True]
    assert len(line.notes) == 2
    assert all(note.startswith("The training goes on, but its state could") for note in line.notes)
    assert line.at_home().account == {"step": 5}
    assert torch.equal(line.at_home().parts["ended"]["weight"], torch.full((3, 2), 7.0))


def test_what_got_lost_at_home_is_sent_again(line: Line) -> None:
    ended = part("ended-0", 7.0)
    line.save(1, weights=part("weights-1", 1.0), ended=ended)
    (line.home / "ended-0.safetensors").unlink()
    line.save(2, weights=part("weights-2", 2.0), ended=ended)
    line.save(3, weights=part("weights-3", 3.0), ended=ended)
    assert line.kept == [True, False, True]
    assert "ended-0.safetensors did not arrive whole" in line.notes[0]
    assert line.at_home().account == {"step": 3}


def test_a_damaged_state_at_home_is_no_hindrance(line: Line) -> None:
    """The node cannot go on from it, begins anew, and comes to the same."""
    ended = part("ended-0", 7.0)
    line.save(1, weights=part("weights-1", 1.0), ended=ended)
    (line.home / STATE).write_text("{")
    line.kept.clear()
    with pytest.raises(HoneloopError, match="is damaged"):
        line.restart()
    line.save(1, weights=part("weights-1", 1.0), ended=ended)
    assert line.kept == [True]
    file = line.home / "ended-0.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(HoneloopError, match="is missing or damaged"):
        line.restart()
    line.save(1, weights=part("weights-1", 1.0), ended=ended)
    line.save(2, weights=part("weights-2", 2.0), ended=ended)
    assert line.kept == [True, False, True]
    assert line.at_home().account == {"step": 2}
