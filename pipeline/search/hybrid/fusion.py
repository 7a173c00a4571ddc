"""What speaks for and against a candidate, into one order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.search.hybrid.candidates import Candidate


class Weights(NamedTuple):
    """What counts beside the cosine, each 0 or above, in units of cosine.

    Args:
        words: What it is worth to have all words of the query, over and over.
        crowding: What it costs to be, among the candidates, in a crowd of texts all alike.
    """

    words: float
    crowding: float

    @property
    def said(self) -> str:
        """How this ranks, in words."""
        if not any(self):
            return "by meaning alone"
        return f"as searches rank: words count {self.words:.3g}, crowds {self.crowding:.3g}"


# More than any two candidates can differ by: three parts that run over 2, each weighing 1 at the most.
LATE = 10.0
MEANING_ALONE = Weights(0.0, 0.0)


def parts(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    """Cosine, share of words, and crowding with its sign turned, of each candidate; shape (n, 3)."""
    rows = [(each.cosine, each.words, -each.crowding) for each in candidates]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def fused(candidates: Sequence[Candidate], weights: Weights) -> NDArray[np.float64]:
    """Cosine + words · share of words − crowding · crowdedness of each candidate; shape (n,).

    None of the three depends on how many are asked for, and what is a candidate only because many are comes
    after all others: asking for more does not change the order. A linear combination keeps what rank fusion
    throws away: Bruch, Gai & Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", ACM TOIS 42(1),
    2023.
    """
    late = np.array([not each.always for each in candidates], dtype=bool)
    return parts(candidates) @ np.array([1.0, *weights]) - LATE * late
