"""A checkpoint is the model it was made of, is put in place whole or not at all, and notices damage."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import PROJECT_ROOT, Settings
from pipeline.encoders.building import build_member
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.files import DamagedModelError
from pipeline.encoders.loading import load_encoder
from pipeline.encoders.sources import locate
from pipeline.encoders.spec import EncoderSpec
from pipeline.errors import HoneloopError
from pipeline.training import checkpoints
from pipeline.training.checkpoints import (
    CURVE,
    Checkpoint,
    find_checkpoint,
    verify_checkpoint,
    write_checkpoint,
)
from pipeline.training.convergence import convergence_by
from pipeline.training.fine_tuning import FineTuned
from pipeline.training.handover import hand_over, take_over
from pipeline.training.pairs import TrainingSet
from pipeline.training.recipe import recipe_of
from pipeline.training.recipe_key import recipe_key

Trained = tuple[FineTuned, Settings]


@pytest.fixture(scope="module")
def written(
    trained: Trained, minilm: Encoder, click_set: TrainingSet, tmp_path_factory: pytest.TempPathFactory
) -> Checkpoint:
    """A checkpoint that no test changes."""
    directory = tmp_path_factory.mktemp("checkpoints")
    return write_checkpoint(trained[0], minilm, click_set, directory)


@pytest.fixture
def copied(written: Checkpoint, tmp_path: Path) -> Checkpoint:
    """A copy to be damaged, where `Settings(home=tmp_path)` has its checkpoints."""
    path = tmp_path / "checkpoints" / written.version
    shutil.copytree(written.path, path)
    return Checkpoint(written.version, path, written.manifest)


def change_byte(path: Path, position: int = -100) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def visible(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != ".lock")


def test_loaded_again_it_is_the_same_model(
    written: Checkpoint, trained: Trained, minilm: Encoder, click_set: TrainingSet
) -> None:
    encoder = load_encoder(str(written.path), device="cpu")
    assert encoder.version == written.version == written.path.name != minilm.version
    texts = [pair.positive_text for pair in click_set.pairs[:6]]
    expected = trained[0].model.encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(encoder.embed_documents(texts), expected, atol=1e-5)
    assert np.abs(encoder.embed_documents(texts) - minilm.embed_documents(texts)).max() > 1e-3
    assert encoder.max_tokens == minilm.max_tokens
    assert verify_checkpoint(written.path) == []


def test_the_manifest_says_where_it_came_from(
    written: Checkpoint, trained: Trained, minilm: Encoder, click_set: TrainingSet
) -> None:
    fine_tuned, settings = trained
    manifest = json.loads((written.path / "manifest.json").read_text("utf-8"))
    assert manifest == written.manifest
    lineage = manifest["lineage"]
    assert lineage["base_version"] == minilm.version
    assert lineage["training_set"]["fingerprint"] == click_set.fingerprint
    assert lineage["recipe_key"] == recipe_key(click_set, minilm.version, settings)
    assert lineage["recipe"] == recipe_of(settings).to_json()
    assert lineage["recipe"]["seed"] == settings.seed
    assert [stage["epochs"] for stage in lineage["recipe"]["stages"]] == [2, 4]
    (stage,) = lineage["stages"]
    assert (stage["pairs"], stage["origins"], stage["replayed"]) == (48, {"docstring": 48}, 0)
    assert lineage["libraries"]["torch"]
    assert lineage["code_version"]
    assert lineage["device"] == "cpu"
    assert lineage["history"] == fine_tuned.history
    assert lineage["convergence"] == convergence_by(settings, fine_tuned.history, apart=False).to_json()
    assert [each["steps"] for each in lineage["convergence"]["stages"]] == [12]
    assert (lineage["lora_rank"], lineage["processes"], lineage["resumed_at"]) == (0, 1, [])
    # The curves, for people: its loss decides nothing.
    assert (written.path / CURVE).read_bytes().startswith(b"\x89PNG")
    assert CURVE not in manifest["files"]
    before, best = (manifest["metrics"]["validation"][name]["ndcg@10"] for name in ("before", "best"))
    assert before == fine_tuned.history[0]["ndcg@10"]
    assert 0 < best <= 1
    assert manifest["metrics"]["loss"]["last"] < manifest["metrics"]["loss"]["first"]
    spec = json.loads((written.path / "spec.json").read_text("utf-8"))
    assert EncoderSpec.model_validate(spec) == load_encoder(str(written.path), device="cpu").spec


def test_weights_are_safetensors_and_every_file_is_listed(written: Checkpoint) -> None:
    files = {path.relative_to(written.path).as_posix() for path in written.path.rglob("*") if path.is_file()}
    listed = {*written.manifest["files"], *written.manifest["records"], "manifest.json"}
    assert files == listed
    assert {Path(name).suffix for name in files} == {".json", ".png", ".safetensors"}
    assert visible(written.path.parent) == [written.version]


def test_by_way_of_the_handover_it_is_the_same_version(
    written: Checkpoint, trained: Trained, minilm: Encoder, click_set: TrainingSet, tmp_path: Path
) -> None:
    hand_over(trained[0], tmp_path / "handover")
    taken = take_over(tmp_path / "handover", "cpu")
    assert taken.history == trained[0].history
    again = write_checkpoint(taken, minilm, click_set, tmp_path / "checkpoints")
    assert again.version == written.version


@pytest.mark.parametrize(
    ("name", "position"),
    [("model/model.safetensors", -100), ("model/tokenizer.json", 5000), ("model/1_Pooling/config.json", 5)],
)
def test_a_changed_file_is_refused_by_name(copied: Checkpoint, name: str, position: int) -> None:
    change_byte(copied.path / name, position)
    with pytest.raises(DamagedModelError, match=Path(name).name):
        load_encoder(str(copied.path), device="cpu")
    (problem,) = verify_checkpoint(copied.path)
    assert str(copied.path / name) in problem


def test_truncated_weights_are_refused_by_name(copied: Checkpoint) -> None:
    weights = copied.path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4096])
    with pytest.raises(DamagedModelError, match=r"model\.safetensors is truncated"):
        load_encoder(str(copied.path), device="cpu")


@pytest.mark.parametrize("name", ["probe.json", "spec.json", "manifest.json", "model/config.json"])
def test_a_missing_file_is_a_problem_with_a_name(copied: Checkpoint, name: str) -> None:
    (copied.path / name).unlink()
    (problem,) = verify_checkpoint(copied.path)
    assert str(copied.path / name) in problem


def test_vectors_that_are_not_the_models_are_noticed(copied: Checkpoint) -> None:
    # As if the weights had been written wrongly: all hashes hold, and the vectors are others.
    probe = copied.path / "probe.json"
    content = json.loads(probe.read_text("utf-8"))
    content["document_vectors"][2][7] += 1e-4
    probe.write_text(json.dumps(content), encoding="utf-8")
    manifest = json.loads((copied.path / "manifest.json").read_text("utf-8"))
    manifest["records"]["probe.json"] = checkpoints.sha256_of(probe)
    (copied.path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (problem,) = verify_checkpoint(copied.path)
    assert "vectors of the documents" in problem
    assert "1.0e-04" in problem


def test_a_model_that_does_not_come_back_the_same_is_not_put_in_place(
    trained: Trained,
    minilm: Encoder,
    click_set: TrainingSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take = checkpoints.take_probe

    def another(*arguments: Any) -> dict[str, Any]:
        probe = take(*arguments)
        return {**probe, "query_vectors": probe["document_vectors"]}

    monkeypatch.setattr(checkpoints, "take_probe", another)
    with pytest.raises(HoneloopError, match="does not give the model's vectors"):
        write_checkpoint(trained[0], minilm, click_set, tmp_path)
    assert visible(tmp_path) == []


def test_another_base_is_refused(
    written: Checkpoint, trained: Trained, click_set: TrainingSet, tmp_path: Path
) -> None:
    other = load_encoder(str(written.path), device="cpu")
    with pytest.raises(HoneloopError, match="was trained from"):
        write_checkpoint(trained[0], other, click_set, tmp_path)


def test_a_checkpoint_that_is_there_stays_as_it_is(
    copied: Checkpoint, trained: Trained, minilm: Encoder, click_set: TrainingSet, tmp_path: Path
) -> None:
    before = (copied.path / "manifest.json").stat()
    settings = trained[1].model_copy(update={"home": tmp_path, "early_stopping_patience": 9})
    other = replace(trained[0], recipe_key=recipe_key(click_set, minilm.version, settings))
    again = write_checkpoint(other, minilm, click_set, tmp_path / "checkpoints")
    assert again == copied
    assert (copied.path / "manifest.json").stat().st_ino == before.st_ino
    # Both recipes are known to give it from now on.
    for each in (settings, trained[1].model_copy(update={"home": tmp_path})):
        found = find_checkpoint(each, recipe_key(click_set, minilm.version, each))
        assert found is not None
        assert found.path == copied.path
    assert visible(tmp_path / "checkpoints") == [copied.version]
    assert verify_checkpoint(copied.path) == []


def test_a_damaged_one_is_not_found_and_is_replaced_by_a_whole_one(
    copied: Checkpoint, trained: Trained, minilm: Encoder, click_set: TrainingSet, tmp_path: Path
) -> None:
    settings = trained[1].model_copy(update={"home": tmp_path})
    key = recipe_key(click_set, minilm.version, settings)
    assert find_checkpoint(settings, key) == copied
    change_byte(copied.path / "model" / "model.safetensors")
    assert find_checkpoint(settings, key) is None
    write_checkpoint(trained[0], minilm, click_set, tmp_path / "checkpoints")
    assert verify_checkpoint(copied.path) == []
    assert find_checkpoint(settings, key) is not None
    assert visible(tmp_path / "checkpoints") == [copied.version]


def test_another_recipe_finds_nothing(copied: Checkpoint, tmp_path: Path) -> None:
    assert copied.path.is_dir()
    assert find_checkpoint(Settings(home=tmp_path), "0" * 64) is None
    assert find_checkpoint(Settings(home=tmp_path / "nowhere"), "0" * 64) is None


def test_something_else_in_the_way_is_left_alone(
    written: Checkpoint, trained: Trained, minilm: Encoder, click_set: TrainingSet, tmp_path: Path
) -> None:
    own = tmp_path / written.version / "notes.txt"
    own.parent.mkdir()
    own.write_text("mine", encoding="utf-8")
    with pytest.raises(HoneloopError, match=r"in the way of the checkpoint .* not a checkpoint"):
        write_checkpoint(trained[0], minilm, click_set, tmp_path)
    assert own.read_text("utf-8") == "mine"
    assert visible(tmp_path) == [written.version]


def test_a_place_that_cannot_be_written_to_is_said_clearly(
    trained: Trained, minilm: Encoder, click_set: TrainingSet, tmp_path: Path
) -> None:
    file = tmp_path / "checkpoints"
    file.write_text("", encoding="utf-8")
    with pytest.raises(HoneloopError, match="could not be written") as failure:
        write_checkpoint(trained[0], minilm, click_set, file)
    assert str(file) in failure.value.message


def test_a_full_disk_is_said_clearly_before_anything_is_written(
    trained: Trained,
    minilm: Encoder,
    click_set: TrainingSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(HoneloopError, match=r"disk of .* is full\. 9\d MB are needed"):
        write_checkpoint(trained[0], minilm, click_set, tmp_path)
    assert visible(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this system has no /dev/full")
def test_a_disk_that_fills_up_while_writing_is_said_clearly(tmp_path: Path) -> None:
    with (
        pytest.raises(HoneloopError, match="is full") as failure,
        checkpoints._clear_errors(tmp_path),
        Path("/dev/full").open("w", encoding="utf-8") as full,
    ):
        full.write("{}")
    assert "Make room" in failure.value.hint


# The writer is killed at the moment its files would be put in place.
KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from assets_tests.training.click_pairs import make_set, plain_pairs
from pipeline.config import Settings
from pipeline.encoders.loading import load_encoder
from pipeline.training.checkpoints import write_checkpoint
from pipeline.training.fine_tuning import FineTuned
from pipeline.training.recipe import recipe_of

base = load_encoder("minilm", device="cpu")
settings = Settings(home=Path(sys.argv[1]), device="cpu")
model = base.sentence_transformer()
untrained = FineTuned(
    model=model, recipe_key="0" * 64, base_version=base.version, history=[{"step": 1, "loss": 1.0}],
    best_step=1, device="cpu", seconds=0.0, recipe=recipe_of(settings).to_json(), stages=[], validation={},
    merging=[], averaging={}, peak_memory_bytes=0, convergence={"overfitting": []}, lora_rank=0, processes=1,
    resumed_at=[],
)
os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write_checkpoint(untrained, base, make_set(plain_pairs(8, "train")), settings.checkpoints_path)
"""


