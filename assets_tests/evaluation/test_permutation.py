"""The sign-flip test against an independent one, at its extremes, and the correction for many tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pipeline.evaluation.permutation import holm, sign_flip_test


def scipy_p(sample: np.ndarray) -> float:
    found = stats.permutation_test(
        (sample, np.zeros_like(sample)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        rng=1,
    )
    return float(found.pvalue)


@pytest.mark.parametrize("count", [7, 14, 15, 90])
def test_it_agrees_with_scipy(count: int) -> None:
    sample = np.random.default_rng(count).normal(0.05, 0.2, count)
    assert sign_flip_test(sample, 20_000, 3) == pytest.approx(scipy_p(sample), abs=0.012)


def test_differences_of_few_sizes_are_tossed_as_if_each_were_alone() -> None:
    random = np.random.default_rng(5)
    sample = random.choice([-0.5, -0.369, 0, 0.131, 0.5], 200, p=[0.05, 0.1, 0.6, 0.15, 0.1])
    assert sign_flip_test(sample, 20_000, 3) == pytest.approx(scipy_p(sample), abs=0.012)


def test_a_few_differences_are_tried_in_every_way() -> None:
    assert sign_flip_test([1.0], 1000, 1) == 1  # one query cannot tell
    assert sign_flip_test([1.0, 1.0], 1000, 1) == 0.5
    assert sign_flip_test([0.3, 0.2, 0.1, 0.4, 0.5, 0.2], 1000, 1) == 2 / 64
    assert sign_flip_test([0.3, 0.2, 0.1, 0.4, 0.5, 0.2, 0.0, 0.0], 1000, 1) == 2 / 64  # ties say nothing


def test_queries_that_do_not_differ_tell_nothing() -> None:
    assert sign_flip_test(np.zeros(500), 1000, 1) == 1


def test_p_is_never_zero_and_the_sign_does_not_matter() -> None:
    sample = np.full(300, 0.2)
    assert sign_flip_test(sample, 1000, 1) == 1 / 1001
    assert sign_flip_test(-sample, 1000, 1) == 1 / 1001


def test_with_thousands_of_queries_a_tiny_difference_is_certain() -> None:
    sample = np.random.default_rng(6).normal(0.004, 0.1, 20_000)
    assert sign_flip_test(sample, 1000, 1) < 0.01


def test_the_same_seed_gives_the_same_p() -> None:
    sample = np.random.default_rng(7).normal(0.02, 0.2, 100)
    assert sign_flip_test(sample, 1000, 1) == sign_flip_test(sample, 1000, 1)


def test_models_that_are_equally_good_are_seldom_told_apart() -> None:
    random = np.random.default_rng(8)
    alarms = sum(
        sign_flip_test(random.normal(0, 0.3, 60) * (random.random(60) < 0.4), 300, trial) < 0.05
        for trial in range(400)
    )
    assert 5 <= alarms <= 36  # 20 expected; a binomial count is outside by chance once in 2,000 times


@pytest.mark.parametrize("sample", [[], [0.1, math.nan], [math.inf], [[0.1, 0.2]]])
def test_what_cannot_be_tested_is_refused(sample: list[float]) -> None:
    with pytest.raises(ValueError, match="permutation test"):
        sign_flip_test(sample, 100, 1)


def test_holm_corrects_in_order_and_never_past_one() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([0.04]) == [0.04]
    assert holm([]) == []
