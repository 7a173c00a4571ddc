"""LoRA adapters learn, and merged into the weights they compute what they computed beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import Qwen2Model

from assets_tests.training.click_pairs import make_set
from assets_tests.training.notes import Notes
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.linear import TrainableLinear
from pipeline.encoders.loading import load_encoder
from pipeline.errors import HoneloopError
from pipeline.progress import Silent
from pipeline.training.adapters import (
    Adapters,
    checkpoint_gradients,
    parameter_count,
    set_trained_tensors,
    trained_tensors,
)
from pipeline.training.batches import PairCollator, token_table
from pipeline.training.checkpoints import write_checkpoint
from pipeline.training.fine_tuning import fine_tune
from pipeline.training.history import losses, validation_change
from pipeline.training.losses import embed_batch, ranking_loss
from pipeline.training.pairs import Pair, TrainingSet


def test_merged_vectors_equal_those_of_the_adapters_beside_the_weights(
    minilm: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where oneDNN computes; it does on other processors, too.
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    texts = ["read a file", "def read(path):\n    return open(path).read()"]
    model = minilm.sentence_transformer()
    names = list(model.state_dict())
    adapters = Adapters(model, 4)
    trained = trained_tensors(model)
    assert all("lora_" in name for name in trained)
    assert 0 < sum(tensor.numel() for tensor in trained.values()) < 0.02 * parameter_count(model)
    # The adapters' own products are oneDNN's, too.
    assert {type(m) for m in model.modules() if isinstance(m, nn.Linear)} == {TrainableLinear}
    model.eval()
    before = minilm.embed_documents(texts)
    # Untrained adapters change nothing.
    np.testing.assert_allclose(model.encode(texts), before, atol=1e-5)
    torch.manual_seed(1)
    set_trained_tensors(model, {name: torch.randn_like(tensor) * 0.05 for name, tensor in trained.items()})
    beside = model.encode(texts)
    adapters.merge()
    np.testing.assert_allclose(model.encode(texts), beside, atol=1e-6)
    assert np.abs(beside - before).max() > 1e-2
    assert list(model.state_dict()) == names
    assert {type(m) for m in model.modules() if isinstance(m, nn.Linear)} == {TrainableLinear}


def test_a_model_trained_by_lora_is_a_plain_checkpoint(
    minilm: Encoder, click_set: TrainingSet, small: Settings, tmp_path: Path
) -> None:
    settings = small.model_copy(update={"lora_rank": 8, "train_epochs": 2, "validations_per_epoch": 1})
    progress = Notes()
    tuned = fine_tune(minilm, click_set, settings, tmp_path / "lora.work", progress)
    assert tuned.lora_rank == 8
    assert any(note.startswith("LoRA of rank 8: ") for note in progress.notes)
    values = losses(tuned.history)
    assert sum(values[-4:]) < 0.9 * sum(values[:4])
    change = validation_change(tuned.history)
    assert change is not None
    assert change[1] >= change[0]
    # Adapters learn at a rate of their own.
    assert max(row["learning_rate"] for row in tuned.history if "loss" in row) == pytest.approx(5e-4)
    checkpoint = write_checkpoint(tuned, minilm, click_set, tmp_path / "checkpoints")
    assert checkpoint.manifest["lineage"]["lora_rank"] == 8
    encoder = load_encoder(str(checkpoint.path), device="cpu")
    texts = [pair.positive_text for pair in click_set.pairs[:4]]
    np.testing.assert_allclose(encoder.embed_documents(texts), tuned.model.encode(texts), atol=1e-5)


@pytest.mark.slow
def test_how_large_a_large_encoder_is_is_a_setting(
    minilm: Encoder, click_set: TrainingSet, small: Settings, tmp_path: Path
) -> None:
    settings = small.model_copy(
        update={"large_encoder_parameters": 20_000_000, "validations_per_epoch": 1, "train_batch_size": 24}
    )
    tuned = fine_tune(minilm, click_set, settings, tmp_path / "training.work", Silent())
    assert tuned.lora_rank == 16


def test_weights_of_another_model_are_refused(minilm: Encoder) -> None:
    model = minilm.sentence_transformer()
    with pytest.raises(HoneloopError, match="not those of this model"):
        set_trained_tensors(model, {"weight": torch.zeros(2)})


@pytest.mark.parametrize("rank", [0, 4])
def test_checkpointed_gradients_are_the_same(minilm: Encoder, click_pairs: list[Pair], rank: int) -> None:
    pairs = click_pairs[:6]

    def gradients(*, checkpointed: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = minilm.sentence_transformer().train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.1
        model.requires_grad_(True)
        if checkpointed:
            checkpoint_gradients(model)
        if rank:
            Adapters(model, rank)
        texts = [text for p in pairs for text in (p.query, p.positive_text, *(n.text for n in p.negatives))]
        batch = PairCollator(pairs, token_table(model, texts, 32))([{"row": i} for i in range(len(pairs))])
        torch.manual_seed(1)
        ranking_loss(*embed_batch(model, batch), batch, temperature=0.05).backward()
        return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    kept, computed_again = gradients(checkpointed=False), gradients(checkpointed=True)
    assert kept.keys() == computed_again.keys()
    assert all(torch.equal(kept[name], computed_again[name]) for name in kept)


def test_adapters_with_checkpointed_gradients_train_the_qwen_of_a_concatenated_encoder(
    qodo_jina: Encoder, small_hub: Path, click_pairs: list[Pair], small: Settings, tmp_path: Path
) -> None:
    pairs = make_set([*click_pairs[:16], *click_pairs[48:56]])
    settings = small.model_copy(
        update={"lora_rank": 4, "gradient_checkpointing": "on", "validations_per_epoch": 1}
    )
    tuned = fine_tune(qodo_jina, pairs, settings, tmp_path / "1.work", Silent())
    assert tuned.lora_rank == 4
    layers = next(module for module in tuned.model.modules() if isinstance(module, Qwen2Model))
    assert layers.is_activation_checkpointing
    # Gradients that are computed twice are the same.
    plain = fine_tune(
        qodo_jina,
        pairs,
        settings.model_copy(update={"gradient_checkpointing": "off"}),
        tmp_path / "2.work",
        Silent(),
    )
    assert plain.history == tuned.history

    checkpoint = write_checkpoint(tuned, qodo_jina, pairs, tmp_path / "checkpoints")
    loaded = load_encoder(str(checkpoint.path), device="cpu")
    assert loaded.version == checkpoint.version
    texts = [pair.positive_text for pair in pairs.pairs[:4]]
    before, after = (np.split(each.embed_documents(texts), [1536], axis=1) for each in (qodo_jina, loaded))
    np.testing.assert_allclose(after[0] * np.sqrt(2), tuned.model.encode(texts), atol=1e-5)
    assert np.abs(after[0] - before[0]).max() > 1e-4  # ten times what may be rounding
    np.testing.assert_allclose(after[1], before[1], atol=1e-6)


@pytest.mark.slow
def test_gradient_checkpointing_is_a_setting(
    minilm: Encoder, click_set: TrainingSet, small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.training import adapters

    asked: list[object] = []
    real = adapters.checkpoint_gradients

    def spied(model: object) -> None:
        asked.append(model)
        real(model)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(adapters, "checkpoint_gradients", spied)
    quick = small.model_copy(update={"train_batch_size": 24, "validations_per_epoch": 1})
    plain = fine_tune(minilm, click_set, quick, tmp_path / "1.work", Silent())
    assert asked == []
    always = quick.model_copy(update={"gradient_checkpointing": "on"})
    saved = fine_tune(minilm, click_set, always, tmp_path / "2.work", Silent())
    assert len(asked) == 1
    assert plain.history == saved.history
