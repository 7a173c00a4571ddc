"""From a name to an encoder: presets, directories, checkpoints and the hub's cache; silent, offline, lazy."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assets_tests.encoders.conftest import FILES, MODEL, copy_model
from pipeline.encoders.directories import spec_for_directory
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.files import DamagedModelError, sha256_of, weights_digest
from pipeline.encoders.fingerprint import fingerprint
from pipeline.encoders.loading import load_encoder, token_budget, version_of
from pipeline.encoders.presets import PRESETS
from pipeline.encoders.quiet import quiet
from pipeline.errors import BadInputError, HoneloopError

TEXTS = ["def one(): return 1", "read the rows of a csv file"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def same_vectors(one: Encoder, other: Encoder) -> bool:
    return bool(np.abs(one.embed_documents(TEXTS) - other.embed_documents(TEXTS)).max() < 1e-6)


# Names


def test_an_unknown_name_lists_the_presets(tmp_path: Path) -> None:
    for name in ("minilmm", str(tmp_path / "nowhere"), "org/name"):
        with pytest.raises(BadInputError) as error:
            load_encoder(name)
        assert name in error.value.message
        assert all(preset in error.value.hint for preset in PRESETS)


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:12]])
def test_a_hub_model_needs_a_full_commit(revision: str, no_network: list[Any]) -> None:
    with pytest.raises(BadInputError, match="full commit hash") as error:
        load_encoder(f"org/name@{revision}")
    assert "https://huggingface.co/org/name/commits/main" in error.value.hint
    assert not no_network


# Silent, offline, lazy


def test_the_preset_in_the_wheel_never_asks_the_network(no_network: list[Any]) -> None:
    encoder = load_encoder("minilm", device="cpu")
    assert encoder.embed_queries(TEXTS).shape == (2, encoder.dims)
    encoder.sentence_transformer()
    assert not no_network


def test_loading_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    load_encoder("minilm", device="cpu").sentence_transformer()
    assert capfd.readouterr() == ("", "")


def test_torch_is_imported_only_to_compute() -> None:
    script = (
        "import sys\n"
        "from pipeline.encoders.loading import token_budget, version_of\n"
        "budget = token_budget('minilm')\n"
        "assert budget.count(['read a file', '']) == [5, 2], budget.count(['read a file', ''])\n"
        "version_of('minilm')\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_token_budget_counts_as_the_encoder_does(minilm: Encoder, functions: list[str]) -> None:
    budget = token_budget("minilm")
    assert budget.max_tokens == minilm.max_tokens
    assert budget.count(functions) == minilm.count_tokens(functions)


def test_the_name_of_a_token_budget_tells_tokenizers_and_limits_apart(model_copy: Path) -> None:
    assert token_budget(str(model_copy)).name == token_budget("minilm").name
    (model_copy / "sentence_bert_config.json").write_text('{"max_seq_length": 128}', encoding="utf-8")
    shorter = token_budget(str(model_copy)).name
    tokenizer = model_copy / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert len({token_budget("minilm").name, shorter, token_budget(str(model_copy)).name}) == 3


# Directories


def test_a_sentence_transformers_directory_says_what_it_is(minilm: Encoder, model_copy: Path) -> None:
    member = spec_for_directory(model_copy).members[0]
    preset = minilm.spec.members[0]
    assert member.model_copy(update={"source": "", "revision": ""}) == preset.model_copy(
        update={"source": "", "revision": "", "weights_sha256": None}
    )
    encoder = load_encoder(str(model_copy), device="cpu")
    assert encoder.version == minilm.version
    assert same_vectors(encoder, minilm)


def test_a_bare_transformers_directory_is_averaged_and_normalised(minilm: Encoder, tmp_path: Path) -> None:
    bare = tuple(name for name in FILES if name not in ("config.json", "model.safetensors", "tokenizer.json"))
    directory = copy_model(tmp_path / "bare", without=bare)
    encoder = load_encoder(str(directory), device="cpu")
    assert encoder.spec.members[0].pooling == "mean"
    assert encoder.max_tokens == 512  # all the positions that its config.json has
    assert same_vectors(encoder, minilm)


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["lasttoken"]}, "last"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
    ],
)
def test_pooling_is_read_in_old_and_new_spelling(
    model_copy: Path, config: dict[str, Any], pooling: str
) -> None:
    (model_copy / "1_Pooling" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert spec_for_directory(model_copy).members[0].pooling == pooling


def test_each_pooling_is_that_of_sentence_transformers(model_copy: Path, functions: list[str]) -> None:
    from sentence_transformers import SentenceTransformer

    for mode in ("cls", "lasttoken"):
        (model_copy / "1_Pooling" / "config.json").write_text(
            json.dumps({"embedding_dimension": 384, "pooling_mode": mode}), encoding="utf-8"
        )
        with quiet():
            reference = SentenceTransformer(str(model_copy), device="cpu", local_files_only=True)
        encoder = load_encoder(str(model_copy), device="cpu")
        texts = functions[:4]
        expected = reference.encode(texts, show_progress_bar=False)
        np.testing.assert_allclose(encoder.embed_documents(texts), expected, rtol=0, atol=1e-5)
        trained = encoder.sentence_transformer().encode(texts, show_progress_bar=False)
        np.testing.assert_allclose(trained, expected, rtol=0, atol=1e-5)


def test_a_decoder_is_pooled_by_the_last_token_and_trains_on_the_same_tokens(
    model_copy: Path, functions: list[str]
) -> None:
    """The architecture of the `qodo` preset, small and untrained; both sides compute with the same weights.

    transformers takes Qwen2's tokenizer for it, whatever its tokenizer.json holds: here, MiniLM's.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers import Qwen2Config, Qwen2Model

    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=30_522,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
    )
    decoder = Qwen2Model(config).eval()
    (model_copy / "model.safetensors").unlink()
    with quiet():
        decoder.save_pretrained(str(model_copy))
    (model_copy / "1_Pooling" / "config.json").write_text(
        json.dumps({"embedding_dimension": 64, "pooling_mode": "lasttoken"}), encoding="utf-8"
    )
    encoder = load_encoder(str(model_copy), device="cpu")
    texts = functions[:6]
    vectors = encoder.embed_documents(texts)
    assert vectors.shape == (6, 64)
    tokenizer = Tokenizer.from_file(str(model_copy / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(encoder.max_tokens)
    for text, vector in zip(texts, vectors, strict=True):
        with torch.inference_mode():
            states = decoder(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state
        expected = torch.nn.functional.normalize(states[0, -1], dim=0).numpy()
        np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-5)
    trained = encoder.sentence_transformer().encode(texts, show_progress_bar=False)
    np.testing.assert_allclose(trained, vectors, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["max", ["mean", "cls"], []])
def test_a_pooling_that_an_encoder_cannot_do_is_refused(model_copy: Path, mode: Any) -> None:
    (model_copy / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": mode}))
    with pytest.raises(HoneloopError, match="pooling"):
        load_encoder(str(model_copy))


def test_modules_that_an_encoder_cannot_do_are_refused(model_copy: Path) -> None:
    modules = json.loads((model_copy / "modules.json").read_text(encoding="utf-8"))
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (model_copy / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with pytest.raises(HoneloopError, match="Dense"):
        load_encoder(str(model_copy))


# Checkpoints


@pytest.fixture
def checkpoint(minilm: Encoder, tmp_path: Path) -> Path:
    """MiniLM as a checkpoint: a folder `model`, and a manifest that describes it."""
    directory = tmp_path / "checkpoint"
    copy_model(directory / "model")
    write_manifest(directory, minilm)
    return directory


def write_manifest(directory: Path, base: Encoder, **changes: Any) -> None:
    member = base.spec.members[0].model_copy(
        update={"source": "checkpoint:model", "revision": None, "weights_sha256": None}
    )
    spec = base.spec.model_copy(update={"name": "tuned", "members": (member,)})
    files = {f"model/{name}": sha256_of(directory / "model" / name) for name in FILES}
    manifest = {
        "format": 1,
        "version": fingerprint(spec, files),
        "spec": spec.model_dump(mode="json"),
        "files": files,
        **changes,
    }
    (directory / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_a_checkpoint_is_the_version_its_manifest_names(minilm: Encoder, checkpoint: Path) -> None:
    encoder = load_encoder(str(checkpoint), device="cpu")
    manifest = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))
    assert encoder.version == manifest["version"] == version_of(str(checkpoint))
    assert encoder.spec.name == "tuned"
    assert same_vectors(encoder, minilm)
    assert encoder.sentence_transformer().max_seq_length == minilm.max_tokens


def test_a_checkpoint_may_be_moved(checkpoint: Path, tmp_path: Path) -> None:
    before = version_of(str(checkpoint))
    moved = tmp_path / "elsewhere"
    checkpoint.rename(moved)
    assert version_of(str(moved)) == before


@pytest.mark.parametrize("name", FILES)
def test_every_listed_file_of_a_checkpoint_is_verified(checkpoint: Path, name: str) -> None:
    path = checkpoint / "model" / name
    if path.is_symlink():
        path.unlink()
        shutil.copyfile(MODEL / name, path)
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-2, os.SEEK_END)
        # White space at the end of JSON: still readable, no longer the same.
        file.write(bytes([last ^ 1 if name == "model.safetensors" else 0x0B]))
    with pytest.raises(DamagedModelError) as error:
        load_encoder(str(checkpoint), device="cpu")
    assert str(path) in error.value.message
    assert "train again" in error.value.hint


def test_a_missing_file_of_a_checkpoint_is_named(checkpoint: Path) -> None:
    (checkpoint / "model" / "special_tokens_map.json").unlink()
    with pytest.raises(DamagedModelError, match=r"model/special_tokens_map\.json is missing"):
        load_encoder(str(checkpoint))


def test_a_manifest_that_says_something_else_is_refused(minilm: Encoder, checkpoint: Path) -> None:
    manifest = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))
    spec = manifest["spec"]
    longer = {**spec, "members": [{**spec["members"][0], "max_tokens": 128}]}
    outside = {**spec, "members": [{**spec["members"][0], "source": "checkpoint:../../model"}]}
    nonsense = {**spec, "members": []}
    fewer = {name: digest for name, digest in manifest["files"].items() if "safetensors" not in name}
    for changes, says in (
        ({"version": "0" * 64}, "spec and files give"),
        ({"spec": longer}, "spec and files give"),
        ({"spec": outside}, "points outside"),
        ({"spec": nonsense}, "members"),
        ({"files": fewer}, "not listed"),
        ({"files": {**manifest["files"], "../model.safetensors": "0" * 64}}, "outside its checkpoint"),
        ({"files": {}}, "lists no files"),
        ({"format": 2}, "format 2"),
    ):
        write_manifest(checkpoint, minilm, **changes)
        with pytest.raises(DamagedModelError, match=says) as error:
            version_of(str(checkpoint))
        assert "manifest.json" in error.value.message
        assert error.value.hint
    (checkpoint / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(DamagedModelError, match=r"manifest\.json"):
        version_of(str(checkpoint))


def test_a_checkpoint_is_not_concatenated(checkpoint: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be concatenated"):
        load_encoder(f"minilm+{checkpoint}")


# The hub's cache


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[Any]) -> Path:
    """A cache as the hub's client fills it, with MiniLM as `org/minilm` at one commit; no network."""
    from huggingface_hub import constants

    repository = tmp_path / "hub" / "models--org--minilm"
    snapshot = repository / "snapshots" / COMMIT
    for name in FILES:
        digest = sha256_of(MODEL / name)
        # Large files are named by their SHA-256, others by their git hash.
        blob = repository / "blobs" / (digest if name == "model.safetensors" else digest[:40])
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(MODEL / name, blob)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blob)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return snapshot


