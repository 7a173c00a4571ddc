"""Click's functions and their vectors, embedded once for all tests of index/ and search/."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import Function, some_functions, vectors_of
from pipeline.encoders.encoder import Encoder


@pytest.fixture(scope="session")
def functions() -> tuple[Function, ...]:
    """250 functions of click, spread over all its modules; short ones, which are embedded quickly."""
    return some_functions()


@pytest.fixture(scope="session")
def vectors(functions: tuple[Function, ...], minilm: Encoder) -> NDArray[np.float32]:
    """Their vectors, row by row."""
    return vectors_of(minilm, functions)
