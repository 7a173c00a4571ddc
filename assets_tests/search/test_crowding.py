"""How crowded the place of a text is."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.search.hybrid.crowding import NEIGHBOURS, crowding


def directions(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def test_a_text_is_no_neighbour_of_itself() -> None:
    near = directions(0, 60, 90)
    found = crowding(near, near, np.arange(3))
    assert found == pytest.approx([(0.5 + 0) / 2, (0.5 + np.sqrt(0.75)) / 2, (0 + np.sqrt(0.75)) / 2])


def test_a_copy_of_it_is_one() -> None:
    near = directions(0, 0)
    assert crowding(near, near, np.arange(2)) == pytest.approx([1.0, 1.0])


def test_one_from_outside_is_compared_with_all() -> None:
    assert crowding(directions(60), directions(0, 90), np.array([-1])) == pytest.approx(
        [(0.5 + np.sqrt(0.75)) / 2]
    )


def test_only_the_nearest_count() -> None:
    near = directions(*[10] * NEIGHBOURS, *[80] * 5)
    assert crowding(directions(10), near, np.array([-1])) == pytest.approx([1.0])


def test_who_is_alone_is_in_no_crowd() -> None:
    near = directions(45)
    assert crowding(near, near, np.array([0])).tolist() == [0.0]
    assert crowding(near, np.empty((0, 2), dtype=np.float32), np.array([-1])).tolist() == [0.0]
    assert crowding(np.empty((0, 2), dtype=np.float32), near, np.empty(0, dtype=np.int64)).shape == (0,)
