"""What the tests of Dagster's side share: a small real repository, a workbench, an instance of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from pipeline.config import Settings
from pipeline.corpus.extraction import extract_repository
from pipeline.corpus.repositories import Repository, add_repository, get_repository
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.loading import token_budget
from pipeline.progress import Silent
from pipeline.promotion import registry
from pipeline.promotion.registry import ensure_registered
from pipeline.store.connections import Database
from pipeline.workbench import Workbench

CODE = '''def parse_duration(text):
    """Turns a duration such as 1h30m into a number of seconds."""
    hours, _, minutes = text.rstrip("m").partition("h")
    return int(hours) * 3600 + int(minutes or 0) * 60


def moving_average(values, width):
    """The mean of each window of consecutive values."""
    return [sum(values[i : i + width]) / width for i in range(len(values) - width + 1)]
'''


@pytest.fixture
def workbench(db: Database, settings: Settings) -> Workbench:
    """A workbench on the test's own database."""
    return Workbench(settings, database=db)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance of the test's own; schedules ask for one that other processes could open too."""
    with dg.instance_for_test() as temporary:
        yield temporary


@pytest.fixture
def registered(db: Database, tmp_path: Path) -> Repository:
    """A directory with two functions, registered and not read yet."""
    directory = tmp_path / "code"
    directory.mkdir()
    (directory / "times.py").write_text(CODE)
    return add_repository(db, "mine", str(directory))


@pytest.fixture
def extracted(db: Database, settings: Settings, registered: Repository, minilm: Encoder) -> Repository:
    """The same, read; with the base encoder registered."""
    ensure_registered(db, minilm, "minilm")
    extract_repository(db, registered, settings, token_budget("minilm"), Silent())
    return get_repository(db, registered.name)


@pytest.fixture
def other(db: Database, minilm: Encoder, tmp_path: Path) -> registry.ModelRecord:
    """A second model version, a candidate grown from MiniLM; only its registration matters here."""
    from pipeline.encoders.encoder import Encoder as AnEncoder

    registry.ensure_registered(db, minilm, "minilm")
    renamed = AnEncoder(minilm.spec, (), dict.fromkeys(minilm.files, "0" * 64))
    return registry.ensure_registered(
        db, renamed, str(tmp_path / "checkpoint"), state="candidate", base_version=minilm.version
    )
