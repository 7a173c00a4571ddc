"""What goes to a node that trains, and what comes home from it; without a cluster."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from assets_tests.training.click_pairs import make_set, plain_pairs
from pipeline.config import Settings
from pipeline.engines.training_shipping import (
    Arrivals,
    pairs_from_json,
    pairs_to_json,
    send_files,
    shipped_settings,
)
from pipeline.errors import HoneloopError
from pipeline.training.following import Message
from pipeline.training.handover import bring, handed_over
from pipeline.training.launching import launch_for
from pipeline.training.pairs import Negative
from pipeline.training.recipe import recipe_of


def test_one_setting_picks_where_models_are_trained() -> None:
    assert launch_for(Settings()) is None
    assert launch_for(Settings(train_processes=2)) is not None
    launch = launch_for(Settings(engine="ray"))
    assert launch is not None
    assert launch.__module__ == "pipeline.engines.ray_training"


def test_pairs_arrive_as_they_were() -> None:
    first, second, *others = plain_pairs(8, "train")
    negative = Negative(b"\x80" * 32, "x = '\x00 é'", "mined", None, 1 / 3, copy_group=b"\xff")
    first = replace(
        first, negatives=(negative,), because={"events": [1, None]}, spared=frozenset([b"\xfe", b""])
    )
    training_set = make_set([first, second, *others])
    content = pairs_to_json(training_set, (second,))
    assert json.loads(content)
    assert pairs_from_json(content) == (training_set, (second,))


def test_nodes_are_told_what_training_goes_by_and_no_secret() -> None:
    settings = Settings(
        database_url="postgresql://honeloop:hunter2@db/honeloop",
        api_token=SecretStr("hunter2hunter2hunter2"),
        device="cpu",
        seed=3,
        recipe="averaged+two-stage",
        averaging_shares=(0.5, 1.0),
    )
    told = shipped_settings(settings)
    assert "hunter2" not in json.dumps(told)
    assert not {"home", "database_url", "api_token", "engine", "ray_address"} & set(told)
    there = Settings(**told)
    assert recipe_of(there) == recipe_of(settings)
    assert there.device == "cpu"


def carry(root: Path, names: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    monkeypatch.setattr("pipeline.engines.training_shipping._PIECE", 1000)
    messages: list[Message] = []
    most: list[int] = []
    send_files(root, names, messages.append, lambda: most.append(len(messages)))
    assert most == list(range(1, len(messages) + 1)), "one piece after another"
    return messages


def test_files_arrive_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    contents = {"a": rng.bytes(2500), "model/b": rng.bytes(2000), "model/c/empty": b""}
    for name, content in contents.items():
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_bytes(content)
    messages = carry(tmp_path / "there", list(contents), monkeypatch)
    assert [len(message[2]) for message in messages] == [1000, 1000, 500, 1000, 1000, 0]
    left = tmp_path / "here" / "of an earlier process"
    left.parent.mkdir()
    left.touch()
    arrivals = Arrivals(tmp_path / "here")
    for _, name, piece, digest in messages:
        arrivals.take(name, piece, digest)
    found = {
        path.relative_to(tmp_path / "here").as_posix(): path.read_bytes()
        for path in (tmp_path / "here").rglob("*")
        if path.is_file()
    }
    assert found == contents
    arrivals.clear()
    assert not (tmp_path / "here").exists()


def test_what_arrives_otherwise_or_elsewhere_is_refused(tmp_path: Path) -> None:
    arrivals = Arrivals(tmp_path / "here")
    piece = np.frombuffer(b"abc", np.uint8)
    with pytest.raises(HoneloopError, match="did not arrive as it was sent"):
        arrivals.take("a", piece, hashlib.sha256(b"abd").hexdigest())
    with pytest.raises(HoneloopError, match=r"by the name '\.\./a'"):
        arrivals.take("../a", piece, None)
    assert not (tmp_path / "a").exists()


def test_a_model_is_brought_whole_or_not_at_all(tmp_path: Path) -> None:
    arrived, directory = tmp_path / "key.work" / "model", tmp_path / "key"
    (arrived / "model").mkdir(parents=True)
    (arrived / "model" / "weights").write_text("new")
    with pytest.raises(HoneloopError, match="did not arrive whole"):
        bring(arrived, directory)
    assert not directory.exists()
    (arrived / "account.json").write_text("{}")
    directory.mkdir()
    (directory / "of an earlier training").touch()
    bring(arrived, directory)
    assert handed_over(directory)
    assert sorted(path.name for path in directory.iterdir()) == ["account.json", "model"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "key", "key.work"]
