"""A state is on the disk whole or not at all, and only the same training takes it up."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import HoneloopError
from pipeline.training.leftovers import clear_abandoned
from pipeline.training.training_state import (
    STATE,
    Part,
    StateStore,
    Timing,
    flattened,
    random_states,
    set_random_states,
    unflattened,
)

IDENTITY = "a" * 64


def part(name: str, value: float) -> Part:
    return Part(name, {"weight": torch.full((3, 2), value), "odd/name.0": torch.arange(4)})


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    return StateStore(tmp_path / "training.work", IDENTITY)


def test_what_is_saved_is_read_back(store: StateStore, tmp_path: Path) -> None:
    store.save(
        {"step": 3, "rate": 0.1 + 0.2}, {"weights": part("weights-3", 1.5), "best": part("weights-1", 0.5)}
    )
    found = StateStore(tmp_path / "training.work", IDENTITY).load()
    assert found is not None
    assert found.account == {"step": 3, "rate": 0.1 + 0.2}
    assert torch.equal(found.parts["weights"]["weight"], torch.full((3, 2), 1.5))
    assert torch.equal(found.parts["best"]["weight"], torch.full((3, 2), 0.5))
    assert found.parts["weights"]["odd/name.0"].dtype == torch.int64


def test_nothing_saved_is_nothing_to_load(store: StateStore) -> None:
    assert store.load() is None


def test_a_state_replaces_the_one_before_and_writes_equal_parts_once(
    store: StateStore, tmp_path: Path
) -> None:
    directory = tmp_path / "training.work"
    best = part("weights-1", 1.0)
    store.save({"step": 1}, {"weights": best, "best": best})
    assert sorted(path.name for path in directory.iterdir()) == [STATE, "weights-1.safetensors"]
    written = (directory / "weights-1.safetensors").stat()
    store.save({"step": 2}, {"weights": part("weights-2", 2.0), "best": best})
    kept = (directory / "weights-1.safetensors").stat()
    assert (kept.st_ino, kept.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    # Whoever goes on from it need not write the best weights again either.
    other = StateStore(directory, IDENTITY)
    other.load()
    other.save({"step": 3}, {"weights": part("weights-3", 3.0), "best": best})
    assert (directory / "weights-1.safetensors").stat().st_ino == written.st_ino
    assert sorted(path.name for path in directory.iterdir()) == [
        STATE,
        "weights-1.safetensors",
        "weights-3.safetensors",
    ]
    store.clear()
    assert not directory.exists()


def carried(store: StateStore, arrived: Path, but: frozenset[str] = frozenset()) -> bytes:
    """Copies the files of a state elsewhere, as they come from a node; the content of STATE."""
    arrived.mkdir(exist_ok=True)
    *files, state = store.files()
    for file in files:
        if file.name not in but:
            (arrived / file.name).write_bytes(file.read_bytes())
    return state.read_bytes()


def test_a_state_that_was_saved_elsewhere_is_adopted(store: StateStore, tmp_path: Path) -> None:
    told: list[list[str]] = []
    there = StateStore(
        tmp_path / "there", IDENTITY, lambda: told.append([path.name for path in there.files()])
    )
    assert there.files() == []
    best = part("weights-1", 1.0)
    there.save({"step": 1}, {"weights": best, "best": best})
    store.adopt(carried(there, tmp_path / "arrived"), tmp_path / "arrived")
    there.save({"step": 2}, {"weights": part("weights-2", 2.0), "best": best})
    known = frozenset(["weights-1.safetensors"])
    store.adopt(carried(there, tmp_path / "arrived", known), tmp_path / "arrived")
    assert told == [[*known, STATE], [*known, "weights-2.safetensors", STATE]]
    assert [path.name for path in store.files()] == told[1]
    found = StateStore(tmp_path / "training.work", IDENTITY).load()
    assert found is not None
    assert found.account == {"step": 2}
    assert torch.equal(found.parts["weights"]["weight"], torch.full((3, 2), 2.0))
    assert torch.equal(found.parts["best"]["weight"], torch.full((3, 2), 1.0))


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_state_that_did_not_arrive_whole_leaves_the_one_before(
    store: StateStore, tmp_path: Path, damage: str
) -> None:
    store.save({"step": 1}, {"weights": part("weights-1", 1.0)})
    there = StateStore(tmp_path / "there", IDENTITY)
    there.save({"step": 2}, {"weights": part("weights-1", 5.0), "best": part("weights-2", 2.0)})
    content = carried(there, tmp_path / "arrived")
    file = tmp_path / "arrived" / "weights-1.safetensors"
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(HoneloopError, match=r"weights-1\.safetensors did not arrive whole"):
        store.adopt(content, tmp_path / "arrived")
    found = store.load()
    assert found is not None
    assert found.account == {"step": 1}


def test_what_could_not_be_put_in_place_leaves_nothing(store: StateStore, tmp_path: Path) -> None:
    """The directory's disk has no room for what a state is described by."""
    directory = tmp_path / "training.work"
    store.save({"step": 1}, {"weights": part("weights-1", 1.0)})
    there = StateStore(tmp_path / "there", IDENTITY)
    there.save({"step": 2}, {"weights": part("weights-2", 2.0), "ended": part("ended-0", 3.0)})
    content = carried(there, tmp_path / "arrived")
    before = sorted(path.name for path in directory.iterdir())
    (directory / ".unfinished.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        store.adopt(content, tmp_path / "arrived")
    with pytest.raises(OSError, match="directory"):
        store.save({"step": 2}, {"weights": part("weights-2", 2.0)})
    (directory / ".unfinished.json").rmdir()
    assert sorted(path.name for path in directory.iterdir()) == before
    assert store.held().keys() == {"weights-1"}
    found = StateStore(directory, IDENTITY).load()
    assert found is not None
    assert found.account == {"step": 1}
    store.adopt(content, tmp_path / "arrived")
    assert store.held() == there.held()
    assert [path.name for path in store.files()] == [path.name for path in there.files()]


class KilledError(BaseException):
    """Nothing in `save` catches it, so this ends it as a kill would."""


@pytest.mark.parametrize("rename", [1, 2])
def test_a_writer_that_dies_leaves_the_state_before(
    store: StateStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rename: int
) -> None:
    store.save({"step": 1}, {"weights": part("weights-1", 1.0)})
    renames: list[str] = []

    def die(source: Path, target: Path) -> None:
        renames.append(target.name)
        if len(renames) == rename:
            raise KilledError
        source.rename(target)

    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(os, "replace", die)
        store.save({"step": 2}, {"weights": part("weights-2", 2.0)})
    assert renames[-1] == ("weights-2.safetensors", STATE)[rename - 1]
    other = StateStore(tmp_path / "training.work", IDENTITY)
    found = other.load()
    assert found is not None
    assert found.account == {"step": 1}
    # What it left is cleared away by the next save.
    other.save({"step": 3}, {"weights": part("weights-3", 3.0)})
    names = sorted(path.name for path in (tmp_path / "training.work").iterdir())
    assert names == [STATE, "weights-3.safetensors"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "json", "shape", "empty"])
