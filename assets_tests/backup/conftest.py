"""A database with rows in every table, and an empty one beside it to restore into."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from assets_tests.conftest import Filled, _create, _drop  # pyright: ignore[reportPrivateUsage]
from assets_tests.store.rows import FILL, fill
from assets_tests.training.conftest import click_pairs, click_set, trained
from pipeline.config import Settings
from pipeline.store.connections import Database
from pipeline.store.server import database_url

__all__ = ["click_pairs", "click_set", "trained"]


@pytest.fixture
def full(filled: Filled) -> Database:
    """Rows in every table."""

    def make(db: Database) -> None:
        with db.connect() as connection:
            fill(connection, list(FILL))

    return filled("rows in every table", make)


@pytest.fixture
def empty(server_settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """A home that is not there yet, and a database without a schema."""
    name = f"empty_{uuid4().hex[:12]}"
    _create(server_settings, name, "template0")
    yield Settings(home=tmp_path / "new home", database_url=database_url(server_settings, name))
    _drop(server_settings, name, f"{name}_dagster")
