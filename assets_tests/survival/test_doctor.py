"""`honeloop doctor`: whatever a crash can leave is named, mended if asked, and nothing else is touched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from psycopg import sql
from typer.testing import CliRunner

from assets_tests.corpus.making import write_tree
from assets_tests.corpus.test_secrets import SECRETS, SIGN_IN, everything
from assets_tests.index.click_corpus import (
    add_functions,
    another_model,
    register,
    serve,
    store_vectors,
)
from assets_tests.survival.conftest import Code
from pipeline.cli import app
from pipeline.config import Settings
from pipeline.corpus.extraction import extract_repository
from pipeline.corpus.repositories import add_repository, get_repository
from pipeline.corpus.secrets import Detector
from pipeline.corpus.sources.clones import clone_path
from pipeline.defs.alone import only_one
from pipeline.defs.dead_runs import IN_PROCESS_TAG
from pipeline.defs.instance import open_instance
from pipeline.doctor.files import examine_queue
from pipeline.doctor.findings import Examination
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.loading import token_budget
from pipeline.index.cleaning import BUILD_LOCK
from pipeline.index.tables import VectorTable, create_table
from pipeline.locking import locked
from pipeline.progress import Silent
from pipeline.promotion.registry import list_models, set_state
from pipeline.search.query import search
from pipeline.search.spool import SearchSpool, queue_path
from pipeline.store.connections import Database
from pipeline.store.locks import locked_if_free
from pipeline.training.checkpoints import write_checkpoint
from pipeline.training.fine_tuning import FineTuned
from pipeline.training.handover import hand_over
from pipeline.training.pairs import TrainingSet
from pipeline.training.training_state import STATE, StateStore

Doctor = Callable[..., dict[str, Any]]


@pytest.fixture
def doctor(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """What the command says, as JSON, on the test's own database and home."""
    monkeypatch.setenv("HONELOOP_HOME", str(settings.home))
    monkeypatch.setenv("HONELOOP_DATABASE_URL", str(settings.database_url))

    def run(*arguments: str) -> dict[str, Any]:
        done = CliRunner().invoke(app, ["doctor", "--json", *arguments])
        said = json.loads(done.stdout)
        assert done.exit_code == (0 if said["sound"] else 1), done.stderr
        assert ("not mended" in done.stderr) == (not said["sound"])
        return said

    return run


@pytest.fixture
def learned(untrained: FineTuned, few_pairs: TrainingSet) -> tuple[FineTuned, TrainingSet]:
    """A model to write down, and what it says it learned from."""
    return untrained, few_pairs


def kinds(said: dict[str, Any], *, mended: bool | None = None) -> list[str]:
    """The kinds of what was found; of what was mended, or was not."""
    return sorted(each["kind"] for each in said["found"] if mended is None or each["mended"] == mended)


def contents(directory: Path) -> dict[str, float]:
    """Every file, and when it was changed; Dagster's own settings are written at each look."""
    return {
        str(path): path.stat().st_mtime_ns
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "dagster" not in path.parts
    }


def test_where_nothing_is_wrong_nothing_is_found(doctor: Doctor, settings: Settings) -> None:
    assert doctor() == {"sound": True, "found": [], "notes": []}
    assert not settings.home_path.exists()