def test_a_cached_hub_model_needs_no_network(minilm: Encoder, hub_cache: Path, no_network: list[Any]) -> None:
    del hub_cache
    encoder = load_encoder(f"org/minilm@{COMMIT}", device="cpu")
    member = encoder.spec.members[0]
    assert (member.source, member.revision) == ("hub:org/minilm", COMMIT)
    assert encoder.version == minilm.version
    assert same_vectors(encoder, minilm)
    assert not no_network


def test_a_damaged_hub_file_is_named_with_the_cache_to_delete(hub_cache: Path) -> None:
    weights = hub_cache / "model.safetensors"
    with weights.resolve().open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"\x7f")
    with pytest.raises(DamagedModelError) as error:
        load_encoder(f"org/minilm@{COMMIT}")
    assert str(weights) in error.value.message
    assert f"Delete {hub_cache.parents[1]}" in error.value.hint


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_download_cut_short_is_taken_up_again(hub_cache: Path, name: str) -> None:
    (hub_cache / name).unlink()
    # Offline it cannot be, and that is the error; a half model is not used.
    with pytest.raises(HoneloopError, match="could not be downloaded") as error:
        load_encoder(f"org/minilm@{COMMIT}")
    assert "org/minilm" in error.value.message
    assert "network" in error.value.hint


