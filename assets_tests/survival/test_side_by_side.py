"""Two at a time, each a process of its own: runs, a run and a removal, flips, rollbacks and droppings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assets_tests.feedback.world import add_code, show
from assets_tests.index.click_corpus import add_functions, build, serve, store_vectors
from assets_tests.survival.conftest import Code
from pipeline.cli import app
from pipeline.config import PROJECT_ROOT, Settings
from pipeline.corpus.repositories import add_repository, list_repositories, remove_repository
from pipeline.defs import in_process
from pipeline.defs.in_process import Loop, run_loop
from pipeline.encoders.encoder import Encoder
from pipeline.errors import HoneloopError
from pipeline.feedback.events import add_feedback
from pipeline.feedback.forgetting import forget_user
from pipeline.index.flipping import flip
from pipeline.index.serving import index_counts, serving_index
from pipeline.progress import Silent
from pipeline.search.query import search
from pipeline.store.connections import Database
from pipeline.store.locks import learning

# Each process flips, rolls back or drops as fast as it can, and says what came of it.
RACER = """
import json, sys, time
from collections import Counter
from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.index.cleaning import drop_retired
from pipeline.index.flipping import flip, rollback
from pipeline.store.connections import Database

url, what, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
db, settings = Database(url), Settings(database_url=url, keep_retired_indexes=2)
print("ready", flush=True)
sys.stdin.readline()
said, end = Counter(), time.monotonic() + seconds
while time.monotonic() < end:
    try:
        if what == "rollback":
            rollback(db)
        elif what == "drop":
            drop_retired(db, 2)
        else:
            with db.connect() as connection:
                # What was rolled back from is made ready again, as a new build would be.
                connection.execute(
                    "UPDATE index_versions SET state = 'ready' WHERE state = 'retired' AND id = %s", [what])
            flip(db, int(what), actor="person", reasons=["a race"], settings=settings)
        said["done"] += 1
    except HoneloopError as error:
        said[error.message.split(" is ")[-1].split(",")[0]] += 1
    except Exception as error:
        said[f"UNEXPECTED {type(error).__name__}: {error}"] += 1
print(json.dumps(said))
"""


def race(db: Database, racers: Sequence[str], seconds: float) -> list[Counter[str]]:
    """What each of the processes said in the end."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, db.url, racer, str(seconds)],
            cwd=PROJECT_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for racer in racers
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    found: list[Counter[str]] = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        found.append(Counter(json.loads(out)))
    return found


def require_one_serves(db: Database, minilm: Encoder) -> None:
    states = Counter(count.state for count in index_counts(db))
    assert states["serving"] == 1
    assert serving_index(db).rows == 20
    assert len(search(db, minilm, "open a file", record=False).results) == 10
    with db.connect() as connection:
        gone = connection.execute(
            "SELECT id FROM index_versions WHERE table_name IS NOT NULL AND to_regclass(table_name) IS NULL"
        ).fetchall()
        serving = connection.execute("SELECT count(*) FROM model_versions WHERE state = 'serving'").fetchone()
    assert gone == []
    assert serving == (1,)


def test_flips_rollbacks_and_droppings_race(
    db: Database, settings: Settings, minilm: Encoder, code: Code
) -> None:
    functions, vectors = code
    add_functions(db, functions[:20])
    store_vectors(db, minilm, functions[:20], vectors[:20])
    serve(db, minilm, settings.model_copy(update={"hnsw_m": 7}))
    ids: list[int] = []
    for m in (8, 9):
        report = build(db, minilm, settings.model_copy(update={"hnsw_m": m}))
        ids.append(report.index_version_id)
        flip(db, report.index_version_id, actor="index", reasons=[], settings=settings)
    first, second, back, drop = race(db, [*map(str, ids), "rollback", "drop"], 3.0)
    require_one_serves(db, minilm)
    everything = first + second + back + drop
    assert not [said for said in everything if said.startswith("UNEXPECTED")], everything
    assert min(first["done"], second["done"], drop["done"]) > 0


@pytest.mark.slow  # another process imports all of Dagster
def test_a_second_run_of_another_process_is_refused(settings: Settings) -> None:
    second = [sys.executable, "-m", "pipeline.cli", "index"]
    environment = {"HONELOOP_HOME": str(settings.home), "HONELOOP_DATABASE_URL": str(settings.database_url)}
    with Loop.running(settings, Silent()):
        done = subprocess.run(
            second,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Another run is under way on this database. Wait until it ends" in done.stderr


@pytest.mark.parametrize("command", [["run"], ["index"], ["train"]])
def test_a_second_run_is_refused_in_one_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("HONELOOP_HOME", str(settings.home))
    monkeypatch.setenv("HONELOOP_DATABASE_URL", str(settings.database_url))
    with Loop.running(settings, Silent()):
        said = CliRunner().invoke(app, [*command, "--json"])
    assert (said.exit_code, said.stdout) == (1, "")
    assert "Another run is under way" in said.stderr
    assert len(said.stderr.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 2])
def test_a_source_is_removed_beside_a_run(
    settings: Settings, db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Before it is read, and after it was: the others are indexed all the same, and nothing of it is left."""
    for name in ("gone", "kept"):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "a.py").write_text(f"def {name}(x):\n    return x + {len(name)}\n")
        add_repository(db, name, str(directory))
    steps: list[object] = []
    really = in_process.Loop._execute

    def executed(self: in_process.Loop, *arguments: object) -> object:
        steps.append(arguments[1])
        if len(steps) == step:
            remove_repository(db, "gone", settings)
        return really(self, *arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(in_process.Loop, "_execute", executed)
    result = run_loop(settings, Silent(), only_index=True)
    assert [each.name for each in list_repositories(db)] == ["kept"]
    if step == 1:
        assert "gone" in " ".join([*result.problems, *(failure.message for failure in result.failures)])
    monkeypatch.undo()
    again = run_loop(settings, Silent(), only_index=True)
    assert (again.failures, again.problems) == ([], [])
    assert serving_index(db).rows == 1


def test_nobody_is_forgotten_while_a_model_learns(settings: Settings, db: Database) -> None:
    """What is learned from is in memory by then: taken out of the database, it would come back as a model."""
    ids = add_code(db, {"a.py": {"f": "def f(): return 1"}})
    search_id = show(db, "anns own query", [ids["a.py:f"]], "ann")
    assert add_feedback(db, search_id, ids["a.py:f"], "accept", user="ann").added
    with learning(db), learning(db):
        with pytest.raises(HoneloopError, match="A model is being trained or measured now") as refused:
            forget_user(db, settings, "ann")
        assert "Nothing was forgotten" in refused.value.hint
    assert forget_user(db, settings, "ann").feedback == 1
