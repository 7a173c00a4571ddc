"""What is clearly worse, against a paired t statistic computed by SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from pipeline.training.choosing import is_clearly_worse

metric = st.floats(0, 1, allow_nan=False)
pairs = st.lists(st.tuples(metric, metric), min_size=2, max_size=40)


@given(pairs, st.floats(0, 3))
def test_it_is_the_paired_t_statistic_below_the_tolerance(
    values: list[tuple[float, float]], tolerance: float
):
    one, other = np.array(values).T
    if np.ptp(one - other) < 1e-6:  # no spread, no statistic
        return
    statistic = float(ttest_rel(one, other).statistic)
    if abs(statistic + tolerance) > 1e-6:
        assert is_clearly_worse(list(one), list(other), tolerance) == (statistic < -tolerance)


@given(pairs)
def test_nothing_is_clearly_worse_than_itself(values: list[tuple[float, float]]):
    one = [each for each, _ in values]
    assert not is_clearly_worse(one, one, 0)
    assert not is_clearly_worse(one, one, 1)


@pytest.mark.parametrize("tolerance", [0.0, 1.0])
def test_of_one_query_any_loss_counts(tolerance: float):
    assert is_clearly_worse([0.5], [0.6], tolerance)
    assert not is_clearly_worse([0.6], [0.5], tolerance)
