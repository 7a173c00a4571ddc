"""Judgements made by known weights, to be found again."""

from __future__ import annotations

import numpy as np

from pipeline.search.hybrid.fitting import Judged
from pipeline.search.hybrid.fusion import Weights


def drawn(count: int, weights: Weights, seed: int = 5) -> list[Judged]:
    """Queries of 40 candidates each, whose answers are chosen with the probabilities that `fit` assumes."""
    rng = np.random.default_rng(seed)
    made: list[Judged] = []
    for _ in range(count):
        parts = np.column_stack([rng.normal(0.4, 0.1, 40), rng.beta(1, 5, 40), -rng.normal(0.5, 0.1, 40)])
        scores = 20 * parts @ np.array([1.0, *weights])
        chosen = rng.choice(40, p=np.exp(scores) / np.exp(scores).sum())
        made.append(Judged(parts, np.arange(40) == chosen, 1, np.arange(40).astype(str)))
    return made
