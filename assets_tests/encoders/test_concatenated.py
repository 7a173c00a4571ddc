"""`qodo+jina` on small models of its architectures: loading, training one member, the checkpoint of both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModel

from assets_tests.encoders.small_models import JINA, QODO, use_hub
from assets_tests.training.click_pairs import make_set, plain_pairs
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.files import DamagedModelError
from pipeline.encoders.loading import load_encoder, version_of
from pipeline.progress import Silent
from pipeline.training.checkpoints import Checkpoint, verify_checkpoint, write_checkpoint
from pipeline.training.fine_tuning import fine_tune

TEXTS = ["def one(): return 1", "read the rows of a csv file", "größe = 名前"]
Vectors = NDArray[np.float32]


def snapshot(hub: Path, member: Any) -> Path:
    name = member.source.removeprefix("hub:").replace("/", "--")
    return hub / f"models--{name}" / "snapshots" / member.revision


def by_hand(directory: Path, texts: list[str], pooling: str, adapter: str | None = None) -> Vectors:
    """Vectors by transformers alone, a text at a time, the adapter added into the weights."""
    model = AutoModel.from_pretrained(str(directory), dtype=torch.float32).eval()
    if adapter is not None:
        tensors = load_file(directory / adapter / "adapter_model.safetensors")
        weights = {name: parameter.data for name, parameter in model.named_parameters()}
        for key, a in tensors.items():
            if key.endswith(("lora_A.weight", "lora_embedding_A")):
                b = tensors[key.replace("lora_A", "lora_B").replace("embedding_A", "embedding_B")]
                layer = key.removeprefix("base_model.model.").partition(".lora_")[0]
                change = b @ a  # alpha equals the rank
                weights[f"{layer}.weight"] += change.t() if "embedding" in key.rpartition(".")[2] else change
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    rows: list[Vectors] = []
    with torch.inference_mode():
        for text in texts:
            tokens = model(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0]
            rows.append((tokens[-1] if pooling == "last" else tokens.mean(dim=0)).numpy())
    return unit(np.stack(rows))


def unit(vectors: Vectors) -> Vectors:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def halves(vectors: Vectors) -> tuple[Vectors, Vectors]:
    return unit(vectors[:, : QODO.dims]), unit(vectors[:, QODO.dims :])


def test_it_is_both_models_side_by_side_each_with_its_prompt_and_adapter(
    qodo_jina: Encoder, small_hub_directory: Path
) -> None:
    assert qodo_jina.dims == 2560
    assert [member.dims for member in qodo_jina.spec.members] == [1536, 1024]
    assert [member.trainable for member in qodo_jina.spec.members] == [True, False]
    assert (qodo_jina.device, qodo_jina.dtype) == ("cpu", "float32")
    assert qodo_jina.backends == ("torch", "torch")
    qodo = by_hand(snapshot(small_hub_directory, QODO), TEXTS, "last")
    vectors: dict[str, Vectors] = {}
    for role, embed in (("query", qodo_jina.embed_queries), ("document", qodo_jina.embed_documents)):
        prompted = [getattr(JINA, f"{role}_prompt") + text for text in TEXTS]
        jina = by_hand(
            snapshot(small_hub_directory, JINA), prompted, "mean", getattr(JINA, f"{role}_adapter")
        )
        vectors[role] = embed(TEXTS)
        expected = np.concatenate([qodo, jina], axis=1) / np.sqrt(2)
        np.testing.assert_allclose(vectors[role], expected, rtol=0, atol=1e-5)
    of_query, of_document = halves(vectors["query"])[1], halves(vectors["document"])[1]
    assert np.abs(of_query - of_document).max() > 1e-2  # the roles differ in what they should


def test_the_order_of_members_is_another_model(small_hub: Path, qodo_jina: Encoder) -> None:
    assert version_of("qodo+jina") == qodo_jina.version
    assert len({version_of(name) for name in ("qodo+jina", "jina+qodo", "qodo", "jina")}) == 4


@pytest.mark.parametrize(("member", "other"), [(QODO, JINA), (JINA, QODO)], ids=["qodo", "jina"])
def test_a_model_of_other_dims_in_a_members_place_is_refused(
    small_hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: Any, other: Any
) -> None:
    shutil.copytree(snapshot(small_hub, other).parents[1], tmp_path / snapshot(small_hub, member).parts[-3])
    for wrong in (QODO, JINA):
        repository = snapshot(small_hub, wrong).parents[1]
        if wrong is other:
            shutil.copytree(repository, tmp_path / repository.name, symlinks=True)
    placed = tmp_path / snapshot(small_hub, member).parts[-3] / "snapshots"
    (placed / other.revision).rename(placed / member.revision)
    # An adapter folder that is not there would be missed first.
    for folder in member.adapters:
        shutil.copytree(
            snapshot(small_hub, member) / folder, placed / member.revision / folder, dirs_exist_ok=True
        )
    use_hub(tmp_path, monkeypatch)
    with pytest.raises(DamagedModelError, match=f"{member.dims} are expected") as error:
        load_encoder("qodo+jina", device="cpu")
    assert str(placed) in error.value.message


@pytest.fixture(scope="module")
def trained(
    qodo_jina: Encoder, small_hub_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Checkpoint:
    """Its trainable member trained a little, and the checkpoint of that."""
    home = tmp_path_factory.mktemp("trained")
    settings = Settings(
        home=home, device="cpu", train_batch_size=8, train_max_tokens=24, validations_per_epoch=1
    )
    pairs = make_set([*plain_pairs(24, "train"), *plain_pairs(8, "validation", 24)])
    with pytest.MonkeyPatch.context() as patch:
        use_hub(small_hub_directory, patch)
        fine_tuned = fine_tune(qodo_jina, pairs, settings, home / "work", Silent())
        return write_checkpoint(fine_tuned, qodo_jina, pairs, settings.checkpoints_path)


@pytest.mark.usefixtures("small_hub")
def test_training_changes_the_trainable_member_and_no_other(trained: Checkpoint, qodo_jina: Encoder) -> None:
    encoder = load_encoder(str(trained.path), device="cpu")
    assert encoder.version == trained.version != qodo_jina.version
    assert encoder.dims == 2560
    assert [member.source for member in encoder.spec.members] == ["checkpoint:model", JINA.source]
    before, after = halves(qodo_jina.embed_queries(TEXTS)), halves(encoder.embed_queries(TEXTS))
    assert np.abs(before[0] - after[0]).max() > 1e-3
    np.testing.assert_allclose(before[1], after[1], rtol=0, atol=1e-6)
    assert {path.name for path in trained.path.iterdir()} == {
        "model",
        "manifest.json",
        "probe.json",
        "spec.json",
        "training_curve.png",
    }


def test_one_manifest_has_both_members(trained: Checkpoint, qodo_jina: Encoder) -> None:
    members = trained.manifest["members"]
    assert [(each["source"], each["dims"]) for each in members] == [
        ("checkpoint:model", 1536),
        (JINA.source, 1024),
    ]
    assert members[1]["revision"] == JINA.revision
    frozen = {name: digest for name, digest in qodo_jina.files.items() if name.startswith("1/")}
    assert {f"1/{name}": digest for name, digest in members[1]["files"].items()} == frozen
    assert {"tokenizer.json", "model.safetensors", "retrieval_query/adapter_model.safetensors"} <= set(
        members[1]["files"]
    )


def fewer(manifest: Any) -> None:
    del manifest["spec"]["members"][1]


def reordered(manifest: Any) -> None:
    manifest["spec"]["members"].reverse()


def resized(manifest: Any) -> None:
    manifest["spec"]["members"][1]["dims"] = 512


def exchanged(manifest: Any) -> None:
    manifest["spec"]["members"][1]["source"] = QODO.source
    manifest["spec"]["members"][1] |= {"revision": QODO.revision, "query_adapter": None}
    manifest["spec"]["members"][1]["document_adapter"] = None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (fewer, r"is of an encoder of 2 members, and its spec has 1"),
        (reordered, r"Member 1 of .* has the source checkpoint:model, and its spec says hub:jinaai"),
        (resized, r"Member 2 of .* has the dims 1024, and its spec says 512"),
        (exchanged, r"Member 2 of .* has the source hub:jinaai.*, and its spec says hub:Qodo"),
    ],
)
def test_a_manifest_whose_members_are_not_those_it_was_made_with_is_refused(
    trained: Checkpoint, small_hub: Path, tmp_path: Path, change: Callable[[Any], None], says: str
) -> None:
    copied = tmp_path / "checkpoint"
    shutil.copytree(trained.path, copied)
    manifest = json.loads((copied / "manifest.json").read_text("utf-8"))
    change(manifest)
    (copied / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(DamagedModelError, match=says):
        load_encoder(str(copied), device="cpu")


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "model.safetensors", "retrieval_passage/adapter_model.safetensors"]
)
def test_a_frozen_member_that_is_no_longer_the_same_is_refused_by_name(
    trained: Checkpoint, small_hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As after another upload to the same place: whole, readable, and not what was trained beside."""
    shutil.copytree(small_hub, tmp_path / "hub", symlinks=True)
    file = snapshot(tmp_path / "hub", JINA) / name
    content = bytearray(file.read_bytes())
    if name == "tokenizer.json":
        content += b"\n"
    else:
        content[-1] ^= 1
    # Not through the link: the blob is shared with every other test.
    file.unlink()
    file.write_bytes(content)
    use_hub(tmp_path / "hub", monkeypatch)
    with pytest.raises(DamagedModelError, match=f"Member 2 of .*{JINA.source}.*: {name} is another"):
        load_encoder(str(trained.path), device="cpu")
    (problem,) = verify_checkpoint(trained.path)
    assert name in problem
