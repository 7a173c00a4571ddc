"""The losses of fine-tuning, over a batch as `batches.PairCollator` makes it.

They compute what Sentence Transformers' own `MultipleNegativesRankingLoss`, its cached and guided variants,
`TripletLoss` and `MatryoshkaLoss` compute (the tests hold them to it), and four things those cannot: a
snippet known to answer a query is no negative for it; each pair counts by the confidence in it; so does each
of its own negatives; and texts go through the model sorted by length, a group at a time, which leaves out
most of the padding. Gradients are torch's own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

    from pipeline.training.recipe import Recipe


class Loss(Protocol):
    """A batch's loss, out of the unit vectors of its queries and documents."""

    def __call__(self, queries: torch.Tensor, documents: torch.Tensor, batch: dict[str, Any]) -> torch.Tensor:
        """One number, with gradients."""
        ...


def ranking_loss(
    queries: torch.Tensor, documents: torch.Tensor, batch: dict[str, Any], *, temperature: float
) -> torch.Tensor:
    """Multiple-negatives ranking: cross-entropy of each query's positive among all documents of the batch.

    For a query q with positive p and its allowed documents D (all positives and mined negatives of the batch
    that are not known to answer q; p among them):

        loss(q) = log Σ_{d ∈ D} w(q, d) exp(cos(q, d) / t) − cos(q, p) / t

    where t is the temperature and w(q, d) the weight of d if it is one of q's own negatives, and else 1:
    log w is added to its logit, so that it pushes q away like the share w of a sure one,
    and the batch's loss is the mean of weight(q) · loss(q). This is InfoNCE (van den Oord et al. 2018,
    "Representation Learning with Contrastive Predictive Coding") with in-batch negatives.

    Args:
        queries: unit vectors, shape (pairs, dims).
        documents: unit vectors, shape (documents, dims).
        batch: see `PairCollator`.
        temperature: t; 0.05 is the usual one for sentence embeddings.
    """
    import torch

    scores = (queries @ documents.T) / temperature + batch["log_weight"]
    scores = scores.masked_fill(~batch["allowed"], -torch.inf)
    each = torch.nn.functional.cross_entropy(scores, batch["positive"], reduction="none")
    return (each * batch["weight"]).mean()


def triplet_loss(
    queries: torch.Tensor, documents: torch.Tensor, batch: dict[str, Any], *, margin: float
) -> torch.Tensor:
    """Triplet margin loss in cosine distance, over every pair with each of its negatives.

    The mean of weight(q) · w(q, n) · max(0, cos(q, n) − cos(q, p) + margin). Other pairs' snippets are not
    used, so a pair without a negative of its own teaches nothing here.

    Args:
        queries: unit vectors, shape (pairs, dims).
        documents: unit vectors, shape (documents, dims).
        batch: see `PairCollator`.
        margin: in cosine: how much further from its query a negative has to be than the positive is.
    """
    import torch

    query, negative = batch["mined"].unbind(dim=1)
    positive = batch["positive"][query]
    to_positive = (queries[query] * documents[positive]).sum(dim=1)
    to_negative = (queries[query] * documents[negative]).sum(dim=1)
    each = torch.relu(to_negative - to_positive + margin)
    return (each * batch["weight"][query] * batch["negative_weight"]).mean()


def matryoshka_loss(
    queries: torch.Tensor, documents: torch.Tensor, batch: dict[str, Any], *, loss: Loss, halvings: int
) -> torch.Tensor:
    """The sum of a loss over the whole vectors and over their first half, quarter, and so on.

    So that the first numbers of a vector say the most, and vectors may be cut short: Kusupati et al.,
    "Matryoshka Representation Learning", 2022. Vectors that are cut are brought to unit length again.

    Args:
        queries: unit vectors, shape (pairs, dims).
        documents: unit vectors, shape (documents, dims).
        batch: see `PairCollator`.
        loss: any other.
        halvings: how often the vectors are halved.
    """
    import torch

    cut = torch.nn.functional.normalize
    total = loss(queries, documents, batch)
    for dims in matryoshka_dims(queries.shape[1], halvings)[1:]:
        total = total + loss(cut(queries[:, :dims], dim=1), cut(documents[:, :dims], dim=1), batch)
    return total


def matryoshka_dims(dims: int, halvings: int) -> list[int]:
    """`dims`, its half, and so on, each at least 1."""
    return [size for size in (dims >> i for i in range(halvings + 1)) if size]


def loss_of(recipe: Recipe) -> Loss:
    """The loss that a recipe asks for."""
    loss: Loss = (
        partial(triplet_loss, margin=recipe.triplet_margin)
        if recipe.loss == "triplet"
        else partial(ranking_loss, temperature=recipe.temperature)
    )
    halvings = recipe.matryoshka_halvings
    return partial(matryoshka_loss, loss=loss, halvings=halvings) if halvings else loss


def embed_batch(
    model: SentenceTransformer, batch: dict[str, Any], *, cached: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors of a batch's queries (pairs, dims) and documents (documents, dims), with gradients.

    `cached` keeps only the vectors of each chunk. When the gradient of the loss by them is known, the chunks
    are computed a second time, one after the other, each followed by its own backward pass, so that memory
    holds the activations of one chunk instead of the whole batch. That is gradient caching (Gao et al.,
    "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021), and torch's
    checkpointing of each chunk does it: same gradients, for one more forward pass.

    Args:
        model: what is trained.
        batch: see `PairCollator`.
        cached: see above.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    def embed(chunk: dict[str, torch.Tensor]) -> torch.Tensor:
        return model(dict(chunk))["sentence_embedding"].float()

    parts: list[torch.Tensor] = [
        checkpoint(embed, chunk, use_reentrant=False) if cached else embed(chunk) for chunk in batch["chunks"]
    ]
    vectors = torch.nn.functional.normalize(torch.cat(parts), dim=1)[batch["places"]]
    pairs = len(batch["positive"])
    return vectors[:pairs], vectors[pairs:]
