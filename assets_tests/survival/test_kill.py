"""kill -9 of the loop: what serves answers as it did, the next run completes, and nothing is left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from assets_tests.survival.homes import Home, make_home, temporary_directory
from assets_tests.survival.kills import Figures, kill_at_boundaries, kill_at_random
from assets_tests.survival.orders import Orders, taking_orders

SEED = 1
KILLS = 20


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with temporary_directory() as path:
        yield path


@pytest.fixture(scope="module")
def prepared(directory: Path) -> Home:
    """A home whose index serves, made once; what is killed are copies of it."""
    return make_home(directory / "made")


@pytest.fixture(scope="module")
def orders(directory: Path) -> Iterator[Orders]:
    with taking_orders(directory / "orders") as orders:
        yield orders


@pytest.fixture
def home(prepared: Home, directory: Path, request: pytest.FixtureRequest) -> Home:
    return prepared.copy(directory / str(abs(hash(request.node.name)) % 10_000))


def require_nothing_lost(figures: Figures) -> None:
    print(json.dumps(figures.to_json(), indent=1))  # with -s, and when it fails
    assert figures.lost == []
    assert figures.mended_by_hand == []


@pytest.mark.slow
def test_at_twenty_random_moments(home: Home, orders: Orders) -> None:
    figures = kill_at_random(home, orders, kills=KILLS, seed=SEED)
    require_nothing_lost(figures)
    assert figures.kills.total() + figures.late == KILLS
    assert figures.kills.total() >= KILLS // 2


@pytest.mark.slow
def test_at_each_step_boundary(home: Home, orders: Orders) -> None:
    figures = kill_at_boundaries(home, orders)
    require_nothing_lost(figures)
    assert figures.kills.total() >= 8  # without a promotion the loop ends after eight assets
