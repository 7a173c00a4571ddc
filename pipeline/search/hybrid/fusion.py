"""Two scores of each candidate into one order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.search.hybrid.candidates import Candidate


def parts(candidates: Sequence[Candidate]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosine and BM25 of the candidates, each brought to a scale of its own query; shapes (n,).

    The cosine runs from 0 for the last of the nearest `POOL` to 1 for the first (others may lie below 0),
    BM25 from 0 for no word to 1 for the best: min–max normalisation with the theoretical minimum of
    BM25, after Bruch, Gai & Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", ACM TOIS 42(1),
    2023. Only what is a candidate whatever k is decides the scales, so that asking for more does not change
    the order.
    """
    cosine = np.array([each.cosine for each in candidates], dtype=np.float64)
    bm25 = np.array([each.bm25 for each in candidates], dtype=np.float64)
    near = cosine[np.array([each.is_near for each in candidates], dtype=bool)]
    always = bm25[np.array([each.is_near or each.has_rare for each in candidates], dtype=bool)]
    low, high = (near.min(), near.max()) if len(near) else (0.0, 1.0)
    best = always.max(initial=0.0)
    return (cosine - low) / ((high - low) or 1.0), bm25 / (best or 1.0)


def fused(candidates: Sequence[Candidate], weight: float) -> NDArray[np.float64]:
    """(1 − weight) · cosine + weight · BM25 of each candidate, on the scales of `parts`; shape (n,)."""
    return combined(*parts(candidates), weight)


def combined(cosine: NDArray[np.float64], bm25: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """(1 − weight) · cosine + weight · BM25, both on the scales of `parts`; shape (n,)."""
    return (1 - weight) * cosine + weight * bm25
