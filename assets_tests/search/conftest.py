"""The same real snippets and vectors as the tests of index/, and two models to search them with."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import Function
from assets_tests.index.conftest import functions, vectors
from assets_tests.search.models import COUNT, Model, load_perturbed
from pipeline.encoders.encoder import Encoder

__all__ = ["functions", "vectors"]


@pytest.fixture(scope="session")
def first(minilm: Encoder, functions: tuple[Function, ...], vectors: NDArray[np.float32]) -> Model:
    """MiniLM as it is."""
    return Model(minilm, "minilm", functions[:COUNT], vectors[:COUNT])


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory, functions: tuple[Function, ...]) -> Model:
    """A really different model."""
    return load_perturbed(tmp_path_factory.mktemp("other") / "model", functions[:COUNT])
