"""The weights of models that did not pass: which go, which stay at any age, and what says that they went."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from psycopg.types.json import Jsonb
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.config import Settings
from pipeline.doctor.findings import Examination
from pipeline.doctor.models import examine_models
from pipeline.errors import HoneloopError
from pipeline.index.challenging import choose_challenger
from pipeline.locking import locked
from pipeline.promotion import registry
from pipeline.promotion.deciding import promote
from pipeline.promotion.registry import ModelRecord, State
from pipeline.promotion.weights import give_up_weights, given_up_at, weights_in_use
from pipeline.store.connections import Database
from pipeline.store.locks import locked_if_free
from pipeline.training.checkpoints import LOCK, unfinished_checkpoints
from pipeline.training.runs import plan_run
from pipeline.training.training_set import TrainingSet
from pipeline.workbench import Workbench

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

ROOT = "ba5e" * 16


def add_model(
    db: Database, version: str, state: State, place: Path | str, base: str | None, *, day: int
) -> None:
    """A row as a training left it, and its checkpoint if the place is a path."""
    if isinstance(place, Path):
        place.mkdir(parents=True)
        (place / "model.safetensors").write_bytes(b"weights")
    with db.connect() as connection:
        connection.execute(
            "INSERT INTO model_versions"
            " (version, name, spec, dims, location, state, base_version, lineage, created_at)"
            " VALUES (%s, %s, '{}', 384, %s, %s, %s, %s, timestamptz '2026-01-01' + %s * interval '1 day')",
            [version, f"made-{version[:4]}", str(place), state, base, Jsonb({"seed": 17}), day],
        )


class Registry:
    """A registry of made models, the oldest first, each with a directory where checkpoints lie."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self.db = db
        self.settings = settings.model_copy(update={"keep_rejected_checkpoints": 1})
        self._made = 0
        add_model(db, ROOT, "base", "minilm", None, day=0)

    def add(self, digit: str, state: State = "rejected", base: str = ROOT, place: Path | None = None) -> str:
        version = digit * 64
        path = place or (self.settings.checkpoints_path / version).resolve()
        self._made += 1
        add_model(self.db, version, state, path, base, day=self._made)
        return version

    def give_up(self, spared: tuple[str, ...] = ()) -> list[str]:
        return [gone.version for gone in give_up_weights(self.db, self.settings, spared)]

    def record(self, version: str) -> ModelRecord:
        return registry.get_record(self.db, version)


@pytest.fixture
def made(db: Database, settings: Settings) -> Registry:
    return Registry(db, settings)


def test_older_rejected_weights_go_and_the_record_stays(made: Registry) -> None:
    old, newer, newest = made.add("1"), made.add("2"), made.add("3")
    before = made.record(old)
    assert given_up_at(before) is None
    assert made.give_up() == [old, newer]
    after = made.record(old)
    assert not Path(after.location).exists()
    assert unfinished_checkpoints(made.settings.checkpoints_path) == []
    assert (after.lineage, after.state, after.location) == (before.lineage, "rejected", before.location)
    assert given_up_at(after) is not None
    assert given_up_at(made.record(newest)) is None
    assert made.give_up() == []  # once
    # As when the same is trained again.
    Path(after.location).mkdir()
    assert given_up_at(made.record(old)) is None


@pytest.mark.parametrize("state", ["base", "candidate", "approved", "serving", "retired"])
def test_what_is_not_rejected_stays(made: Registry, state: State) -> None:
    other = made.add("1", state)
    made.add("3")
    assert made.give_up() == []
    assert Path(made.record(other).location).is_dir()


def test_those_that_the_gate_knew_too_little_of_go_with_the_rejected(made: Registry) -> None:
    undecided, unjudged, rejected, newest = (
        made.add("1", "candidate"),
        made.add("2", "candidate"),
        made.add("3"),
        made.add("4", "candidate"),
    )
    with made.db.connect() as connection:
        for version in (undecided, newest):
            verdict = {"verdict": {"decision": "not enough evidence"}}
            registry.store_metrics(connection, version, verdict)
    assert made.give_up() == [undecided, rejected]
    assert given_up_at(made.record(undecided)) is not None
    assert Path(made.record(unjudged).location).is_dir()
    assert Path(made.record(newest).location).is_dir()


