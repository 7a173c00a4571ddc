"""What fine-tuning is watched by: how well the validation queries find their snippets, a few times an epoch.

The candidates are the validation pairs' own snippets, positives and negatives alike: a small ranking, but the
hard part of the large one, and cheap enough to be repeated. It decides when training stops and which weights
are kept; whether a model may serve is decided elsewhere, on the test set and the whole corpus.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.metrics import query_metrics
from pipeline.evaluation.ranking import RankedQuery, rank_items
from pipeline.training.batches import TokenTable

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from pipeline.training.pairs import Pair

METRIC = "ndcg@10"
METRICS = (METRIC, "mrr@10")


class Validation:
    """The validation queries and what they rank.

    Args:
        pairs: the validation pairs; at most `limit` of them are used, chosen by the hash of their query, so
            that the same pairs are used again and again.
        limit: how many.
        query_prompt, document_prompt: what stands before each query and document.
    """

    def __init__(
        self, pairs: Sequence[Pair], limit: int, query_prompt: str = "", document_prompt: str = ""
    ) -> None:
        chosen = sorted(pairs, key=_order)[:limit]
        documents: dict[str, bytes] = {}
        wanted: dict[str, dict[bytes, None]] = {}
        for pair in chosen:
            documents.setdefault(pair.positive_text, pair.positive_hash)
            for negative in pair.negatives:
                documents.setdefault(negative.text, negative.content_hash)
            wanted.setdefault(pair.query, {})[pair.positive_hash] = None
        texts_of: dict[bytes, list[int]] = {}
        for position, content_hash in enumerate(documents.values()):
            texts_of.setdefault(content_hash, []).append(position)
        self.queries = [query_prompt + query for query in wanted]
        self.documents = [document_prompt + text for text in documents]
        # A snippet with and without its documentation is one snippet: finding either is finding it.
        self._ranked = [
            RankedQuery(tuple(tuple(texts_of[content_hash]) for content_hash in hashes))
            for hashes in wanted.values()
        ]

    @property
    def texts(self) -> list[str]:
        """Every text that a measurement embeds, prompts included."""
        return [*self.queries, *self.documents]

    def measure(self, model: SentenceTransformer, tokens: TokenTable) -> dict[str, float]:
        """The mean of each of `METRICS` over the validation queries, under the model as it is now.

        Args:
            model: left in the mode (training or evaluation) it came in.
            tokens: the token ids of `texts`.
        """
        queries = embed(model, self.queries, tokens)
        documents = embed(model, self.documents, tokens)
        ranks = rank_items(self._ranked, queries, documents)
        measured = [
            query_metrics(each, len(query.items)) for each, query in zip(ranks, self._ranked, strict=True)
        ]
        return {name: float(np.mean([values[name] for values in measured])) for name in METRICS}


def embed(model: SentenceTransformer, texts: Sequence[str], tokens: TokenTable) -> NDArray[np.float32]:
    """Unit vectors of `texts`, shape (n, dims), in their order. The model's mode is kept."""
    import torch

    was_training = model.training
    model.eval()
    groups = tokens.chunks(texts)
    parts: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        for group in groups:
            features = {
                name: tensor.to(model.device)
                for name, tensor in tokens.padded([texts[i] for i in group]).items()
            }
            vectors = torch.nn.functional.normalize(model(features)["sentence_embedding"].float(), dim=1)
            parts.append(vectors.cpu().numpy())
    model.train(was_training)
    stacked = np.concatenate(parts)
    ordered = np.empty_like(stacked)
    ordered[[position for group in groups for position in group]] = stacked
    return ordered


def _order(pair: Pair) -> tuple[bytes, bytes]:
    return hashlib.sha256(pair.query.encode("utf-8", "replace")).digest(), pair.positive_hash
