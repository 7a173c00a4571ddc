"""Small models of the very architectures of the presets `qodo` and `jina`, in a cache of the hub's client.

The real weights have 1.5 and 0.6 billion numbers and lie on the hub. These are of the same kinds of layers
and make vectors of the same length, out of the same files in the same places, with tokenizers trained on
this project's code. Their weights are random, unless one is taught a little.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import PROJECT_ROOT
from pipeline.encoders.files import sha256_of
from pipeline.encoders.presets import PRESETS
from pipeline.encoders.quiet import quiet
from pipeline.encoders.samples import SAMPLES

QODO, JINA = PRESETS["qodo+jina"].members
VOCABULARY = 3000
_RANK = 4
_LESSONS = 25


def code() -> list[str]:
    """The text of every module of the project."""
    return [path.read_text("utf-8") for path in sorted((PROJECT_ROOT / "pipeline").rglob("*.py"))]


def make_qodo(directory: Path) -> Path:
    """A Qwen2 in Sentence Transformers' layout that pools by the last token; its weights in two shards."""
    import torch
    from transformers import Qwen2Config, Qwen2Model

    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=QODO.dims,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=12,
        num_key_value_heads=2,
        max_position_embeddings=32_768,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = Qwen2Model(config)
    # A new model has zeros in the padding token's place; the real one was trained with it as the last token.
    torch.nn.init.normal_(model.embed_tokens.weight, std=0.02)
    with quiet():
        model.save_pretrained(str(directory), max_shard_size="25MB")
    _save_bpe(directory / "tokenizer.json", ["<|endoftext|>"], "$A <|endoftext|>")
    _write_json(
        directory / "tokenizer_config.json", {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    )
    modules = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    _write_json(
        directory / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules.items())
        ],
    )
    (directory / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": QODO.dims, "pooling_mode_lasttoken": True}
    _write_json(directory / "1_Pooling" / "config.json", pooling)
    return directory


def make_jina(directory: Path) -> Path:
    """A `jina_embeddings_v3` with a LoRA adapter for each role, on all that its authors put adapters on."""
    import torch
    from torch import nn
    from transformers import JinaEmbeddingsV3Config, JinaEmbeddingsV3Model

    torch.manual_seed(2)
    config = JinaEmbeddingsV3Config(
        vocab_size=VOCABULARY,
        hidden_size=JINA.dims,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=16,
    )
    model = JinaEmbeddingsV3Model(config)
    with quiet():
        model.save_pretrained(str(directory))
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    _save_bpe(directory / "tokenizer.json", special, "<s> $A </s>")
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), special, strict=True))
    _write_json(directory / "tokenizer_config.json", names)
    for folder in JINA.adapters:
        layers = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear | nn.Embedding)
        }
        _save_adapter(directory / folder, layers)
    return directory


def put_on_hub(cache: Path, name: str, revision: str, made: Path) -> Path:
    """Moves a model's files into a cache of the hub's client, as if `name` had been downloaded."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / revision
    for path in sorted(each for each in made.rglob("*") if each.is_file()):
        # Large files are named by their SHA-256, others by their git hash.
        large = path.suffix == ".safetensors"
        blob = repository / "blobs" / (sha256_of(path) if large else _git_hash(path.read_bytes()))
        link = snapshot / path.relative_to(made)
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, blob)
        link.symlink_to(blob)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision, encoding="utf-8")
    shutil.rmtree(made)
    return snapshot


def teach_samples(directory: Path) -> Path:
    """Trains the Qwen2 in a directory until it tells the sanity checks' samples apart, and little else."""
    import torch
    from tokenizers import Tokenizer
    from transformers import Qwen2Model

    texts = [text for sample in SAMPLES for text in (sample.documentation, sample.code)]
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    with quiet():
        model = Qwen2Model.from_pretrained(str(directory))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    for _ in range(_LESSONS):
        last = [model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0, -1] for text in texts]
        vectors = torch.nn.functional.normalize(torch.stack(last), dim=-1)
        questions, code = vectors[::2], vectors[1::2]
        own = torch.arange(len(SAMPLES))
        loss = torch.nn.functional.cross_entropy(questions @ code.T / 0.05, own)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with quiet():
        model.save_pretrained(str(directory), max_shard_size="25MB")
    return directory


def make_hub(cache: Path, *, taught: bool = False) -> Path:
    """A cache that has both presets' models at the commits the presets pin.

    Args:
        cache: Where.
        taught: The first of them tells the samples of the sanity checks apart, so that it may serve.
    """
    of_qodo = (lambda directory: teach_samples(make_qodo(directory))) if taught else make_qodo
    for member, make in ((QODO, of_qodo), (JINA, make_jina)):
        assert member.revision is not None
        made = make(cache / "made")
        put_on_hub(cache, member.source.removeprefix("hub:"), member.revision, made)
    return cache


def use_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `cache` the hub's, without a network, as HF_HUB_CACHE and HF_HUB_OFFLINE do for a new process."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def _save_bpe(path: Path, special: list[str], template: str) -> None:
    """A byte-level BPE trained on the project's code."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer: Any = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(iter(code()), trainer)
    used = [token for token in special if token in template]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(token, special.index(token)) for token in used]
    )
    tokenizer.save(str(path))


def _save_adapter(folder: Path, layers: Any) -> None:
    """A LoRA adapter in PEFT's format, of another change in each folder."""
    import torch
    from safetensors.torch import save_file
    from torch import nn

    generator = torch.Generator().manual_seed(int(hashlib.sha256(folder.name.encode()).hexdigest()[:8], 16))
    tensors: dict[str, torch.Tensor] = {}
    for name, layer in layers.items():
        embeds = isinstance(layer, nn.Embedding)
        inner, outer = layer.weight.shape if embeds else reversed(layer.weight.shape)
        a, b = ("lora_embedding_A", "lora_embedding_B") if embeds else ("lora_A.weight", "lora_B.weight")
        prefix = f"base_model.model.{name}."
        tensors[prefix + a] = torch.randn(_RANK, inner, generator=generator) * 0.02
        tensors[prefix + b] = torch.randn(outer, _RANK, generator=generator) * 0.02
    folder.mkdir()
    _write_json(
        folder / "adapter_config.json",
        {
            "peft_type": "LORA",
            "r": _RANK,
            "lora_alpha": _RANK,
            "bias": "none",
            "target_modules": sorted(layers),
        },
    )
    save_file(tensors, folder / "adapter_model.safetensors")


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