def test_tables_of_vectors(
    db: Database, settings: Settings, minilm: Encoder, code: Code, doctor: Doctor
) -> None:
    functions, vectors = code
    add_functions(db, functions[:30])
    store_vectors(db, minilm, functions[:30], vectors[:30])
    other = another_model(minilm)
    store_vectors(db, other, functions[:3], vectors[:3])
    serve(db, minilm, settings.model_copy(update={"hnsw_m": 8}))
    served = serve(db, minilm, settings)
    answer = [each.symbol for each in search(db, minilm, "open a file", record=False).results]
    with db.connect() as connection:
        retired = connection.execute("SELECT table_name FROM index_versions WHERE state = 'retired'")
        ((gone,),) = retired.fetchall()
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(gone)))
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(f"vectors_{other.version[:16]}")))
        for name in ("index_77", "vectors_of_nobody"):
            create_table(connection, VectorTable(name, minilm.version, 384))
        connection.execute("CREATE TABLE vectors_mine (content_hash bytea)")  # somebody's own
        connection.execute(
            "INSERT INTO index_versions (model_version, table_name, state, dims)"
            " VALUES (%s, 'index_78', 'building', 384)",
            [minilm.version],
        )
        create_table(connection, VectorTable("index_78", minilm.version, 384))

    expected = ["missing table", "missing table", "orphan table", "orphan table", "unfinished index version"]
    assert kinds(doctor(), mended=False) == expected
    with locked_if_free(db, BUILD_LOCK) as free:
        assert free
        said = doctor("--repair")  # somebody builds: only what is no business of theirs is mended
        assert kinds(said, mended=True) == ["missing table"]
        assert "An index is being built; its table is left alone." in said["notes"]
    said = doctor("--repair")
    assert (said["sound"], kinds(said)) == (True, sorted(expected[1:]))
    assert doctor()["found"] == []
    with db.connect() as connection:
        left = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^(index|vectors)_' ORDER BY 1"
        ).fetchall()
    assert [name for (name,) in left] == sorted(
        [
            f"index_{served.index_version_id}",
            f"vectors_{minilm.version[:16]}",
            "vectors_mine",
            "index_versions",
        ]
    )
    assert [each.symbol for each in search(db, minilm, "open a file", record=False).results] == answer


def test_a_serving_index_without_its_table_is_named(
    db: Database, settings: Settings, minilm: Encoder, code: Code, doctor: Doctor
) -> None:
    functions, vectors = code
    add_functions(db, functions[:5])
    store_vectors(db, minilm, functions[:5], vectors[:5])
    served = serve(db, minilm, settings)
    with db.connect() as connection:
        connection.execute(f"DROP TABLE index_{served.index_version_id}".encode())
    (found,) = doctor("--repair")["found"]
    assert (found["kind"], found["mended"], found["can_be_mended"]) == ("missing table", False, False)
    assert "honeloop index" in found["hint"]


