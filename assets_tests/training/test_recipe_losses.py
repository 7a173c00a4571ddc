"""Cached, guided and nested losses compute what Sentence Transformers' own do, and are of use."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import (
    CachedGISTEmbedLoss,
    CachedMultipleNegativesRankingLoss,
    GISTEmbedLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    TripletDistanceMetric,
    TripletLoss,
)

from assets_tests.training.one_batch import computed, reference, with_own_negatives
from pipeline.encoders.encoder import Encoder
from pipeline.training.batches import PairCollator, token_table
from pipeline.training.guide import Guide
from pipeline.training.losses import (
    Loss,
    embed_batch,
    matryoshka_dims,
    matryoshka_loss,
    ranking_loss,
    triplet_loss,
)
from pipeline.training.memory import peak_bytes, reset_peak
from pipeline.training.pairs import Pair

RANKING = partial(ranking_loss, temperature=0.05)
NESTED = partial(matryoshka_loss, loss=RANKING, halvings=3)
SEVERAL_CHUNKS = 96  # tokens: of the twelve texts, two to a chunk


def same(ours: tuple[torch.Tensor, torch.Tensor], theirs: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours[1], theirs[1], atol=1e-5, rtol=1e-3)
    assert float(ours[1].abs().max()) > 1e-3


@pytest.fixture(scope="module")
def pairs(click_pairs: list[Pair]) -> list[Pair]:
    """Four pairs with a negative each, short enough that no limit cuts them."""
    return [
        replace(
            pair,
            query=pair.query[:60],
            positive_text=pair.positive_text[:90],
            negatives=tuple(replace(each, text=each.text[:90]) for each in pair.negatives),
        )
        for pair in with_own_negatives(click_pairs)
    ]


@pytest.mark.parametrize("loss", [RANKING, NESTED, partial(triplet_loss, margin=0.5)])
def test_cached_gradients_are_those_of_the_whole_batch(
    minilm: Encoder, pairs: list[Pair], loss: Callable[..., torch.Tensor]
) -> None:
    whole = computed(minilm, pairs, loss, chunk_tokens=SEVERAL_CHUNKS)
    cached = computed(minilm, pairs, loss, chunk_tokens=SEVERAL_CHUNKS, cached=True)
    torch.testing.assert_close(cached, whole, atol=1e-7, rtol=1e-6)


def test_dropout_drops_the_same_when_a_chunk_is_computed_again(minilm: Encoder, pairs: list[Pair]) -> None:
    model = minilm.sentence_transformer().train()
    texts = [t for p in pairs for t in (p.query, p.positive_text, *(n.text for n in p.negatives))]
    tokens = replace(token_table(model, texts, 48), chunk_tokens=SEVERAL_CHUNKS)
    batch = PairCollator(pairs, tokens)([{"row": row} for row in range(len(pairs))])

    def gradient(*, cached: bool) -> torch.Tensor:
        model.requires_grad_(True)
        model.zero_grad()
        torch.manual_seed(3)
        RANKING(*embed_batch(model, batch, cached=cached), batch).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    whole = gradient(cached=False)
    torch.testing.assert_close(gradient(cached=True), whole, atol=1e-6, rtol=1e-5)
    assert float(whole.abs().max()) > 1e-3


def test_cached_is_sentence_transformers_cached_multiple_negatives(
    minilm: Encoder, pairs: list[Pair]
) -> None:
    ours = computed(minilm, pairs, RANKING, cached=True, chunk_tokens=SEVERAL_CHUNKS)
    same(ours, reference(minilm, pairs, lambda m: CachedMultipleNegativesRankingLoss(m, mini_batch_size=2)))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux measures a process's peak memory anew")
def test_cached_gradients_take_a_fraction_of_the_memory(minilm: Encoder, click_pairs: list[Pair]) -> None:
    model = minilm.sentence_transformer().train()
    model.requires_grad_(True)
    chosen = [pair for pair in click_pairs if pair.split == "train"][:24]
    texts = [t for p in chosen for t in (p.query, p.positive_text, *(n.text for n in p.negatives))]
    tokens = replace(token_table(model, texts, 64), chunk_tokens=256)
    batch = PairCollator(chosen, tokens)([{"row": row} for row in range(len(chosen))])
    assert len(batch["chunks"]) > 8

    def taken(*, cached: bool) -> int:
        model.zero_grad(set_to_none=False)
        reset_peak("cpu")
        before = peak_bytes("cpu")
        RANKING(*embed_batch(model, batch, cached=cached), batch).backward()
        return peak_bytes("cpu") - before

    taken(cached=True)  # the first time, there are no gradients to write into yet
    cached, whole = taken(cached=True), taken(cached=False)
    assert cached < 0.5 * whole
    assert whole > 50_000_000


@pytest.mark.parametrize("cached", [False, True])
def test_nested_is_sentence_transformers_matryoshka(
    minilm: Encoder, pairs: list[Pair], *, cached: bool
) -> None:
    def make(model: Any) -> MatryoshkaLoss:
        inner = (
            CachedMultipleNegativesRankingLoss(model, mini_batch_size=2)
            if cached
            else MultipleNegativesRankingLoss(model)
        )
        return MatryoshkaLoss(model, inner, matryoshka_dims(384, 3))

    same(computed(minilm, pairs, NESTED, cached=cached), reference(minilm, pairs, make))


def test_nested_triplets_are_sentence_transformers_matryoshka_around_its_triplet_loss(
    minilm: Encoder, pairs: list[Pair]
) -> None:
    def make(model: Any) -> MatryoshkaLoss:
        inner = TripletLoss(model, distance_metric=TripletDistanceMetric.COSINE, triplet_margin=0.5)
        return MatryoshkaLoss(model, inner, matryoshka_dims(384, 3))

    ours = partial(matryoshka_loss, loss=partial(triplet_loss, margin=0.5), halvings=3)
    same(computed(minilm, pairs, ours), reference(minilm, pairs, make))


def test_dimensions_are_halved_as_long_as_there_are_any() -> None:
    assert matryoshka_dims(384, 3) == [384, 192, 96, 48]
    assert matryoshka_dims(5, 8) == [5, 2, 1]


@pytest.mark.parametrize("halvings", [0, 3])
@pytest.mark.parametrize("cached", [False, True])
def test_guided_is_sentence_transformers_gist_without_its_further_terms(
    minilm: Encoder, pairs: list[Pair], *, cached: bool, halvings: int
) -> None:
    # So wide a margin takes out some candidates, and leaves some.
    margin, temperature = 0.3, 0.5
    guide = Guide(minilm, pairs, margin)
    doubts = guide.doubts(
        [pair.query for pair in pairs],
        [*(pair.positive_text for pair in pairs), *(pair.negatives[0].text for pair in pairs)],
        range(len(pairs)),
    )
    assert 0 < doubts.sum() < doubts.size - len(pairs)

    def make(model: Any) -> Any:
        kind = partial(CachedGISTEmbedLoss, mini_batch_size=2) if cached else GISTEmbedLoss
        gist = kind(
            model,
            minilm.sentence_transformer().eval(),
            temperature=temperature,
            margin=margin,
            contrast_anchors=False,
            contrast_positives=False,
        )
        return MatryoshkaLoss(model, gist, matryoshka_dims(384, halvings)) if halvings else gist

    loss: Loss = partial(ranking_loss, temperature=temperature)
    if halvings:
        loss = partial(matryoshka_loss, loss=loss, halvings=halvings)
    same(
        computed(minilm, pairs, loss, guide=guide, cached=cached),
        reference(minilm, pairs, make),
    )


def test_what_people_rejected_stays_a_negative_whatever_the_guide_thinks(
    minilm: Encoder, pairs: list[Pair]
) -> None:
    model = minilm.sentence_transformer()

    def batch_of(some: list[Pair], margin: float) -> dict[str, Any]:
        texts = [t for p in some for t in (p.query, p.positive_text, *(n.text for n in p.negatives))]
        collator = PairCollator(some, token_table(model, texts, 48), guide=Guide(minilm, some, margin))
        return collator([{"row": row} for row in range(len(some))])

    everything = batch_of(pairs, 2.0)
    assert int(everything["allowed"].sum()) == len(pairs)  # each positive, and nothing else
    assert int(everything["doubted"]) == len(pairs) * (2 * len(pairs) - 1)
    rejected = replace(pairs[0], negatives=(replace(pairs[0].negatives[0], reason="rejected"),))
    with_no = batch_of([rejected, *pairs[1:]], 2.0)
    assert int(with_no["allowed"].sum()) == len(pairs) + 1
    assert int(with_no["allowed"][0].sum()) == 2
    assert int(batch_of(pairs, 0.0)["doubted"]) < int(batch_of(pairs, 0.2)["doubted"])
