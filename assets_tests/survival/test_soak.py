"""A minute of everything at once; half an hour is `python -m assets_tests.benchmarks.soak`."""

from __future__ import annotations

import pytest

from assets_tests.benchmarks.soak import run_soak
from assets_tests.survival.homes import temporary_directory


@pytest.mark.slow
def test_nothing_is_lost_in_a_minute_of_everything() -> None:
    with temporary_directory() as directory:
        figures = run_soak(1, directory)
    print(figures)
    assert figures["broken"] == figures["unclear"] == []
    assert figures["lost"] == {"searches": 0, "judgements": 0}
    assert figures["not recorded"] == 0
    assert set(figures["statuses"]) <= {200, 503}
    assert figures["judgements"] > 0
    assert figures["done"]["indexed"] > 0
    assert figures["done"]["flipped"] > 0
    # A minute is too short for memory; what is not given back at once shows in open files.
    assert figures["trends"]["service files"]["growth"] < 0.5
