"""Late interaction with token vectors that are few and small enough to be stored, for `screened_ideas`.

A vector for each token is a hundred times the store. Tokens that are alike need one vector together (Clavié,
Chaffin and Adams, "Reducing the Footprint of Multi-Vector Retrieval with Minimal Performance Impact via Token
Pooling", 2024), and of that the signs may do: 32 of 384 signs each are 1.5 KB, twice the vector of the text.
What tokens find is one more part of what a search orders its candidates by, with a weight that is learned
with those of words and crowds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assets_tests.benchmarks.distilling import teacher_of
from assets_tests.benchmarks.judged import HeldOut, Metrics
from pipeline.evaluation.metrics import query_metrics
from pipeline.evaluation.ranking import Vectors, rank_items
from pipeline.search.hybrid.exactly import SearchOrder
from pipeline.search.hybrid.fitting import Judged
from pipeline.search.hybrid.fusion import LATE, MEANING_ALONE
from pipeline.search.hybrid.learning import judged_candidates
from pipeline.search.hybrid.words import query_words
from pipeline.store.connections import Connection
from pipeline.workbench import Workbench

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

Tokens = list[NDArray[np.float32]]
POOLED = 32


def embedded(encoder: Encoder, texts: Sequence[str]) -> tuple[Vectors, Tokens]:
    """The texts' vectors, shape (texts, dims), and those of their tokens, special ones aside.

    All have unit length; those of tokens have shape (tokens, dims) for each text.
    """
    import torch

    vectors = np.empty((len(texts), encoder.dims), dtype=np.float32)
    tokens: Tokens = [np.empty((0, encoder.dims), dtype=np.float32)] * len(texts)
    with torch.no_grad():
        for chunk in teacher_of(encoder, texts, encoder.max_tokens).chunks(texts):
            vectors[chunk.positions] = chunk.pooled.numpy()
            for position, own in zip(chunk.positions, chunk.own, strict=True):
                tokens[position] = own.numpy().copy()  # what it is a part of goes
    return vectors, tokens


def kept(tokens: Tokens) -> dict[str, Tokens]:
    """Each way to keep them, by its name."""
    few = pooled(tokens)
    return {
        "a vector for each token": tokens,
        f"{POOLED} vectors at the most": few,
        f"the signs of {POOLED} vectors at the most": signs(few),
    }


def pooled(tokens: Tokens) -> Tokens:
    """`POOLED` unit vectors of each text at the most: the means of so many clusters, by Ward's method."""
    return [_pooled(each) for each in tokens]


def signs(tokens: Tokens) -> Tokens:
    """The signs, the mean over all texts taken off; unit length."""
    centre = np.concatenate(tokens).mean(axis=0)
    return [np.sign(each - centre) / np.sqrt(np.float32(each.shape[1])) for each in tokens]


def late(query: NDArray[np.float32], texts: Tokens) -> NDArray[np.float64]:
    """Of the query's tokens the mean cosine to the nearest of each text's; 0 where either has none.

    Shape (texts,).
    """
    if not len(query):
        return np.zeros(len(texts))
    return np.array([(query @ each.T).max(axis=1).mean() if len(each) else 0.0 for each in texts])


@dataclass(frozen=True)
class Looked:
    """What a search looks at for one query.

    Attributes:
        positions: Where in the corpus each candidate stands.
        judged: What they are ordered by, and which of them answer.
    """

    positions: list[int]
    judged: Judged

    def beside(self, query: NDArray[np.float32], documents: Tokens, *, alone: bool) -> Looked:
        """The same with what tokens find as one more part, or as the only one beside the cosine."""
        column = late(query, [documents[position] for position in self.positions])
        kept = self.judged.parts[:, :1] if alone else self.judged.parts
        return replace(self, judged=replace(self.judged, parts=np.column_stack([kept, column])))


def looked_at(connection: Connection, asked: HeldOut, queries: Vectors, documents: Vectors) -> list[Looked]:
    """For each query, in order.

    Args:
        connection: In a transaction.
        asked: The queries, their answers, and the corpus.
        queries: Their vectors, shape (queries, dims).
        documents: The corpus's, shape (contents, dims).
    """
    order = SearchOrder(connection, asked.hashes, documents, MEANING_ALONE)
    found: list[Looked] = []
    for text, wanted, vector in zip(asked.queries, asked.wanted, queries, strict=True):
        positions, candidates = order.candidates(query_words(connection, text), documents @ vector)
        answers = [asked.hashes[position] for item in wanted.items for position in item]
        found.append(Looked(positions, judged_candidates(candidates, answers)))
    return found


class Side:
    """Queries, what a search looks at for each of them, and their tokens, by one model.

    Args:
        bench: Where the corpus is.
        encoder: The model.
        asked: The queries, their answers, and the corpus.
        documents: The corpus's vectors, shape (contents, dims).
    """

    def __init__(self, bench: Workbench, encoder: Encoder, asked: HeldOut, documents: Vectors) -> None:
        self._asked, self._documents = asked, documents
        self._queries, self._tokens = embedded(encoder, asked.queries)
        with bench.db.connect() as connection:
            self._looked = looked_at(connection, asked, self._queries, documents)

    def beside(self, documents: Tokens, *, alone: bool) -> list[Looked]:
        """`Looked.beside` of each query, in order."""
        pairs = zip(self._looked, self._tokens, strict=True)
        return [looked.beside(query, documents, alone=alone) for looked, query in pairs]

    def measured(self, documents: Tokens, weights: Sequence[float], *, alone: bool) -> Metrics:
        """The metrics of each query, its candidates ordered by their parts, the first of which weighs 1."""
        looked = self.beside(documents, alone=alone)

        def rescore(number: int, cosines: NDArray[np.float32]) -> NDArray[np.float64]:
            scores = cosines.astype(np.float64) - LATE
            scores[looked[number].positions] = looked[number].judged.parts @ np.array([1.0, *weights])
            return scores

        wanted = self._asked.wanted
        ranks = rank_items(wanted, self._queries, self._documents, rescore=rescore)
        return [query_metrics(each, len(its.items)) for each, its in zip(ranks, wanted, strict=True)]


def _pooled(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(tokens) <= POOLED:
        return tokens
    clusters = fcluster(linkage(tokens, "ward"), POOLED, "maxclust")
    means = np.stack([tokens[clusters == each].mean(axis=0) for each in np.unique(clusters)])
    return means / np.linalg.norm(means, axis=1, keepdims=True)
