"""How sure a mean or a difference of means is: the bootstrap over queries. Pure, seeded, vectorised.

Intervals are percentile intervals (Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13).
Two models are compared on the same queries, so what is resampled is each query's difference; the two-sided
p-value resamples the differences after moving their mean to zero (the same book, chapter 16), which for
retrieval metrics is the paired bootstrap test of Sakai, "Evaluating evaluation metrics based on the
bootstrap", SIGIR 2006, without studentising. The second test beside it, with other assumptions, stands in
`permutation`. How far intervals and tests keep what they promise is measured by
`assets_tests/benchmarks/evaluation_statistics.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation.permutation import sign_flip_test

LEVEL = 0.95
_BLOCK = 4_000_000  # resampled values held in memory at once


@dataclass(frozen=True)
class Interval:
    """A mean over `count` queries with its confidence interval (95%)."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def margin(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Difference:
    """The mean of one model − another over `count` queries.

    Attributes:
        mean: Candidate − serving, where nothing else is said.
        low: The lower end of its bootstrap interval.
        high: The upper end.
        p_value: Two-sided, of the paired bootstrap test.
        count: Over how many queries.
        permutation_p: Two-sided, of the paired sign-flip test; None where it was not asked for.
        level: How sure the interval is, a share.
    """

    mean: float
    low: float
    high: float
    p_value: float
    count: int
    permutation_p: float | None = None
    level: float = LEVEL

    @property
    def interval(self) -> str:
        """`95% interval +0.004 to +0.041`."""
        return f"{self.level * 100:g}% interval {self.low:+.3f} to {self.high:+.3f}"

    @property
    def significant(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def mean_with_interval(values: ArrayLike, resamples: int, seed: int) -> Interval:
    """The mean of one value per query, with its percentile bootstrap interval.

    Raises:
        ValueError: there is no value, or one that is not finite.
    """
    sample = _checked(values)
    means = resampled_means(sample, resamples, seed)
    return Interval(float(sample.mean()), *_percentiles(means), len(sample))


def paired_bootstrap(
    candidate: ArrayLike,
    serving: ArrayLike,
    resamples: int,
    seed: int,
    *,
    level: float = LEVEL,
    weights: ArrayLike | None = None,
) -> Difference:
    """The mean difference of two models over the same queries in the same order, its interval at `level`.

    Args:
        candidate: One value per query.
        serving: The other model's.
        resamples: How many.
        seed: Of drawing them.
        level: How sure the interval is, a share.
        weights: How much each query counts in a mean, over 0; None: all the same. A query is drawn with its
            weight, so that few heavy ones are as unsure as few queries are.

    Raises:
        ValueError: the lengths differ, there is no value, or one that is not finite, or a weight is not over
            0.
    """
    first, second = _checked(candidate), _checked(serving)
    if len(first) != len(second):
        raise ValueError(f"{len(first)} values cannot be paired with {len(second)}")
    differences = first - second
    mean = weighted_mean(differences, weights)
    means = resampled_means(differences, resamples, seed, weights)
    # Under "no difference" the resampled means scatter around zero as they do here around `mean`. The
    # observed sample itself counts as one resample, so that p is never zero.
    as_extreme = int(np.count_nonzero(np.abs(means - mean) >= abs(mean) - 1e-12))
    p_value = (as_extreme + 1) / (resamples + 1)
    return Difference(mean, *_percentiles(means, level), p_value, len(differences), level=level)


def paired_difference(
    candidate: ArrayLike,
    serving: ArrayLike,
    resamples: int,
    permutations: int,
    seed: int,
    *,
    level: float = LEVEL,
) -> Difference:
    """`paired_bootstrap`, with the p-value of the sign-flip test beside it.

    Raises:
        ValueError: the lengths differ, there is no value, or one that is not finite.
    """
    difference = paired_bootstrap(candidate, serving, resamples, seed, level=level)
    moved = np.asarray(candidate, dtype=np.float64) - np.asarray(serving, dtype=np.float64)
    return replace(difference, permutation_p=sign_flip_test(moved, permutations, seed))


def weighted_mean(sample: NDArray[np.float64], weights: ArrayLike | None) -> float:
    """The mean, to the last digit where all weigh the same; `weights` as in `paired_bootstrap`.

    Raises:
        ValueError: there are not as many weights, or one is not over 0.
    """
    weighed = _weights(weights, sample)
    return float(sample.mean() if weighed is None else (sample @ weighed) / weighed.sum())


def resampled_means(
    sample: NDArray[np.float64], resamples: int, seed: int, weights: ArrayLike | None = None
) -> NDArray[np.float64]:
    """The means of `resamples` samples of the same size, drawn with replacement; shape `(resamples,)`.

    Raises:
        ValueError: there are not as many weights, or one is not over 0.
    """
    weighed = _weights(weights, sample)
    generator = np.random.default_rng(seed)
    size = len(sample)
    rows = max(1, _BLOCK // size)
    blocks: list[NDArray[np.float64]] = []
    for start in range(0, resamples, rows):
        drawn = generator.integers(0, size, size=(min(rows, resamples - start), size))
        if weighed is None:
            blocks.append(sample[drawn].mean(axis=1))
        else:
            blocks.append((sample * weighed)[drawn].sum(axis=1) / weighed[drawn].sum(axis=1))
    return np.concatenate(blocks)


def _percentiles(means: NDArray[np.float64], level: float = LEVEL) -> tuple[float, float]:
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _weights(weights: ArrayLike | None, sample: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The weights; None where all are the same."""
    if weights is None:
        return None
    found = np.asarray(weights, dtype=np.float64)
    if found.shape != sample.shape or not bool((np.isfinite(found) & (found > 0)).all()):
        raise ValueError("a weighted mean needs one weight over 0 per query")
    return None if bool((found == found[0]).all()) else found


def _checked(values: ArrayLike) -> NDArray[np.float64]:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample) or not bool(np.isfinite(sample).all()):
        raise ValueError("a bootstrap needs one finite value per query, and at least one query")
    return sample
