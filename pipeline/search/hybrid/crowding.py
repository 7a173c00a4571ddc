"""How crowded the place of a text is: texts of a kind that is near to everything come up for every query.

Such hubs are a property of high dimensions (Radovanović, Nanopoulos & Ivanović, "Hubs in Space", JMLR 11,
2010). That a text's nearness to its own neighbours is taken off its nearness to the query follows CSLS
(Conneau et al., "Word Translation without Parallel Data", ICLR 2018); the neighbours are texts here, and no
queries, since what was asked before says nothing against an answer, and they are looked for among the texts
near to the query, so that nothing has to be kept for each text.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 10


def crowding(
    texts: NDArray[np.float32], near: NDArray[np.float32], itself: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean cosine of each text to the `NEIGHBOURS` nearest of the others; 0 where there is no other.

    Args:
        texts: Unit vectors, shape (n, dims).
        near: Those that are neighbours, unit vectors, shape (m, dims).
        itself: For each text its row in `near`, or -1 if it is none of them; shape (n,).

    Returns:
        From -1 to 1, shape (n,). Where there are fewer others, the mean over those there are.
    """
    cosines = texts @ near.T
    rows = np.flatnonzero(itself >= 0)
    cosines[rows, itself[rows]] = -np.inf
    if len(near) > NEIGHBOURS:
        cosines = np.partition(cosines, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]
    others = np.isfinite(cosines)
    sums = np.where(others, cosines, 0.0).sum(axis=1, dtype=np.float64)
    return sums / np.maximum(others.sum(axis=1), 1)
