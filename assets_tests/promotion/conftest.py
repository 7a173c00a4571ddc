"""Real models to register and decide about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from assets_tests.evaluation.small_corpus import blur

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder


@pytest.fixture(scope="session")
def blurred_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM with a little noise in its word vectors, as a model directory."""
    directory = tmp_path_factory.mktemp("models") / "blurred"
    blur(directory, noise=0.05)
    return directory


@pytest.fixture(scope="session")
def blurred(blurred_directory: Path) -> Encoder:
    """That model, loaded."""
    from pipeline.encoders.loading import load_encoder

    return load_encoder(str(blurred_directory), device="cpu")
