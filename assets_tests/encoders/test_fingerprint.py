"""A model version's name: the same for the same vectors, on every machine, and another for others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assets_tests.encoders.conftest import copy_model
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.fingerprint import fingerprint
from pipeline.encoders.loading import version_of
from pipeline.encoders.spec import EncoderSpec, MemberSpec

FILES = {"model.safetensors": "a" * 64, "config.json": "b" * 64, "tokenizer.json": "c" * 64}


def spec(**changes: Any) -> EncoderSpec:
    values = {"source": "path:/models/m", "dims": 8, "max_tokens": 16, **changes}
    return EncoderSpec(name="m", members=(MemberSpec.model_validate(values),))


def test_it_is_the_same_on_every_machine() -> None:
    # Written down once: a change of this value would orphan every registered model and its vectors.
    assert fingerprint(spec(), FILES) == "9073d44e8a5a544b2cfd6ca6d502b6b230348d5f81d0caecec777500e1233a1b"


def test_neither_place_nor_name_nor_order_nor_readme_counts() -> None:
    shuffled = dict(reversed(FILES.items())) | {"README.md": "d" * 64, "vocab.txt": "e" * 64}
    elsewhere = spec(source="wheel:m/model", revision="1", trainable=False, weights_sha256="a" * 64)
    renamed = elsewhere.model_copy(update={"name": "n"})
    assert fingerprint(renamed, shuffled) == fingerprint(spec(), FILES)


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_deciding_file_counts(name: str) -> None:
    assert fingerprint(spec(), FILES | {name: "0" * 64}) != fingerprint(spec(), FILES)


@pytest.mark.parametrize(
    "change",
    [
        {"dims": 9},
        {"max_tokens": 17},
        {"pooling": "cls"},
        {"normalize": False},
        {"query_prompt": "query: "},
        {"document_prompt": "code: "},
        {"query_adapter": "query", "trainable": False},
    ],
)
def test_everything_in_the_spec_that_changes_vectors_counts(change: dict[str, Any]) -> None:
    assert fingerprint(spec(**change), FILES) != fingerprint(spec(), FILES)


def test_members_in_another_order_are_another_version() -> None:
    first = spec().members[0]
    second = first.model_copy(update={"dims": 4, "trainable": False})
    files = {f"{i}/{name}": digest for i in (0, 1) for name, digest in FILES.items()}
    one = EncoderSpec(name="m", members=(first, second))
    other = EncoderSpec(name="m", members=(second, first))
    assert fingerprint(one, files) != fingerprint(other, files)


def test_a_copied_directory_is_the_same_version_as_the_wheel(minilm: Encoder, model_copy: Path) -> None:
    assert version_of(str(model_copy)) == minilm.version


def test_a_changed_tokenizer_is_another_version(minilm: Encoder, tmp_path: Path) -> None:
    directory = copy_model(tmp_path / "model")
    tokenizer = directory / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert version_of(str(directory)) != minilm.version
