"""Real code and real models to measure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.conftest import Filled
from assets_tests.evaluation.small_corpus import add_functions, blur, functions
from pipeline.index import embeddings
from pipeline.index.tables import copy_vectors
from pipeline.promotion import registry
from pipeline.store.connections import Database

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder


@pytest.fixture(scope="session")
def blurred(minilm: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """MiniLM with noise in its word vectors: a real model that is a worse one."""
    from pipeline.encoders.loading import load_encoder

    directory: Path = tmp_path_factory.mktemp("models") / "blurred"
    blur(directory, noise=4)
    return load_encoder(str(directory), device="cpu")


@pytest.fixture(scope="session")
def click_vectors(minilm: Encoder) -> NDArray[np.float32]:
    """MiniLM's vectors of `functions()`, made once."""
    return minilm.embed_documents([each.code for each in functions()])


@pytest.fixture
def indexed(filled: Filled, minilm: Encoder, click_vectors: NDArray[np.float32]) -> Database:
    """A database with `functions()` as its corpus and MiniLM's vectors of them."""

    def make(db: Database) -> None:
        add_functions(db, functions())
        registry.ensure_registered(db, minilm, "minilm")
        with db.connect() as connection:
            table = embeddings.ensure_embedding_table(connection, minilm)
            hashes = [each.content_hash for each in functions()]
            copy_vectors(connection, table, minilm.version, hashes, click_vectors)

    return filled("functions with MiniLM's vectors", make)
