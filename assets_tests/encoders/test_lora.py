"""LoRA adapters in PEFT's format beside MiniLM's real weights: the vectors of merged weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from assets_tests.encoders.conftest import MODEL, copy_model
from pipeline.encoders.building import build_member
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.files import DamagedModelError, deciding_hashes
from pipeline.encoders.loading import load_encoder
from pipeline.encoders.sources import Located
from pipeline.encoders.spec import EncoderSpec, MemberSpec

QUERY = "encoder.layer.0.attention.self.query"
DOWN = "encoder.layer.5.output.dense"
WORDS = "embeddings.word_embeddings"
RANK, ALPHA = 4, 12
TEXTS = ["def one(): return 1", "read the rows of a csv file"]


def matrices(seed: int) -> dict[str, torch.Tensor]:
    """One adapter's tensors under PEFT's names, large enough to move every vector."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.05

    prefix = "base_model.model."
    return {
        f"{prefix}{QUERY}.lora_A.weight": random(RANK, 384),
        f"{prefix}{QUERY}.lora_B.weight": random(384, RANK),
        f"{prefix}{DOWN}.lora_A.weight": random(RANK, 1536),
        f"{prefix}{DOWN}.lora_B.weight": random(384, RANK),
        f"{prefix}{WORDS}.lora_embedding_A": random(RANK, 30522),
        f"{prefix}{WORDS}.lora_embedding_B": random(384, RANK),
    }


def write_adapter(folder: Path, tensors: dict[str, torch.Tensor], **config: Any) -> None:
    folder.mkdir()
    content = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none", **config}
    (folder / "adapter_config.json").write_text(json.dumps(content), encoding="utf-8")
    save_file(tensors, folder / "adapter_model.safetensors")


def merged(directory: Path, tensors: dict[str, torch.Tensor], scale: float) -> Encoder:
    """MiniLM with the adapter added into its weights: what the adapter stands for."""
    weights = load_file(MODEL / "model.safetensors")
    for target in (QUERY, DOWN):
        a, b = (tensors[f"base_model.model.{target}.lora_{side}.weight"] for side in "AB")
        weights[f"{target}.weight"] += scale * (b @ a)
    a, b = (tensors[f"base_model.model.{WORDS}.lora_embedding_{side}"] for side in "AB")
    weights[f"{WORDS}.weight"] += scale * (b @ a).t()
    copy_model(directory, without=("model.safetensors",))
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return load_encoder(str(directory), device="cpu")


def adapted(directory: Path, query: str | None = "query", document: str | None = "code") -> Encoder:
    spec = MemberSpec(
        source=f"path:{directory}",
        dims=384,
        max_tokens=256,
        query_adapter=query,
        document_adapter=document,
        trainable=False,
    )
    files = deciding_hashes(directory, "Copy it again.", spec.adapters)
    member = build_member(spec, Located(directory, "Copy it again."), "cpu")
    return Encoder(EncoderSpec(name="adapted", members=(spec,)), [member], files)


@pytest.fixture
def directory(model_copy: Path) -> Path:
    write_adapter(model_copy / "query", matrices(1))
    write_adapter(model_copy / "code", matrices(2), use_rslora=True)
    return model_copy


def test_each_role_has_the_vectors_of_its_merged_weights(
    minilm: Encoder, directory: Path, tmp_path: Path
) -> None:
    encoder = adapted(directory)
    for seed, scale, vectors in (
        (1, ALPHA / RANK, encoder.embed_queries(TEXTS)),
        (2, ALPHA / RANK**0.5, encoder.embed_documents(TEXTS)),
    ):
        expected = merged(tmp_path / f"merged{seed}", matrices(seed), scale).embed_documents(TEXTS)
        np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)
        assert np.abs(vectors - minilm.embed_documents(TEXTS)).max() > 1e-2


def test_a_role_without_an_adapter_has_the_plain_weights(minilm: Encoder, directory: Path) -> None:
    encoder = adapted(directory, document=None)
    np.testing.assert_allclose(
        encoder.embed_documents(TEXTS), minilm.embed_documents(TEXTS), rtol=0, atol=1e-5
    )


def test_names_of_a_model_with_a_head_are_understood(directory: Path) -> None:
    plain = adapted(directory).embed_queries(TEXTS)
    renamed = {
        name.replace("base_model.model.", "base_model.model.roberta.", 1): tensor
        for name, tensor in matrices(1).items()
    }
    save_file(renamed, directory / "query" / "adapter_model.safetensors")
    np.testing.assert_allclose(adapted(directory).embed_queries(TEXTS), plain, rtol=0, atol=1e-6)


def test_adapters_are_part_of_the_version(directory: Path) -> None:
    before = adapted(directory).version
    assert before != adapted(directory, document="query").version
    save_file(matrices(3), directory / "code" / "adapter_model.safetensors")
    assert adapted(directory).version != before


def replace(
    tensors: dict[str, torch.Tensor], ending: str, value: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith(ending)}
    return kept if value is None else kept | {f"base_model.model.{ending}": value}


@pytest.mark.parametrize(
    ("tensors", "config", "says"),
    [
        ({}, {"peft_type": "IA3"}, "not a plain LoRA adapter"),
        ({}, {"use_dora": True}, "use_dora"),
        ({}, {"bias": "all"}, "not a plain LoRA adapter"),
        ({f"{QUERY}.lora_B.weight": None}, {}, "no matching pair"),
        ({f"{QUERY}.lora_B.weight": torch.zeros(384, RANK + 1)}, {}, "no matching pair"),
        ({f"{QUERY}.lora_A.weight": torch.zeros(RANK, 383)}, {}, "384, 383"),
        ({"encoder.layer.9.output.dense.lora_A.weight": torch.zeros(RANK, 384)}, {}, "does not have"),
        ({f"{QUERY}.weight": torch.zeros(384, 384)}, {}, "not LoRA's"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    model_copy: Path, tensors: dict[str, torch.Tensor | None], config: dict[str, Any], says: str
) -> None:
    content = matrices(1)
    for ending, value in tensors.items():
        content = replace(content, ending, value)
    write_adapter(model_copy / "query", content, **config)
    with pytest.raises(DamagedModelError, match=says) as error:
        adapted(model_copy, document=None)
    assert str(model_copy / "query") in error.value.message


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_adapter_file_is_named(directory: Path, name: str) -> None:
    (directory / "code" / name).unlink()
    with pytest.raises(DamagedModelError, match=f"code/{name} is missing"):
        adapted(directory)


def test_an_adapter_beside_whole_weights_is_refused(directory: Path) -> None:
    deciding_hashes(directory, "Copy it again.")
    (directory / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DamagedModelError, match="an adapter beside whole weights") as error:
        deciding_hashes(directory, "Copy it again.")
    assert error.value.hint is not None
    assert "Merge it" in error.value.hint
