"""The bootstrap: against normal theory, for coverage, and for what it must not do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pipeline.evaluation.statistics import mean_with_interval, paired_bootstrap, resampled_means


def test_the_interval_of_a_large_sample_is_that_of_normal_theory() -> None:
    sample = np.random.default_rng(1).normal(0.5, 0.2, 400)
    interval = mean_with_interval(sample, resamples=5000, seed=3)
    half = 1.96 * sample.std(ddof=1) / math.sqrt(400)
    assert interval.mean == pytest.approx(sample.mean())
    assert interval.low == pytest.approx(sample.mean() - half, abs=half * 0.1)
    assert interval.high == pytest.approx(sample.mean() + half, abs=half * 0.1)
    assert interval.count == 400


def test_the_interval_agrees_with_scipy() -> None:
    sample = np.random.default_rng(2).beta(0.4, 0.4, 120)
    ours = mean_with_interval(sample, resamples=8000, seed=3)
    theirs = stats.bootstrap(
        (sample,), np.mean, n_resamples=8000, method="percentile", rng=4
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.high, abs=0.01)


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    holds = 0
    for trial in range(400):
        sample = random.random(80) < 0.3  # what a recall is: yes or no for each query
        interval = mean_with_interval(sample.astype(float), resamples=400, seed=trial)
        holds += interval.low <= 0.3 <= interval.high
    # 95% of 400 is 380; a percentile interval covers a little less. Five standard deviations below 93%.
    assert 346 <= holds <= 397


def test_a_clear_difference_is_significant_and_its_sign_is_candidate_minus_serving() -> None:
    random = np.random.default_rng(8)
    serving = random.random(200)
    better = paired_bootstrap(serving + 0.05 + random.normal(0, 0.05, 200), serving, 2000, 5)
    assert better.significant
    assert better.low > 0.03
    assert better.p_value < 0.01
    worse = paired_bootstrap(serving, serving + 0.05 + random.normal(0, 0.05, 200), 2000, 5)
    assert worse.high < -0.03


def test_the_weighted_interval_agrees_with_scipy() -> None:
    random = np.random.default_rng(12)
    differences, weights = random.normal(0.05, 0.3, 120), random.choice([0.05, 1.0], 120)
    ours = paired_bootstrap(differences, np.zeros(120), 8000, 3, weights=weights)
    theirs = stats.bootstrap(
        (differences, weights),
        lambda d, w, axis: (d * w).sum(axis=axis) / w.sum(axis=axis),
        n_resamples=8000,
        method="percentile",
        paired=True,
        rng=4,
    ).confidence_interval
    assert ours.mean == pytest.approx(np.average(differences, weights=weights))
    assert ours.low == pytest.approx(theirs.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.high, abs=0.01)


def test_equal_weights_change_no_digit_and_impossible_ones_are_refused() -> None:
    candidate, serving = np.random.default_rng(13).random((2, 50))
    plain = paired_bootstrap(candidate, serving, 500, 1)
    assert paired_bootstrap(candidate, serving, 500, 1, weights=[0.3] * 50) == plain
    for weights in ([1.0] * 49, [1.0] * 49 + [0.0], [1.0] * 49 + [math.nan]):
        with pytest.raises(ValueError, match="one weight over 0 per query"):
            paired_bootstrap(candidate, serving, 500, 1, weights=weights)


def test_pairing_finds_what_the_models_own_intervals_hide() -> None:
    random = np.random.default_rng(9)
    hardness = random.random(150)  # queries differ far more than models do
    serving, candidate = hardness, hardness + random.normal(0.02, 0.03, 150)
    first, second = mean_with_interval(candidate, 2000, 1), mean_with_interval(serving, 2000, 1)
    assert first.low < second.high
    assert paired_bootstrap(candidate, serving, 2000, 1).significant


def test_no_difference_gives_a_uniform_p_value() -> None:
    random = np.random.default_rng(10)
    p_values = [
        paired_bootstrap(random.normal(size=60), random.normal(size=60), 300, trial).p_value
        for trial in range(300)
    ]
    assert 0.01 <= np.mean(np.array(p_values) < 0.05) <= 0.1
    assert 0.4 <= np.mean(p_values) <= 0.6


def test_the_p_value_agrees_with_the_paired_t_test() -> None:
    random = np.random.default_rng(11)
    serving = random.random(120)
    candidate = serving + random.normal(0.02, 0.1, 120)
    ours = paired_bootstrap(candidate, serving, 10_000, 2).p_value
    assert ours == pytest.approx(float(stats.ttest_rel(candidate, serving).pvalue), abs=0.02)


def test_identical_models_do_not_differ() -> None:
    values = np.random.default_rng(12).random(50)
    difference = paired_bootstrap(values, values, 500, 1)
    assert (difference.mean, difference.low, difference.high, difference.p_value) == (0, 0, 0, 1)
    assert not difference.significant


def test_the_same_seed_gives_the_same_interval_whatever_the_size() -> None:
    large = np.random.default_rng(13).random(9000)  # resampled in several blocks
    assert mean_with_interval(large, 1000, 4) == mean_with_interval(large, 1000, 4)
    assert mean_with_interval(large, 1000, 4) != mean_with_interval(large, 1000, 5)
    assert resampled_means(large, 1000, 4).shape == (1000,)


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf]])
def test_what_has_no_mean_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError):
        mean_with_interval(values, 100, 1)


def test_unpaired_values_are_refused() -> None:
    with pytest.raises(ValueError, match="3 values cannot be paired with 2"):
        paired_bootstrap([1, 2, 3], [1, 2], 100, 1)
