"""`honeloop up` as its user sees it: code is found and indexed, a promotion backfills and flips."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from assets_tests.corpus.making import GitRepository
from assets_tests.defs.conftest import CODE
from assets_tests.end_to_end.services import Searcher, Services, backfills, services, wait_for
from assets_tests.evaluation.small_corpus import blur
from pipeline.config import Settings
from pipeline.corpus.repositories import add_repository
from pipeline.index.serving import serving_index
from pipeline.store.connections import Database

pytestmark = pytest.mark.slow

MORE = '''

def longest_word(text):
    """The longest of the words in a text."""
    return max(text.split(), key=len)
'''


def runs(up: Services, job: str) -> list[dict[str, str]]:
    """The newest first."""
    query = f'{{ runsOrError(filter: {{pipelineName: "{job}"}}) {{ ... on Runs {{ results {{ runId status'
    return up.graphql(query + " tags { key value } } } } }")["runsOrError"]["results"]


@pytest.mark.timeout(3600)
def test_from_nothing_to_a_promotion(settings: Settings, db: Database, tmp_path: Path):
    blur(tmp_path / "blurred", noise=0.02)
    repositories = {name: GitRepository(tmp_path / name) for name in ("one", "two")}
    for repository in repositories.values():
        repository.commit({"times.py": CODE})
    settings.home.mkdir(parents=True)
    with services(settings, tmp_path / "up.log", HONELOOP_NEW_COMMITS_SECONDS="30") as up:
        for name, repository in repositories.items():
            add_repository(db, name, str(repository.path))
        wait_for("the first index", lambda: _serves(db))
        first = serving_index(db)

        # A new commit is found, read, embedded and served by itself.
        repositories["one"].commit({"times.py": CODE + MORE})
        wait_for("the new function", lambda: "longest_word" in _symbols(up, "longest of the words"))

        # A worker that is killed is noticed, and its run tried again.
        index = up.command("index", "--json")
        run = wait_for("a run", lambda: [r for r in runs(up, "whole_loop") if r["status"] == "STARTED"])[0]
        _kill_worker(up)
        out, err = index.communicate(timeout=900)
        assert index.returncode == 0, err
        assert json.loads(out)["error"] is None
        newest = runs(up, "whole_loop")
        assert [each["status"] for each in newest[:2]] == ["SUCCESS", "FAILURE"]
        assert newest[1]["runId"] == run["runId"]

        searcher = Searcher(up)
        searcher.start()
        promoted = json.loads(
            up.run("promote", str(tmp_path / "blurred"), "--reason", "It is to be tried.", "--json")
        )
        assert promoted["state"] == "serving"
        (backfill,) = backfills(up)
        assert (backfill["status"], backfill["title"][:5]) == ("COMPLETED_SUCCESS", "Embed")
        after = searcher.count
        wait_for("searches by the new model", lambda: searcher.count > after + 20)
        searcher.stop()
        assert searcher.wrong == []
        assert searcher.models == [first.model_version, promoted["model_version"]]

        # Ctrl-C at the terminal cancels the run in Dagster.
        index = up.command("index")
        wait_for("a run", lambda: [r for r in runs(up, "whole_loop") if r["status"] == "STARTED"])
        index.send_signal(signal.SIGINT)
        _, err = index.communicate(timeout=300)
        assert (index.returncode, err.strip().splitlines()[-1]) == (130, "Interrupted.")
        assert runs(up, "whole_loop")[0]["status"] in ("CANCELED", "SUCCESS")  # if it was quicker


def _serves(db: Database) -> bool:
    with db.connect() as connection:
        row = connection.execute("SELECT count(*) FROM index_versions WHERE state = 'serving'").fetchone()
    return row is not None and row[0] == 1


def _symbols(up: Services, query: str) -> list[str]:
    return [result["symbol"] for result in up.searched(query)["results"]]


def _kill_worker(up: Services) -> None:
    """Kill -9 of the process that works on the run: the youngest of those that the code servers started."""
    time.sleep(3)
    workers = [
        child
        for child in psutil.Process(up.process.pid).children(recursive=True)
        if "multiprocessing.spawn" in _command_of(child)
    ]
    youngest = max(workers, key=lambda process: process.create_time())
    os.kill(youngest.pid, signal.SIGKILL)


def _command_of(process: psutil.Process) -> str:
    """Empty if it has just ended; a code server that Dagster replaces does at any moment."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
