"""Our losses are Sentence Transformers' own where those apply, and differ where they are meant to."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from assets_tests.training.one_batch import computed, reference, with_own_negatives
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.training import losses
from pipeline.training.losses import loss_of
from pipeline.training.pairs import Pair
from pipeline.training.recipe import recipe_of

ranking_loss = partial(losses.ranking_loss, temperature=0.05)
triplet_loss = partial(losses.triplet_loss, margin=0.5)


def test_ranking_is_sentence_transformers_multiple_negatives(
    minilm: Encoder, click_pairs: list[Pair]
) -> None:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    pairs = with_own_negatives(click_pairs)
    ours, our_gradient = computed(minilm, pairs, ranking_loss)
    theirs, their_gradient = reference(minilm, pairs, MultipleNegativesRankingLoss)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(our_gradient, their_gradient, atol=1e-5, rtol=1e-3)
    assert float(our_gradient.abs().max()) > 1e-3


def test_triplet_is_sentence_transformers_with_cosine_and_half_a_margin(
    minilm: Encoder, click_pairs: list[Pair]
) -> None:
    from sentence_transformers.sentence_transformer.losses import TripletDistanceMetric, TripletLoss

    def make(model: Any) -> TripletLoss:
        return TripletLoss(model, distance_metric=TripletDistanceMetric.COSINE, triplet_margin=0.5)

    pairs = with_own_negatives(click_pairs)
    ours, our_gradient = computed(minilm, pairs, triplet_loss)
    theirs, their_gradient = reference(minilm, pairs, make)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(our_gradient, their_gradient, atol=1e-5, rtol=1e-3)


def unit_vectors(*counts: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [
        torch.nn.functional.normalize(torch.randn(count, 8, generator=generator), dim=1) for count in counts
    ]


@pytest.mark.parametrize("loss", [ranking_loss, triplet_loss])
def test_a_pair_counts_by_its_weight(loss: Callable[..., torch.Tensor]) -> None:
    queries, documents = unit_vectors(2, 4)

    def weighted(*weights: float) -> torch.Tensor:
        batch = {
            "positive": torch.tensor([0, 1]),
            "allowed": torch.ones(2, 4, dtype=torch.bool),
            "weight": torch.tensor(weights),
            "mined": torch.tensor([[0, 2], [1, 3]]),
            "negative_weight": torch.ones(2),
            "log_weight": torch.zeros(2, 4),
        }
        return loss(queries, documents, batch)

    assert weighted(1, 0) > 0
    assert weighted(0, 1) > 0
    torch.testing.assert_close(weighted(1, 1), weighted(1, 0) + weighted(0, 1))
    torch.testing.assert_close(weighted(0.5, 0.25), weighted(1, 0) / 2 + weighted(0, 1) / 4)


def own_negatives(*weights: float) -> dict[str, Any]:
    """Two pairs; documents 2 and 3 are negatives of the first with these weights, 3 one of the second too."""
    log_weight = torch.zeros(2, 4)
    log_weight[0, 2:] = torch.tensor(weights[:2]).log()
    log_weight[1, 3] = math.log(weights[2])
    return {
        "positive": torch.tensor([0, 1]),
        "allowed": torch.ones(2, 4, dtype=torch.bool),
        "weight": torch.tensor([0.9, 0.4]),
        "mined": torch.tensor([[0, 2], [0, 3], [1, 3]]),
        "negative_weight": torch.tensor(weights),
        "log_weight": log_weight,
    }


def test_negatives_that_all_weigh_one_change_nothing() -> None:
    queries, documents = unit_vectors(2, 4)
    batch = own_negatives(1, 1, 1)
    logits = 20 * queries @ documents.T
    each = torch.logsumexp(logits, dim=1) - logits[[0, 1], [0, 1]]
    expected = (each * batch["weight"]).mean()
    torch.testing.assert_close(ranking_loss(queries, documents, batch), expected, atol=1e-6, rtol=0)
    cosines = queries @ documents.T
    terms = [
        weight * max(0.0, float(cosines[query, negative] - cosines[query, query]) + 0.5)
        for weight, query, negative in [(0.9, 0, 2), (0.9, 0, 3), (0.4, 1, 3)]
    ]
    assert float(triplet_loss(queries, documents, batch)) == pytest.approx(sum(terms) / 3, abs=1e-6)


def test_a_negative_counts_by_its_weight() -> None:
    queries, documents = unit_vectors(2, 4)
    batch = own_negatives(0.25, 1, 0.5)
    logits = (20 * queries @ documents.T).double()
    share = torch.tensor([[1, 1, 0.25, 1], [1, 1, 1, 0.5]])  # what is nobody's own counts whole
    each = (share * logits.exp()).sum(dim=1).log() - logits[[0, 1], [0, 1]]
    expected = (each * batch["weight"]).mean().float()
    torch.testing.assert_close(ranking_loss(queries, documents, batch), expected, atol=1e-5, rtol=0)
    assert ranking_loss(queries, documents, batch) < ranking_loss(queries, documents, own_negatives(1, 1, 1))
    cosines = queries @ documents.T
    terms = [
        weight * max(0.0, float(cosines[query, negative] - cosines[query, query]) + 0.5)
        for weight, query, negative in [(0.9 * 0.25, 0, 2), (0.9, 0, 3), (0.4 * 0.5, 1, 3)]
    ]
    assert float(triplet_loss(queries, documents, batch)) == pytest.approx(sum(terms) / 3, abs=1e-6)


def test_what_is_not_allowed_changes_nothing() -> None:
    queries, documents = unit_vectors(1, 4)
    batch = {
        "positive": torch.tensor([0]),
        "allowed": torch.tensor([[True, True, True, False]]),
        "weight": torch.ones(1),
        "log_weight": torch.zeros(1, 4),
    }
    without = {**batch, "allowed": torch.tensor([[True, True, True]]), "log_weight": torch.zeros(1, 3)}
    allowed = {**batch, "allowed": torch.tensor([[True, True, True, True]])}
    torch.testing.assert_close(
        ranking_loss(queries, documents, batch), ranking_loss(queries, documents[:3], without)
    )
    assert ranking_loss(queries, documents, allowed) > ranking_loss(queries, documents, batch)


def test_a_recipe_says_which_loss_and_its_temperature_or_margin() -> None:
    queries, documents = unit_vectors(2, 4)
    batch = own_negatives(1, 1, 1)
    warm = loss_of(recipe_of(Settings(temperature=0.1)))
    cold = loss_of(recipe_of(Settings(temperature=0.02)))
    logits = 10 * queries @ documents.T
    each = torch.logsumexp(logits, dim=1) - logits[[0, 1], [0, 1]]
    torch.testing.assert_close(warm(queries, documents, batch), (each * batch["weight"]).mean())
    assert cold(queries, documents, batch) > warm(queries, documents, batch)
    narrow = loss_of(recipe_of(Settings(recipe="triplet", triplet_margin=0.1)))
    assert narrow(queries, documents, batch) < triplet_loss(queries, documents, batch)