def test_a_damaged_state_is_named(store: StateStore, tmp_path: Path, damage: str) -> None:
    store.save({"step": 1}, {"weights": part("weights-1", 1.0)})
    directory = tmp_path / "training.work"
    file = directory / "weights-1.safetensors"
    content = file.read_bytes()
    if damage == "flip":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "truncate":
        file.write_bytes(content[:-8])
    elif damage == "remove":
        file.unlink()
    elif damage == "json":
        (directory / STATE).write_text((directory / STATE).read_text()[:-20])
    elif damage == "shape":
        (directory / STATE).write_text('["a list"]')
    else:
        (directory / STATE).write_text("")
    with pytest.raises(HoneloopError, match=r"damaged") as failure:
        store.load()
    assert str(directory) in str(failure.value)
    # It is no hindrance: the next save replaces it.
    store.save({"step": 2}, {"weights": part("weights-1", 2.0)})
    found = store.load()
    assert found is not None
    assert torch.equal(found.parts["weights"]["weight"], torch.full((3, 2), 2.0))


def test_another_trainings_state_is_not_taken(store: StateStore, tmp_path: Path) -> None:
    store.save({"step": 1}, {"weights": part("weights-1", 1.0)})
    with pytest.raises(HoneloopError, match="another training"):
        StateStore(tmp_path / "training.work", "b" * 64).load()
    content = json.loads((tmp_path / "training.work" / STATE).read_text())
    content["format"] = 0
    (tmp_path / "training.work" / STATE).write_text(json.dumps(content))
    with pytest.raises(HoneloopError, match="another training"):
        store.load()


