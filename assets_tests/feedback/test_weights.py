"""Weights: what makes up for rarity keeps the sum, and no weight leaves (0, 1]."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.feedback.weights import (
    Given,
    capped_weights,
    inverse_propensity,
    mean_scale,
    self_normalised,
    shared_totals,
)


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


def test_caps_per_snippet_and_in_total_hold_together() -> None:
    given = [
        *(Given(1.0, b"x", ["eve"]) for _ in range(50)),
        *(Given(1.0, bytes([number]), ["eve"]) for number in range(30)),
        Given(1.0, b"x", ["eve", "ann"]),
        *(Given(1.0, b"y", [f"web:{number}"]) for number in range(20)),
        *(Given(1.0, b"z", [name]) for name in ("ann", "ben", "cyd")),
    ]
    found = capped_weights(
        given, max_share=0.4, max_per_snippet=5, nameless=lambda person: person.startswith("web:")
    )
    parts: dict[tuple[str, bytes], float] = {}
    for weight, each in zip(found, given, strict=True):
        if len(each.people) == 1:
            key = ("web" if each.people[0].startswith("web:") else each.people[0], each.content_hash)
            parts[key] = parts.get(key, 0.0) + weight
    eve = sum(weight for (person, _), weight in parts.items() if person == "eve")
    # Of x she keeps 5 / 50.5 a time; then all she said is cut to 0.4 of what is left.
    assert parts["web", b"y"] == pytest.approx(5)
    assert parts["ann", b"z"] == pytest.approx(1)
    assert eve <= 0.4 * sum(found)
    assert parts["eve", b"x"] / parts["eve", b"\x00"] == pytest.approx(50 * 5 / 50.5)
    assert all(0 < weight <= 1 for weight in found)


def test_without_any_excess_nothing_is_cut() -> None:
    given = [Given(0.95, bytes([number]), [f"user {number}"]) for number in range(4)]
    assert capped_weights(given, max_share=0.5, max_per_snippet=5, nameless=lambda _: False) == [0.95] * 4


def test_what_several_said_is_shared() -> None:
    totals = shared_totals([(0.8, ["ann", "bob"]), (0.5, ["ann"])])
    assert totals == pytest.approx({"ann": 0.9, "bob": 0.4})
    assert mean_scale(["ann", "bob"], {"ann": 0.5, "bob": 1.0}) == 0.75
