"""Whether a mean difference may be chance: the paired sign-flip test, and what to do about many tests. Pure.

If two models are equally good, then for each query either could have had either result, so the sign of each
query's difference is a coin toss. How often tossed signs give a mean as far from zero as the observed one is
the p-value: Fisher's randomisation test (*The Design of Experiments*, 1935, section 21), which Smucker, Allan
& Carterette, "A comparison of statistical significance tests for information retrieval evaluation", CIKM
2007, recommend over the others. It assumes nothing about how differences are distributed. With drawn signs
the observed ones count as a draw, so that p is never zero (Phipson & Smyth, "Permutation p-values should
never be zero", Statistical Applications in Genetics and Molecular Biology 9(1), 2010).

Measured by `assets_tests/benchmarks/evaluation_statistics.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

_EXACT = 14  # differences whose 2^n signs are all tried
_TOLERANCE = 1e-9
_BLOCK = 4_000_000  # drawn values held in memory at once


def sign_flip_test(differences: ArrayLike, permutations: int, seed: int) -> float:
    """The two-sided p-value of "the mean of `differences` is zero", one difference per query.

    Queries that do not differ say nothing for either side and change nothing. With 14 or fewer that do, all
    signs are tried and p is exact.

    Raises:
        ValueError: there is no difference, or one that is not finite.
    """
    sample = np.asarray(differences, dtype=np.float64)
    if sample.ndim != 1 or not len(sample) or not bool(np.isfinite(sample).all()):
        raise ValueError("a permutation test needs one finite difference per query, and at least one query")
    moved = np.abs(sample[np.abs(sample) > _TOLERANCE])
    observed = abs(float(sample.sum())) - _TOLERANCE
    if not len(moved):
        return 1.0
    if len(moved) <= _EXACT:
        return float(np.mean(np.abs(_all_sums(moved)) >= observed))
    # Metrics take few values: all differences of one size are tossed together, as a binomial draw.
    sizes, counts = np.unique(moved.round(12), return_counts=True)
    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK // len(sizes))
    as_extreme = 0
    for start in range(0, permutations, rows):
        heads = generator.binomial(counts, 0.5, size=(min(rows, permutations - start), len(sizes)))
        as_extreme += int(np.count_nonzero(np.abs((2 * heads - counts) @ sizes) >= observed))
    return (as_extreme + 1) / (permutations + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of tests made together, adjusted so that one false alarm among all is as rare as asked.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2),
    1979: never weaker than Bonferroni's, and as free of assumptions.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def _all_sums(moved: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sums under every choice of signs; shape `(2 ** n,)`."""
    sums = np.zeros(1)
    for size in moved:
        sums = np.concatenate([sums + size, sums - size])
    return sums