def test_models_and_trainings(
    db: Database, settings: Settings, minilm: Encoder, learned: tuple[FineTuned, TrainingSet], doctor: Doctor
) -> None:
    untrained, few_pairs = learned
    register(db, minilm)
    checkpoint = write_checkpoint(untrained, minilm, few_pairs, settings.checkpoints_path)
    half = settings.checkpoints_path / ".unfinished-1"
    half.mkdir()
    training = settings.home_path / "training"
    hand_over(untrained, training / untrained.recipe_key)  # whose checkpoint is there
    (training / "a.unfinished").mkdir()
    for name in ("old.work", "new.work", "busy.work"):
        StateStore(training / name, name).save({}, {})
    ago = time.time() - (settings.state_keep_days + 1) * 86_400
    for name in ("old.work", "busy.work"):
        os.utime(training / name / STATE, (ago, ago))
    (settings.onnx_path / ".unfinished-2").mkdir(parents=True)
    before = contents(settings.home_path)

    with StateStore(training / "busy.work", "busy.work").alone(), locked(settings.checkpoints_path / ".lock"):
        said = doctor()
        assert kinds(said) == [
            "abandoned training",
            "finished training",
            "half-written export",
            "half-written trained model",
            "unregistered checkpoint",
        ]
        assert any("A checkpoint is being written" in note for note in said["notes"])
        assert any("The training new.work waits" in note for note in said["notes"])
        left = {name: at for name, at in contents(settings.home_path).items() if not name.endswith(".lock")}
        assert left == {name: at for name, at in before.items() if not name.endswith(".lock")}
        said = doctor("--repair")
        assert said["sound"]
    assert half.is_dir()
    assert sorted(path.name for path in training.iterdir()) == [".lock", "busy.work", "new.work"]
    assert kinds(doctor("--repair"), mended=True) == ["abandoned training", "half-written checkpoint"]
    # What was trained is not lost: it is a candidate now.
    assert checkpoint.version in {model.version for model in list_models(db) if model.state == "candidate"}

    with (checkpoint.path / "model" / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        weights.write(b"\x55")
    (found,) = doctor("--repair")["found"]
    assert (found["kind"], found["mended"]) == ("damaged checkpoint", False)
    # A restored home has the rows of all models, and the files of those alone that may serve again.
    shutil.rmtree(checkpoint.path)
    assert kinds(doctor()) == ["damaged checkpoint"]
    with db.connect() as connection:
        set_state(connection, checkpoint.version, "rejected", "gate", ["a test"])
    said = doctor()
    assert said["found"] == []
    assert any("which is rejected, is not here" in note for note in said["notes"])
    assert "model.safetensors is damaged" in found["what"]
    assert "train again" in found["hint"]


def test_clones_and_temporary_files(settings: Settings, db: Database, doctor: Doctor) -> None:
    url = "https://example.org/kept.git"
    with db.connect() as connection:
        connection.execute(
            "INSERT INTO repositories (name, kind, location) VALUES ('kept', 'git', %s)", [url]
        )
    clones = settings.home_path / "clones"
    kept, busy = clone_path(url, settings), clones / "busy-0123456789ab.partial"
    for path in (kept, clones / "gone-0123456789ab.git", clones / "half-0123456789ab.partial", busy):
        path.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    dagster = settings.home_path / "dagster"
    dagster.mkdir()
    for pid in (ended.pid, os.getpid()):
        (dagster / f".dagster.yaml.{pid}").write_text("")
    with locked(busy.with_suffix(".lock")):
        assert kinds(doctor("--repair"), mended=True) == [
            "clone without a source",
            "half-made clone",
            "temporary file",
        ]
    assert sorted(path.name for path in clones.iterdir() if path.is_dir()) == sorted([busy.name, kept.name])
    assert (dagster / f".dagster.yaml.{os.getpid()}").exists()


def test_searches_that_wait(settings: Settings, db: Database, doctor: Doctor) -> None:
    from assets_tests.search.test_spool import NOWHERE, a_record, stored

    record = a_record("kept on disk")
    with SearchSpool(settings, NOWHERE) as spool:
        assert spool.record(record)
    assert kinds(doctor()) == ["waiting searches"]
    assert stored(db) == {}
    assert doctor("--repair")["sound"]
    assert stored(db) == {record.search_id: "kept on disk"}
    assert doctor()["found"] == []
    queue_path(settings).write_text("This is no database, and long enough to be seen as none. " * 100)
    (found,) = doctor("--repair")["found"]
    assert (found["kind"], found["mended"]) == ("unreadable queue", False)


def test_a_queue_whose_path_would_mean_something_in_an_address(
    settings: Settings, db: Database, tmp_path: Path
) -> None:
    from assets_tests.search.test_spool import NOWHERE, a_record

    odd = settings.model_copy(update={"home": tmp_path / "a#b?c%41"})
    with SearchSpool(odd, NOWHERE) as spool:
        assert spool.record(a_record("kept on disk"))
    examine_queue(db, odd, found := Examination())
    assert [finding.kind for finding in found.findings] == ["waiting searches"]


def test_runs_and_slots(settings: Settings, db: Database, doctor: Doctor) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    job = dg.GraphDefinition("embed").to_job()
    with open_instance(settings) as instance:

        def started(pid: int | None, *, of_loop: bool = False) -> str:
            run_id = str(uuid4())
            run = instance.create_run_for_job(
                job_def=job,
                run_id=run_id,
                tags={IN_PROCESS_TAG: run_id} if of_loop else {},
                status=dg.DagsterRunStatus.STARTED,
            )
            if pid is not None:
                instance.report_engine_event("started", run, EngineEventData.in_process(pid))
            return run.run_id

        of_loop = started(None, of_loop=True)
        dead = started(ended.pid)
        living, unknown = started(os.getpid()), started(None)
        storage = instance.event_log_storage
        storage.set_concurrency_slots("gpu", 2)
        over = instance.create_run_for_job(job_def=job, status=dg.DagsterRunStatus.CANCELED).run_id
        for run_id in (over, living):
            assert storage.claim_concurrency_slot("gpu", run_id, "step").is_claimed

    with only_one(db):
        said = doctor()
        assert kinds(said) == ["run without a process", "slot without a run"]
        assert "A run of the loop is under way; it is left alone." in said["notes"]
    assert kinds(doctor(), mended=False) == [*["run without a process"] * 2, "slot without a run"]
    assert kinds(doctor("--repair"), mended=True) == [*["run without a process"] * 2, "slot without a run"]
    assert doctor()["found"] == []
    with open_instance(settings) as instance:
        states = {run.run_id: run.status.value for run in instance.get_runs()}
        claimed = instance.event_log_storage.get_concurrency_info("gpu").active_run_ids
    assert states == {
        of_loop: "CANCELED",
        dead: "FAILURE",
        living: "STARTED",
        unknown: "STARTED",
        over: "CANCELED",
    }
    assert claimed == {living}


def test_a_database_that_is_away_is_named_and_the_files_are_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONELOOP_HOME", str(tmp_path))
    monkeypatch.setenv("HONELOOP_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    (tmp_path / "training" / "a.unfinished").mkdir(parents=True)
    done = CliRunner().invoke(app, ["doctor", "--repair", "--json"])
    said = json.loads(done.stdout)
    assert done.exit_code == 1
    assert [(each["kind"], each["mended"]) for each in said["found"]] == [
        ("half-written trained model", True),
        ("unreachable database", False),
    ]


def test_secrets_that_other_rules_left_in_code_that_is_not_read_again(
    db: Database, doctor: Doctor, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before secrets were looked for; then the source is away, so that nothing reads it again."""
    gone = write_tree(
        tmp_path / "gone", {"net.py": SIGN_IN, "more/web.py": SIGN_IN.replace("sign_in", "log_in")}
    )
    add_repository(db, "gone", str(gone))
    sound = write_tree(tmp_path / "sound", {"a.py": "def a():\n    return 1\n"})
    add_repository(db, "sound", str(sound))
    before = settings.model_copy(update={"find_secrets": False})
    for name, rules in (("gone", before), ("sound", settings)):
        extract_repository(db, get_repository(db, name), rules, token_budget("minilm"), Silent())
    with db.connect() as connection:
        connection.execute("INSERT INTO measured_texts VALUES (sha256('x'), %s)", [SIGN_IN])
    (tmp_path / "gone").rename(tmp_path / "away")
    extract_repository(db, get_repository(db, "gone"), settings, token_budget("minilm"), Silent())
    assert all(secret in everything(db) for secret in SECRETS)

    found = {each["what"]: each for each in doctor()["found"]}
    assert set(found) == {
        "1 texts that models learned from or were measured on hold secrets.",
        "4 stored texts of gone hold secrets: more/web.py (2), net.py (2).",
    }
    assert {each["kind"] for each in found.values()} == {"stored secrets"}
    assert not [secret for secret in SECRETS if secret in json.dumps(found)]
    assert all(secret in everything(db) for secret in SECRETS)  # nothing is changed unless asked

    repaired = doctor("--repair")
    assert [each["mended"] for each in repaired["found"]] == [True, True]
    stored = everything(db).lower()  # as words are
    assert "redacted" in stored
    assert not [secret for secret in SECRETS if secret.lower() in stored]
    # Once is enough for these rules; what comes in by others is another matter.
    looked: list[bytes] = []
    really = Detector.clean

    def counted(self: Detector, text: bytes) -> object:
        looked.append(text)
        return really(self, text)

    monkeypatch.setattr(Detector, "clean", counted)
    assert doctor() == {"sound": True, "found": [], "notes": []}
    assert looked == []
    (tmp_path / "away").rename(tmp_path / "gone")
    (gone / "net.py").write_text(SIGN_IN.replace("sign_in", "enter"))
    extract_repository(db, get_repository(db, "gone"), before, token_budget("minilm"), Silent())
    (again,) = doctor()["found"]
    assert again["what"] == "2 stored texts of gone hold secrets: net.py (2)."
