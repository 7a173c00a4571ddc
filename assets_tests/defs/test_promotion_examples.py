"""What the account of a promotion shows of people's queries, when somebody is forgotten meanwhile."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from assets_tests.evaluation.made import TEST_SET, Slice, evaluation
from assets_tests.evaluation.small_corpus import blur
from pipeline.config import Settings
from pipeline.corpus.repositories import add_repository
from pipeline.defs.in_process import Loop
from pipeline.evaluation.store import save_evaluation
from pipeline.feedback.forgetting_store import redact_evaluations
from pipeline.feedback.grouping import group_key
from pipeline.progress import Advance, Silent
from pipeline.promotion import registry
from pipeline.store.connections import Database

ASKED = [f"feedback python 0 question {number}" for number in range(6)]


class ForgetsMeanwhile(Silent):
    """As somebody who asked some of the queries is forgotten when embedding begins."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.gone: list[str] = []

    @contextmanager
    def stage(self, description: str, total: int | None = None) -> Generator[Advance]:
        if self.gone and description.startswith("Embedding"):
            with self.db.connect() as connection:
                redact_evaluations(connection, {group_key(query) for query in self.gone}, {})
        with super().stage(description, total) as advance:
            yield advance


@pytest.mark.parametrize(
    "gone", [ASKED[:4], *(pytest.param(all_or_none, marks=pytest.mark.slow) for all_or_none in ([], ASKED))]
)
def test_queries_that_are_forgotten_while_it_embeds_are_no_examples(
    settings: Settings, db: Database, tmp_path: Path, gone: list[str]
) -> None:
    from pipeline.encoders.loading import load_encoder

    code = tmp_path / "code"
    code.mkdir()
    (code / "core.py").write_text((Path(click.__file__).parent / "exceptions.py").read_text("utf-8"))
    add_repository(db, "code", str(code))
    blur(tmp_path / "blurred", noise=1)
    other = load_encoder(str(tmp_path / "blurred"), device="cpu")
    progress = ForgetsMeanwhile(db)
    with Loop.running(settings, progress) as loop:
        assert loop.index()
        base = loop.workbench.base_model().version
        registry.ensure_registered(db, other, other.source, "candidate", base_version=base)
        for version, rank in ((base, 9), (other.version, 2)):
            save_evaluation(db, evaluation(version, Slice([rank] * len(ASKED), origin="feedback")))
        with db.connect() as connection:
            registry.set_state(connection, other.version, "approved", "person", ["for the test"])
        loop.result.training["model_evaluation"] = {
            "model_version": other.version,
            "serving_version": base,
            "test_set": TEST_SET,
        }
        progress.gone = gone
        assert loop.finish_promotion(), loop.result.failures
        shown = {query for query, _, _ in loop.result.examples}
    assert not shown & set(gone)
    assert bool(shown) == (gone != ASKED)