def test_a_killed_writer_leaves_nothing_that_looks_like_a_checkpoint(
    trained: Trained, minilm: Encoder, click_set: TrainingSet, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", KILLED_WRITER, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT_ROOT)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    directory = tmp_path / "checkpoints"
    (leftover,) = visible(directory)
    assert leftover.startswith(".unfinished-")
    assert (directory / leftover / "model" / "model.safetensors").is_file()
    settings = trained[1].model_copy(update={"home": tmp_path})
    key = json.loads((directory / leftover / "manifest.json").read_text("utf-8"))["lineage"]["recipe_key"]
    assert find_checkpoint(settings, key) is None
    # The next writer clears it away.
    checkpoint = write_checkpoint(trained[0], minilm, click_set, directory)
    assert visible(directory) == [checkpoint.version]


def test_weights_that_cannot_be_written_are_said_clearly(
    trained: Trained, minilm: Encoder, click_set: TrainingSet, tmp_path: Path
) -> None:
    # The system itself refuses: no file may grow over a megabyte.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(HoneloopError, match=r"could not be written to .*: .*File too large"):
            write_checkpoint(trained[0], minilm, click_set, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert visible(tmp_path) == []


def test_of_several_members_only_the_trained_one_is_written(
    trained: Trained, minilm: Encoder, click_set: TrainingSet, tmp_path: Path
) -> None:
    member = minilm.spec.members[0]
    frozen = member.model_copy(update={"trainable": False})
    spec = EncoderSpec(name="minilm+minilm", members=(frozen, member))
    built = [build_member(each, locate(each), "cpu") for each in spec.members]
    files = {f"{n}/{name}": digest for n in (0, 1) for name, digest in minilm.files.items()}
    both = Encoder(spec, built, files)
    fine_tuned = replace(trained[0], base_version=both.version)
    checkpoint = write_checkpoint(fine_tuned, both, click_set, tmp_path)
    encoder = load_encoder(str(checkpoint.path), device="cpu")
    assert encoder.version == checkpoint.version
    assert [each.source for each in encoder.spec.members] == [member.source, "checkpoint:model"]
    texts = [pair.query for pair in click_set.pairs[:3]]
    halves = np.split(encoder.embed_queries(texts) * np.sqrt(2), 2, axis=1)
    np.testing.assert_allclose(halves[0], minilm.embed_queries(texts), atol=1e-5)
    tuned = trained[0].model.encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(halves[1], tuned, atol=1e-5)
