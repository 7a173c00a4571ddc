"""What the tests of survival share: click's functions to index, and a model to write down, none trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import Function
from assets_tests.index.conftest import functions, vectors
from assets_tests.survival.homes import Home, make_home, temporary_directory
from assets_tests.survival.untrained import as_trained
from assets_tests.training.click_pairs import make_set, plain_pairs
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.training.fine_tuning import FineTuned
from pipeline.training.pairs import TrainingSet

__all__ = ["functions", "vectors"]

Code = tuple[tuple[Function, ...], NDArray[np.float32]]


@pytest.fixture
def code(functions: tuple[Function, ...], vectors: NDArray[np.float32]) -> Code:
    """Functions, and their vectors."""
    return functions, vectors


@pytest.fixture(scope="session")
def few_pairs() -> TrainingSet:
    """Enough for a checkpoint to say what it was trained on."""
    return make_set(plain_pairs(8, "train"))


@pytest.fixture(scope="session")
def untrained(minilm: Encoder) -> FineTuned:
    """The real MiniLM, as if a training had left it as it was: its files are what a training's are."""
    return as_trained(minilm.sentence_transformer(), minilm.version, Settings())


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with temporary_directory() as path:
        yield path


@pytest.fixture(scope="module")
def prepared(directory: Path) -> Home:
    """A home whose index serves, made once; what is killed, or loses its parts, are copies of it."""
    return make_home(directory / "made")
