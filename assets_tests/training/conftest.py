"""A tiny real training set and one model fine-tuned on it, shared by this room's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets_tests.training.click_pairs import make_pairs, make_set
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.progress import Silent
from pipeline.training.fine_tuning import FineTuned, fine_tune
from pipeline.training.pairs import Pair, TrainingSet


@pytest.fixture(scope="session")
def click_pairs(minilm: Encoder) -> list[Pair]:
    """48 training and 16 validation pairs."""
    return [*make_pairs(minilm, 48, "train"), *make_pairs(minilm, 16, "validation", 48)]


@pytest.fixture(scope="session")
def click_set(click_pairs: list[Pair]) -> TrainingSet:
    return make_set(click_pairs)


@pytest.fixture
def small(tmp_path: Path) -> Settings:
    """Settings under which a training takes a second or two."""
    return Settings(
        home=tmp_path / "home", device="cpu", train_batch_size=8, train_max_tokens=32, validations_per_epoch=2
    )


@pytest.fixture(scope="session")
def trained(
    minilm: Encoder, click_set: TrainingSet, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FineTuned, Settings]:
    """A model trained for two epochs, and the settings it was trained with."""
    home = tmp_path_factory.mktemp("trained")
    settings = Settings(
        home=home,
        device="cpu",
        train_batch_size=8,
        train_max_tokens=32,
        train_epochs=2,
        validations_per_epoch=1,
    )
    return fine_tune(minilm, click_set, settings, home / "work", Silent()), settings
