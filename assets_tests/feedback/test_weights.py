"""Weights: what makes up for rarity keeps the sum, and no weight leaves (0, 1]."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.feedback.weights import inverse_propensity, mean_scale, self_normalised, shared_totals


@pytest.mark.parametrize("seed", range(50))
def test_the_sum_stays_none_exceeds_one_and_what_is_not_cut_keeps_its_proportions(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 30))
    weights = random.uniform(0.01, 1, count).tolist()
    corrections = random.uniform(1, 10, count).tolist()
    found = self_normalised(weights, corrections)
    assert math.fsum(found) == pytest.approx(math.fsum(weights))
    assert all(0 < weight <= 1 for weight in found)
    factors = [
        weight / (before * correction)
        for weight, before, correction in zip(found, weights, corrections, strict=True)
        if weight < 1
    ]
    assert factors == pytest.approx(factors[:1] * len(factors))


def test_equal_corrections_change_nothing_at_all() -> None:
    assert self_normalised([0.8, 0.85, 0.9], [3.0, 3.0, 3.0]) == [0.8, 0.85, 0.9]


def test_the_rarer_weighs_more() -> None:
    assert self_normalised([0.4, 0.4], [1, 3]) == pytest.approx([0.2, 0.6])
    # 0.8 · 2 would exceed 1; the other three share what it loses.
    assert self_normalised([0.8] * 4, [1, 1, 1, 2]) == pytest.approx([2.2 / 3] * 3 + [1])


def test_inverse_propensity_is_a_clipped_mean() -> None:
    assert inverse_propensity([1.0], 5) == 1
    assert inverse_propensity([0.5, 0.05], 5) == pytest.approx((2 + 5) / 2)


def test_what_several_said_is_shared() -> None:
    totals = shared_totals([(0.8, ["ann", "bob"]), (0.5, ["ann"])])
    assert totals == pytest.approx({"ann": 0.9, "bob": 0.4})
    assert mean_scale(["ann", "bob"], {"ann": 0.5, "bob": 1.0}) == 0.75
