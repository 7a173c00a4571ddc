"""The same real snippets and vectors as the tests of index/, databases that serve them, and two models."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.conftest import Filled
from assets_tests.index.click_corpus import Function, add_functions, serve, store_vectors
from assets_tests.index.conftest import functions, vectors
from assets_tests.search.models import COUNT, Model, load_perturbed
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.search.hybrid.words import count_words
from pipeline.store.connections import Database

__all__ = ["functions", "vectors"]

Functions = tuple[Function, ...]
Vectors = NDArray[np.float32]


@pytest.fixture
def served(
    filled: Filled, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> Database:
    """Click's functions, served by MiniLM; no words are counted."""

    def make(db: Database) -> None:
        _serve_all(db, minilm, settings, functions, vectors)

    return filled(("served", functions), make)


@pytest.fixture
def served_with_words(
    filled: Filled, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> Database:
    """The same, with their words counted."""

    def make(db: Database) -> None:
        _serve_all(db, minilm, settings, functions, vectors)
        with db.connect() as connection:
            count_words(connection)

    return filled(("served, with words", functions), make)


@pytest.fixture(scope="session")
def first(minilm: Encoder, functions: Functions, vectors: Vectors) -> Model:
    """MiniLM as it is."""
    return Model(minilm, "minilm", functions[:COUNT], vectors[:COUNT])


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory, functions: Functions) -> Model:
    """A really different model."""
    return load_perturbed(tmp_path_factory.mktemp("other") / "model", functions[:COUNT])


def _serve_all(
    db: Database, encoder: Encoder, settings: Settings, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions)
    store_vectors(db, encoder, functions, vectors)
    serve(db, encoder, settings)
