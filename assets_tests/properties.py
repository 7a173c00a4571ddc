"""Properties checked by hypothesis: a few examples in each run of the tests, many with `-m slow`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy


def few_or_many(few: int, many: int) -> pytest.MarkDecorator:
    """Runs a test with few examples, and as a slow one with many."""
    return pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.slow)])


def holds(examples: int, *strategies: SearchStrategy[object]) -> Callable[[Callable[..., None]], None]:
    """Checks what it decorates, now, on so many examples: the same ones each time, so that a failure stays.

    No time limit for one example: the machine may be busy. What fails is shrunk to the smallest that does.
    """

    def check(proposition: Callable[..., None]) -> None:
        with_settings = settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
            suppress_health_check=[
                HealthCheck.too_slow,
                HealthCheck.filter_too_much,
                HealthCheck.data_too_large,
            ],
        )
        with_settings(given(*strategies)(proposition))()

    return check