@pytest.mark.parametrize("name", ["qodo", "jina", "qodo+jina"])
def test_presets_of_the_hub_say_so_when_there_is_no_network(
    name: str, hub_cache: Path, no_network: list[Any]
) -> None:
    del hub_cache
    with pytest.raises(HoneloopError, match="could not be downloaded"):
        load_encoder(name)
    assert not no_network  # offline means not even asking


def test_a_preset_at_another_commit_keeps_what_the_preset_knows(hub_cache: Path) -> None:
    shutil.copytree(
        hub_cache.parents[1], hub_cache.parents[2] / "models--Qodo--Qodo-Embed-1-1.5B", symlinks=True
    )
    # MiniLM under Qodo's name: found, and refused because the preset says 1,536 dims.
    with pytest.raises(DamagedModelError, match="1536 are expected"):
        load_encoder(f"Qodo/Qodo-Embed-1-1.5B@{COMMIT}", device="cpu")


def test_the_digest_of_shards_depends_on_names_and_contents() -> None:
    shards = {"a.safetensors": "1" * 64, "b.safetensors": "2" * 64, "config.json": "3" * 64}
    swapped = {"a.safetensors": "2" * 64, "b.safetensors": "1" * 64}
    expected = hashlib.sha256(f"a.safetensors {'1' * 64}\nb.safetensors {'2' * 64}\n".encode()).hexdigest()
    assert weights_digest(shards) == expected != weights_digest(swapped)
