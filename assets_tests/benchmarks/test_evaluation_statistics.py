"""What the intervals, the tests and the gate promise is kept, within what chance allows."""

from __future__ import annotations

import pytest

from assets_tests.benchmarks.evaluation_statistics import Said, keeps, population, verdicts
from pipeline.config import Settings

SETTINGS = Settings(bootstrap_resamples=1000, permutations=1000)


@pytest.mark.slow
@pytest.mark.parametrize("queries", [50, 500])
def test_intervals_hold_and_tests_alarm_as_often_as_they_say(queries: int) -> None:
    kept = keeps(population(1), queries, 1500, SETTINGS)
    # The standard error of a share of 0.05 is 0.0056; the percentile interval is known to be a little narrow.
    assert 0.92 <= kept.coverage <= 0.97
    assert 0.03 <= kept.permutation <= 0.072
    assert 0.03 <= kept.bootstrap <= 0.08


@pytest.mark.slow
def test_the_gate_seldom_approves_what_is_no_better_and_catches_harm_in_one_repository() -> None:
    equal = Said.of(verdicts(population(2), 500, 200, SETTINGS))
    assert equal.approved <= 0.1
    better = Said.of(verdicts(population(2, better=0.5), 500, 200, SETTINGS))
    assert better.approved >= 0.85
    harmful = Said.of(verdicts(population(2, better=0.5), 500, 200, SETTINGS, harm=0.6))
    assert harmful.approved <= 0.03
