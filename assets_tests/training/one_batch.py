"""The loss of one batch and its gradient: by our own code, and by Sentence Transformers'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from pipeline.encoders.encoder import Encoder
from pipeline.training.batches import PairCollator, token_table
from pipeline.training.guide import Guide
from pipeline.training.losses import embed_batch
from pipeline.training.pairs import Pair


def with_own_negatives(pairs: list[Pair]) -> list[Pair]:
    """Pairs whose snippets are all different, each with a negative that no other pair has."""
    chosen = [pair for pair in pairs if pair.negatives]
    seen: set[bytes] = set()
    kept: list[Pair] = []
    for pair in chosen:
        hashes = {pair.positive_hash, pair.negatives[0].content_hash}
        if not hashes & seen:
            seen |= hashes
            kept.append(pair)
    return kept[:4]


MAX_TOKENS = 48  # enough to tell the losses apart, and quick


def computed(
    encoder: Encoder,
    pairs: list[Pair],
    loss: Callable[..., torch.Tensor],
    *,
    cached: bool = False,
    guide: Guide | None = None,
    chunk_tokens: int = 1024,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of one batch of `pairs`, and its gradient by the word embeddings."""
    # Evaluation mode: dropout would make every pass another.
    model = encoder.sentence_transformer().eval()
    model.requires_grad_(True)
    texts = [t for p in pairs for t in (p.query, p.positive_text, *(n.text for n in p.negatives))]
    tokens = replace(token_table(model, texts, MAX_TOKENS), chunk_tokens=chunk_tokens)
    batch = PairCollator(pairs, tokens, guide=guide)([{"row": row} for row in range(len(pairs))])
    value = loss(*embed_batch(model, batch, cached=cached), batch)
    value.backward()
    return value.detach(), gradient_of(model)


def reference(encoder: Encoder, pairs: list[Pair], make: Callable[[Any], Any]) -> tuple[Any, Any]:
    """The same by one of Sentence Transformers' losses, each column in a pass of its own."""
    model = encoder.sentence_transformer().eval()
    model.requires_grad_(True)
    columns = [
        [pair.query for pair in pairs],
        [pair.positive_text for pair in pairs],
        [pair.negatives[0].text for pair in pairs],
    ]
    features = [dict(model.preprocess(column, max_length=MAX_TOKENS)) for column in columns]
    value = make(model)(features, None)
    value.backward()
    return value.detach(), gradient_of(model)


def gradient_of(model: Any) -> torch.Tensor:
    return next(p.grad for name, p in model.named_parameters() if name.endswith("word_embeddings.weight"))
