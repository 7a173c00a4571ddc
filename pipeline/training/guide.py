"""A guide: a frozen encoder that tells which snippets of a batch may be answers nobody has marked.

Solatorio, "GISTEmbed: Guided In-sample Selection of Training Negatives for Text Embedding Fine-tuning", 2024:
a candidate that the guide finds nearer to the query than the query's own positive is more likely a false
negative than a hard one. It is taken out, never made a positive.

The guide does not change, so each text's vector is computed once, before training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder
    from pipeline.training.pairs import Pair


class Guide:
    """What a frozen encoder thinks of the texts that are trained on.

    Args:
        encoder: any; its vectors need not have the size of those that are trained.
        pairs: all that will stand in a batch.
        margin: in the guide's cosine: a candidate is taken for a false negative if it is nearer to the query
            than the positive is, less the margin. 0 is GISTEmbed's; more takes out more.
    """

    def __init__(self, encoder: Encoder, pairs: Sequence[Pair], margin: float) -> None:
        queries = list(dict.fromkeys(pair.query for pair in pairs))
        documents = list(
            dict.fromkeys(
                text
                for pair in pairs
                for text in (pair.positive_text, *(negative.text for negative in pair.negatives))
            )
        )
        self._queries = dict(zip(queries, encoder.embed_queries(queries), strict=True))
        self._documents = dict(zip(documents, encoder.embed_documents(documents), strict=True))
        self._margin = margin

    def doubts(
        self, queries: Sequence[str], documents: Sequence[str], positive: Sequence[int]
    ) -> NDArray[np.bool_]:
        """Which documents may be unmarked answers, shape (queries, documents); a positive never is.

        Args:
            queries: without prompts.
            documents: likewise.
            positive: for each query, which document is its positive.
        """
        similarity = (
            np.stack([self._queries[text] for text in queries])
            @ np.stack([self._documents[text] for text in documents]).T
        )
        own = np.arange(len(queries)), np.asarray(positive)
        doubted = similarity > similarity[own][:, None] - self._margin
        doubted[own] = False
        return doubted
