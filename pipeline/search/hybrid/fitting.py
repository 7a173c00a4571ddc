"""The weights under which judged queries find their answers, and what such weights gain on other queries.

The probability that a candidate is what was wanted is taken as a softmax of what it is ordered by, and the
weights make the answers as likely as can be: a conditional logit (McFadden, "Conditional Logit Analysis of
Qualitative Choice Behavior", 1974), in ranking known as ListNet's top-one loss (Cao et al., ICML 2007). It is
convex, and steadier than trying for the best nDCG, which moves in jumps. What they gain is measured by
cross-validation over queries (Stone, "Cross-Validatory Choice and Assessment of Statistical Predictions",
1974).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.metrics import normalized_gain
from pipeline.search.hybrid.fusion import MEANING_ALONE, Weights

FOLDS = 10
# As if so many queries' worth of curvature spoke for weights of 0: tames the fit where there are few.
SHRINKAGE = 5.0
# Meaning counts as much as anything else, at the least.
MOST = 1.0
# The softmax is sharp where cosines differ by a twentieth, as in training.
SHARPNESS = 20.0


@dataclass(frozen=True)
class Judged:
    """One query's candidates, and which of them answer it.

    Args:
        parts: See `fusion.parts`; shape (n, 3), or more where `likeliest` is asked alone.
        relevant: Whether each is an answer, shape (n,).
        answers: How many answers there are, those that are no candidates included; 1 or more.
        ties: Decides between equals, the lower first; shape (n,).
        weight: How much it counts in the fit and in its proof beside the others, over 0.
    """

    parts: NDArray[np.float64]
    relevant: NDArray[np.bool_]
    answers: int
    ties: NDArray[np.str_]
    weight: float = 1.0

    def gain(self, weights: Weights) -> float:
        """nDCG@10 of the query's ranking under these weights."""
        order = np.lexsort((self.ties, -(self.parts @ np.array([1.0, *weights]))))
        return normalized_gain(np.flatnonzero(self.relevant[order]) + 1, self.answers)


@dataclass(frozen=True)
class Choice:
    """What cross-validation says.

    Args:
        weights: Fitted on all queries.
        by_fold: Those fitted for each fold, without its queries.
        held_out: nDCG@10 of each query under the weights fitted without it, shape (queries,).
    """

    weights: Weights
    by_fold: tuple[Weights, ...]
    held_out: NDArray[np.float64]


def gains(queries: Sequence[Judged], weights: Weights) -> NDArray[np.float64]:
    """nDCG@10 of each query, shape (queries,)."""
    return np.array([query.gain(weights) for query in queries], dtype=np.float64)


def fit(queries: Sequence[Judged]) -> Weights:
    """The weights under which the answers are likeliest, from 0 to `MOST`; 0 where nothing is learned."""
    return Weights(*likeliest(queries)) if queries else MEANING_ALONE


def likeliest(queries: Sequence[Judged]) -> list[float]:
    """What each part counts beside the first one, so that the answers are likeliest; from 0 to `MOST`.

    Queries none of whose answers is a candidate say nothing; the others count by how far they are believed,
    so that whom a cap silences elsewhere does not speak here. Weights are rounded to three places, as more
    is chance.

    Args:
        queries: One or more, all with as many parts.
    """
    from scipy.optimize import minimize  # a third of a second, which whoever learns nothing is spared
    from scipy.special import logsumexp

    telling = [query for query in queries if query.relevant.any()]
    kinds = queries[0].parts.shape[1]
    if not telling:
        return [0.0] * (kinds - 1)
    width = max(len(query.parts) for query in telling)
    parts = np.zeros((len(telling), width, kinds))
    absent = np.ones((len(telling), width), dtype=bool)
    wanted = np.zeros((len(telling), kinds))
    counts = np.array([query.weight for query in telling])
    counts /= counts.sum()
    for row, query in enumerate(telling):
        parts[row, : len(query.parts)] = query.parts * SHARPNESS
        absent[row, : len(query.parts)] = False
        wanted[row] = query.parts[query.relevant].mean(axis=0) * SHARPNESS

    def loss(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = np.where(absent, -np.inf, parts @ point)
        whole = np.asarray(logsumexp(scores, axis=1, keepdims=True), dtype=np.float64)
        likely = np.exp(scores - whole)
        shrunk = SHRINKAGE / len(telling) * np.array([0.0, *point[1:]])
        value = counts @ (whole[:, 0] - wanted @ point) + shrunk @ point / 2
        return float(value), counts @ (np.einsum("qn,qnp->qp", likely, parts) - wanted) + shrunk

    found = minimize(
        loss,
        np.array([1.0, *[0.0] * (kinds - 1)]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(1e-3, None), *[(0.0, None)] * (kinds - 1)],
    ).x
    return [min(round(float(each / found[0]), 3), MOST) for each in found[1:]]


def cross_validate(queries: Sequence[Judged]) -> Choice:
    """Fits on all, and for each fold of queries on those outside it.

    Query i is in fold i mod `FOLDS`: the order is that of hashes, so this is as good as at random, and the
    same every time.
    """
    fold = np.arange(len(queries)) % FOLDS
    held_out = np.zeros(len(queries))
    by_fold: list[Weights] = []
    for number in range(min(FOLDS, len(queries))):
        weights = fit([query for query, its in zip(queries, fold, strict=True) if its != number])
        inside = [query for query, its in zip(queries, fold, strict=True) if its == number]
        held_out[fold == number] = gains(inside, weights)
        by_fold.append(weights)
    return Choice(fit(queries), tuple(by_fold), held_out)
