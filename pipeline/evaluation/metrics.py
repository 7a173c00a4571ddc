"""Retrieval metrics of one query, from the ranks of its relevant items. Pure; no model, no database.

Every metric here depends only on where the relevant items stand (`ranks`, from 1) and on how many there are
(`relevant`), with relevance being yes or no. Definitions as in Manning, Raghavan & Schütze, *Introduction to
Information Retrieval* (2008), chapter 8, and, for nDCG, Järvelin & Kekäläinen, "Cumulated gain-based
evaluation of IR techniques", ACM TOIS 20(4), 2002, with the logarithmic discount 1 / log2(rank + 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CUTOFF = 10
RECALL_CUTOFFS = (1, 5, 10, 100)
RANKING_METRICS = ("map@10", "mrr@10", "ndcg@10", *(f"recall@{k}" for k in RECALL_CUTOFFS))
TRIPLET_ACCURACY = "triplet_accuracy"
METRICS = (*RANKING_METRICS, TRIPLET_ACCURACY)


def query_metrics(ranks: Sequence[int] | NDArray[np.int64], relevant: int) -> dict[str, float]:
    """All ranking metrics of one query, by name.

    Args:
        ranks: The ranks, from 1, of the relevant items that were ranked, in any order; two items never
            share a rank.
        relevant: How many relevant items there are; those without a rank count as never found.

    Raises:
        ValueError: there is no relevant item, or more ranks than relevant items, or a rank below 1 or twice.
    """
    found = np.sort(np.asarray(ranks, dtype=np.int64))
    if relevant < 1 or len(found) > relevant:
        raise ValueError(f"{len(found)} ranks for {relevant} relevant items")
    if len(found) and (found[0] < 1 or bool(np.any(np.diff(found) == 0))):
        raise ValueError(f"ranks are distinct and count from 1: {found.tolist()}")
    values = (
        average_precision(found, relevant),
        reciprocal_rank(found),
        normalized_gain(found, relevant),
        *(recall(found, relevant, k) for k in RECALL_CUTOFFS),
    )
    return dict(zip(RANKING_METRICS, values, strict=True))


def average_precision(ranks: NDArray[np.int64], relevant: int, cutoff: int = CUTOFF) -> float:
    """Precision at each relevant item within the cutoff, summed, over min(relevant, cutoff).

    Dividing by what could stand within the cutoff, not by all relevant items, lets a perfect ranking reach
    1 however many relevant items there are. `ranks` ascend.
    """
    within = ranks[ranks <= cutoff]
    precisions = np.arange(1, len(within) + 1) / within
    return float(precisions.sum() / min(relevant, cutoff))


def reciprocal_rank(ranks: NDArray[np.int64], cutoff: int = CUTOFF) -> float:
    """1 / the rank of the first relevant item, or 0 beyond the cutoff. `ranks` ascend."""
    return float(1 / ranks[0]) if len(ranks) and ranks[0] <= cutoff else 0.0


def normalized_gain(ranks: NDArray[np.int64], relevant: int, cutoff: int = CUTOFF) -> float:
    """Discounted gain within the cutoff, over that of the ranking that has all relevant items first."""
    within = ranks[ranks <= cutoff]
    ideal = np.arange(1, min(relevant, cutoff) + 1)
    return float(np.sum(1 / np.log2(within + 1)) / np.sum(1 / np.log2(ideal + 1)))


def recall(ranks: NDArray[np.int64], relevant: int, cutoff: int) -> float:
    """The share of all relevant items that stand within the cutoff."""
    return float(np.count_nonzero(ranks <= cutoff) / relevant)
