"""What the corpus tests share: the real tokenizer's budget, and an extraction in one call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import Settings
from pipeline.corpus.extraction import extract_repository
from pipeline.corpus.report import ExtractionReport
from pipeline.corpus.repositories import add_repository, get_repository
from pipeline.corpus.tokens import TokenBudget
from pipeline.progress import Silent
from pipeline.store.connections import Database

Extract = Callable[..., ExtractionReport]


@pytest.fixture(scope="session")
def budget() -> TokenBudget:
    """The real MiniLM tokenizer, without the model."""
    from pipeline.encoders.loading import token_budget

    return token_budget("minilm")


@pytest.fixture
def extract(db: Database, settings: Settings, budget: TokenBudget) -> Extract:
    """Extracts a registered repository, with settings changed; with a location, registers it first."""

    def run(
        name: str,
        location: Path | str | None = None,
        *,
        kind: str | None = None,
        ref: str | None = None,
        tokens: TokenBudget = budget,
        **changed: object,
    ) -> ExtractionReport:
        if location is not None:
            add_repository(db, name, str(location), kind, ref)
        used = settings.model_copy(update=changed)
        return extract_repository(db, get_repository(db, name), used, tokens, Silent())

    return run