def test_what_others_came_of_or_people_decided_about_stays(made: Registry, tmp_path: Path) -> None:
    parent, member, promoted, served, interleaved, indexed = (made.add(digit) for digit in "123456")
    made.add("7", base=parent)
    elsewhere = made.add("8", place=tmp_path / "elsewhere")
    with made.db.connect() as connection:
        connection.execute(
            "UPDATE model_versions SET spec = %s WHERE version = %s",
            [Jsonb({"members": [{"source": made.record(member).location}]}), ROOT],
        )
        registry.set_state(connection, promoted, "approved", "person", ["I like it"])
        registry.set_state(connection, promoted, "rejected", "gate", ["worse"])
        registry.set_state(connection, served, "serving", "index", ["built"])
        connection.execute("UPDATE model_versions SET state = 'rejected' WHERE version = %s", [served])
        choose_challenger(connection, interleaved)
        connection.execute(
            "INSERT INTO index_versions (model_version, table_name, state, dims)"
            " VALUES (%s, 't', 'ready', 384)",
            [indexed],
        )
    gone = made.add("9")
    newest = made.add("a")
    assert made.give_up() == ["7" * 64, gone]
    stay = (parent, member, promoted, served, interleaved, indexed, elsewhere, newest)
    assert all(Path(made.record(version).location).is_dir() for version in stay)


def test_what_the_settings_name_or_the_caller_works_with_stays(made: Registry) -> None:
    encoder, guide, named, candidate, gone = (made.add(digit) for digit in "12345")
    made.add("6")
    made.settings = made.settings.model_copy(
        update={"encoder": f"minilm+{made.record(encoder).location}", "guide": guide[:8]}
    )
    assert made.give_up(spared=(candidate, named)) == [gone]
    made.settings = made.settings.model_copy(update={"guide": made.record(named).name})
    assert made.give_up(spared=(candidate,)) == [guide]


def test_what_is_in_use_or_written_stays_until_the_next_time(made: Registry) -> None:
    old, _ = made.add("1"), made.add("2")
    with weights_in_use(made.db, old):
        assert made.give_up() == []
    with locked(made.settings.checkpoints_path / LOCK):
        assert made.give_up() == []
    assert Path(made.record(old).location).is_dir()
    assert given_up_at(made.record(old)) is None
    assert made.give_up() == [old]


def test_a_promotion_and_a_deletion_wait_for_one_another(
    db: Database, settings: Settings, minilm: Encoder, blurred: Encoder, blurred_directory: Path
) -> None:
    registry.ensure_registered(db, minilm, "minilm")
    registry.ensure_registered(db, blurred, str(blurred_directory), "candidate", base_version=minilm.version)
    done: list[ModelRecord] = []
    promoting = threading.Thread(
        target=lambda: done.append(promote(db, settings, blurred.version, "I like it"))
    )
    with locked_if_free(db, f"honeloop.weights.{blurred.version}") as free:
        assert free
        promoting.start()
        promoting.join(timeout=1)
        assert promoting.is_alive()
    promoting.join(timeout=60)
    assert [record.state for record in done] == ["approved"]


def test_whoever_asks_for_them_is_told(
    made: Registry, monkeypatch: pytest.MonkeyPatch, minilm: Encoder
) -> None:
    old, newest = made.add("1"), made.add("2")
    with made.db.connect() as connection:
        connection.execute(
            "UPDATE model_versions SET spec = %s", [Jsonb(minilm.spec.model_dump(mode="json"))]
        )
    assert made.give_up() == [old]
    told = pytest.raises(HoneloopError, match=f"weights of made-1111 .{old[:12]}.*were given up on")
    with told as raised:
        promote(made.db, made.settings, old, "I like it")
    assert "HONELOOP_KEEP_REJECTED_CHECKPOINTS" in raised.value.hint
    bench = Workbench(made.settings, database=made.db)
    with told:
        bench.encoder(made.record(old)).embed_queries(["open a file"])
    with told:
        plan_run(bench, TrainingSet(1, "f", "p", ROOT, {}, ()), made.record(old), made.settings)

    monkeypatch.setenv("HONELOOP_HOME", str(made.settings.home))
    monkeypatch.setenv("HONELOOP_DATABASE_URL", str(made.settings.database_url))
    exported = CliRunner().invoke(app, ["models", "export", old[:8], "--onnx"])
    assert exported.exit_code == 1
    assert "were given up on" in " ".join(exported.stderr.split())
    listed = CliRunner().invoke(app, ["models"])
    assert f"{old[:12]} weights given up on" in listed.stdout
    assert f"{newest[:12]} weights" not in listed.stdout
    shown = json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)["models"]
    given_up = {each["version"]: each["weights_given_up"] for each in shown}
    assert given_up[old] == given_up_at(made.record(old))
    assert given_up[newest] is None

    found = Examination()
    examine_models(made.db, made.settings, found)
    assert (found.findings, found.notes) == ([], [])
    shutil.rmtree(made.record(newest).location)  # by somebody else
    found = Examination()
    examine_models(made.db, made.settings, found)
    assert len(found.notes) == 1
