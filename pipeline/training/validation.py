"""What fine-tuning is watched by: how well the validation queries find their snippets, and the loss of the
validation pairs, a few times an epoch.

The candidates are the validation pairs' own snippets, positives and negatives alike: a small ranking, but the
hard part of the large one, and cheap enough to be repeated. It decides when training stops and which weights
are kept. The loss, in fixed batches, is there to tell learning from learning by heart (see `convergence`); it
costs next to nothing, as the vectors are there already. Whether a model may serve is decided elsewhere, on
the test set and the whole corpus.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.metrics import query_metrics
from pipeline.evaluation.ranking import RankedQuery, rank_items
from pipeline.training.batches import PairCollator, TokenTable

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from pipeline.training.losses import Loss
    from pipeline.training.pairs import Origin, Pair

METRIC = "ndcg@10"
METRICS = (METRIC, "mrr@10")
BY_ORIGIN = "by_origin"
EACH = "each"
VALIDATION_LOSS = "validation_loss"


class Validation:
    """The validation queries and what they rank.

    Args:
        pairs: the validation pairs; at most `limit` of them are used, chosen by the hash of their query, so
            that the same pairs are used again and again.
        limit: how many; if feedback decides, so many of feedback and so many others.
        query_prompt, document_prompt: what stands before each query and document.
        min_feedback: if so many pairs or more are of feedback, the queries of feedback alone decide, and the
            others are only looked at; with None all decide always.

    Attributes:
        queries, documents: their texts, prompts included.
        decides: whose queries decide: "feedback" or "all".
        counts: queries by origin.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        limit: int,
        query_prompt: str = "",
        document_prompt: str = "",
        min_feedback: int | None = None,
    ) -> None:
        ordered = sorted(pairs, key=_order)
        feedback = [pair for pair in ordered if pair.origin == "feedback"]
        by_feedback = min_feedback is not None and 0 < min_feedback <= len(feedback)
        others = [pair for pair in ordered if pair.origin != "feedback"]
        chosen = [*feedback[:limit], *others[:limit]] if by_feedback else ordered[:limit]
        self.decides = "feedback" if by_feedback else "all"
        self._pairs = chosen
        self._prompts = (query_prompt, document_prompt)
        documents: dict[str, set[bytes]] = {}  # several contents may have one text
        wanted: dict[str, dict[bytes, None]] = {}
        origins: dict[str, set[Origin]] = {}
        for pair in chosen:
            documents.setdefault(pair.positive_text, set()).add(pair.positive_hash)
            for negative in pair.negatives:
                documents.setdefault(negative.text, set()).add(negative.content_hash)
            wanted.setdefault(pair.query, {})[pair.positive_hash] = None
            origins.setdefault(pair.query, set()).add(pair.origin)
        texts_of: dict[bytes, list[int]] = {}
        for position, hashes in enumerate(documents.values()):
            for content_hash in hashes:
                texts_of.setdefault(content_hash, []).append(position)
        self.queries = [query_prompt + query for query in wanted]
        self.documents = [document_prompt + text for text in documents]
        # A snippet with and without its documentation is one snippet: finding either is finding it.
        self._ranked = [
            RankedQuery(tuple(tuple(texts_of[content_hash]) for content_hash in hashes))
            for hashes in wanted.values()
        ]
        self._rows: dict[Origin, list[int]] = {}
        for row, query in enumerate(wanted):
            for origin in sorted(origins[query]):
                self._rows.setdefault(origin, []).append(row)
        self.counts = {origin: len(rows) for origin, rows in self._rows.items()}

    @property
    def texts(self) -> list[str]:
        """Every text that a measurement embeds, prompts included."""
        return [*self.queries, *self.documents]

    def measure(
        self, model: SentenceTransformer, tokens: TokenTable, loss: Loss | None = None, batch_size: int = 32
    ) -> dict[str, Any]:
        """The mean of each of `METRICS` over the queries that decide, under the model as it is now.

        Beside them, as `BY_ORIGIN`, stand the same means over the queries of each origin, and as `EACH` the
        `METRIC` of each query that decides, in an order of their own.

        Args:
            model: left in the mode (training or evaluation) it came in.
            tokens: the token ids of `texts`.
            loss: what is trained with; if given, `VALIDATION_LOSS` is its mean over the validation pairs,
                unless it is not defined for any of them.
            batch_size: pairs that stand together in it, as in training.
        """
        queries, documents = self._embedded(model, tokens)
        measured = self._measured(queries, documents)

        def means(rows: Iterable[int]) -> dict[str, float]:
            return {name: float(np.mean([measured[row][name] for row in rows])) for name in METRICS}

        by_origin = {origin: means(rows) for origin, rows in self._rows.items()}
        each = [measured[row][METRIC] for row in self._deciding]
        values: dict[str, Any] = {**means(self._deciding), BY_ORIGIN: by_origin, EACH: each}
        if loss is not None:
            vectors = dict(zip(self.texts, np.concatenate([queries, documents]), strict=True))
            found = self._loss(vectors, tokens, loss, batch_size)
            if not math.isnan(found):
                values[VALIDATION_LOSS] = found
        return values

    @property
    def _deciding(self) -> Sequence[int]:
        return self._rows["feedback"] if self.decides == "feedback" else range(len(self.queries))

    def _embedded(
        self, model: SentenceTransformer, tokens: TokenTable
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Queries and documents."""
        return embed(model, self.queries, tokens), embed(model, self.documents, tokens)

    def _measured(
        self, queries: NDArray[np.float32], documents: NDArray[np.float32]
    ) -> list[dict[str, float]]:
        """The metrics of each query."""
        ranks = rank_items(self._ranked, queries, documents)
        return [
            query_metrics(each, len(query.items)) for each, query in zip(ranks, self._ranked, strict=True)
        ]

    def _loss(
        self, vectors: Mapping[str, NDArray[np.float32]], tokens: TokenTable, loss: Loss, batch_size: int
    ) -> float:
        import torch

        collator = PairCollator(self._pairs, tokens, *self._prompts)
        count = -(-len(self._pairs) // batch_size)
        total, seen = 0.0, 0
        for rows in np.array_split(np.arange(len(self._pairs)), count):
            pairs = [self._pairs[row] for row in rows]
            texts, judged = collator.contrast(pairs)
            embedded = torch.from_numpy(np.stack([vectors[text] for text in texts]))
            with torch.no_grad():
                value = float(loss(embedded[: len(pairs)], embedded[len(pairs) :], judged))
            # A batch without a negative has no triplet loss.
            if not math.isnan(value):
                total += value * len(pairs)
                seen += len(pairs)
        return total / seen if seen else math.nan


def embed(model: SentenceTransformer, texts: Sequence[str], tokens: TokenTable) -> NDArray[np.float32]:
    """Unit vectors of `texts`, shape (n, dims), in their order. The model's mode is kept."""
    import torch

    from pipeline.training.parallel import exchanged, is_own

    was_training = model.training
    model.eval()
    dims = model.get_embedding_dimension() or 0
    ordered = torch.zeros((len(texts), dims), device=model.device)
    with torch.inference_mode():
        for number, group in enumerate(tokens.chunks(texts)):
            if not is_own(number):
                continue
            features = {
                name: tensor.to(model.device)
                for name, tensor in tokens.padded([texts[i] for i in group]).items()
            }
            vectors = model(features)["sentence_embedding"].float()
            ordered[group] = torch.nn.functional.normalize(vectors, dim=1)
    model.train(was_training)
    return exchanged(ordered).cpu().numpy()


def shown_metrics(row: Mapping[str, Any]) -> str:
    """The metrics of a validation, for a line of text."""
    return ", ".join(f"{name} {row[name]:.4f}" for name in METRICS)


def _order(pair: Pair) -> tuple[bytes, bytes]:
    return hashlib.sha256(pair.query.encode("utf-8", "replace")).digest(), pair.positive_hash