def test_a_training_that_is_under_way_is_not_begun_again(store: StateStore, tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from pipeline.training.training_state import StateStore
with StateStore(Path({str(tmp_path / "training.work")!r}), "{IDENTITY}").alone():
    print("held", flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(HoneloopError, match="under way in another process"), store.alone():
            pass
        other.kill()
    with store.alone():
        pass


def test_saving_costs_no_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    timing = Timing(seconds=60, max_share=0.05)
    assert not timing.due(validated=False)
    assert timing.due(validated=True)
    timing.saved(took=2.0)
    # 2 of 40 seconds are the twentieth part.
    now[0] += 37.9
    assert not timing.due(validated=True)
    now[0] += 0.2
    assert timing.due(validated=True)
    assert not timing.due(validated=False)
    now[0] += 22
    assert timing.due(validated=False)
    always = Timing(seconds=0, max_share=1)
    always.saved(took=5.0)
    assert always.due(validated=False)


def test_states_nobody_went_on_with_are_cleared_away(tmp_path: Path) -> None:
    for name in ("old.work", "new.work", "own.work", "handed-over"):
        StateStore(tmp_path / name, IDENTITY).save({}, {"weights": part("weights-1", 1.0)})
    ago = time.time() - 8 * 86_400
    for name in ("old.work", "own.work", "handed-over"):
        os.utime(tmp_path / name / STATE, (ago, ago))
    assert clear_abandoned(tmp_path, 7, but=tmp_path / "own.work") == ["old.work"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["handed-over", "new.work", "own.work"]


def test_an_optimisers_state_survives_json_and_safetensors(store: StateStore) -> None:
    torch.manual_seed(1)

    def made() -> tuple[torch.nn.Linear, torch.optim.AdamW]:
        layer = torch.nn.Linear(3, 2)
        with torch.no_grad():
            layer.weight.fill_(0.5)
            layer.bias.fill_(0.1)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1)

    def step(layer: torch.nn.Linear, optimiser: torch.optim.AdamW) -> None:
        layer(torch.arange(6.0).reshape(2, 3)).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()

    layer, optimiser = made()
    step(layer, optimiser)
    optimiser.param_groups[0]["lr"] = 0.1 / 3
    account, tensors = flattened(optimiser.state_dict())
    store.save({"optimizer": account}, {"optimizer": Part("optimizer-1", tensors)})
    found = store.load()
    assert found is not None
    other_layer, other = made()
    other_layer.load_state_dict(layer.state_dict())
    other.load_state_dict(
        unflattened(found.account["optimizer"], found.parts["optimizer"], other.state_dict())
    )
    assert other.state_dict()["param_groups"] == optimiser.state_dict()["param_groups"]
    for each in ((layer, optimiser), (other_layer, other)):
        step(*each)
    assert torch.equal(layer.weight, other_layer.weight)
    assert torch.equal(layer.bias, other_layer.bias)
    smaller = torch.optim.AdamW([layer.weight])
    with pytest.raises(HoneloopError, match="not this model's"):
        unflattened(found.account["optimizer"], found.parts["optimizer"], smaller.state_dict())


def test_random_numbers_go_on_where_they_were(store: StateStore) -> None:
    random.gauss(0, 1)  # it remembers a second one
    np.random.standard_normal()
    account, tensors = random_states("cpu")
    store.save({"random": account}, {"random": Part("random-1", tensors)})
    drawn = (random.gauss(0, 1), random.random(), float(np.random.standard_normal()), np.random.rand())
    drawn_by_torch = torch.rand(3)
    found = store.load()
    assert found is not None
    set_random_states(found.account["random"], found.parts["random"], "cpu")
    assert (
        random.gauss(0, 1),
        random.random(),
        float(np.random.standard_normal()),
        np.random.rand(),
    ) == drawn
    assert torch.equal(torch.rand(3), drawn_by_torch)
