"""A small index of real functions, and a server on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from assets_tests.conftest import Filled
from assets_tests.index.click_corpus import (
    Function,
    add_functions,
    serve,
    some_functions,
    store_vectors,
    vectors_of,
)
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.search.agents.backend import AgentBackend
from pipeline.store.connections import Database


@pytest.fixture(scope="session")
def functions() -> tuple[Function, ...]:
    """Some functions of each of click's modules."""
    return some_functions()[::4]


@pytest.fixture
def indexed(filled: Filled, settings: Settings, minilm: Encoder, functions: tuple[Function, ...]) -> Database:
    """Click's functions, served by MiniLM."""

    def make(db: Database) -> None:
        add_functions(db, functions)
        store_vectors(db, minilm, functions, vectors_of(minilm, functions))
        serve(db, minilm, settings)

    return filled(("served", functions), make)


@pytest.fixture
def backend(indexed: Database, settings: Settings) -> Iterator[AgentBackend]:
    backend = AgentBackend(settings, indexed)
    yield backend
    backend.close()


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    """For a server in a process of its own, on the test's database."""
    return {
        "PATH": os.environ["PATH"],
        "HONELOOP_HOME": str(settings.home),
        "HONELOOP_DATABASE_URL": str(settings.database_url),
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "default",
    }


@pytest.fixture(scope="session")
def honeloop() -> str:
    """The installed command."""
    return str(Path(sys.executable).with_name("honeloop"))


def feedback_of(db: Database) -> list[tuple[str, int, str, str]]:
    """(search, snippet, judgement, user) of every piece of feedback, the oldest first."""
    with db.connect() as connection:
        rows = connection.execute(
            "SELECT search_id, snippet_id, judgement, user_name FROM feedback ORDER BY id"
        ).fetchall()
    return [(str(search_id), *rest) for search_id, *rest in rows]
