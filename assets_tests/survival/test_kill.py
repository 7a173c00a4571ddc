"""kill -9 of the loop: what serves answers as it did, the next run completes, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from assets_tests.end_to_end.test_loop import as_environment, commit_all, copy_from_click
from assets_tests.survival.homes import QUERIES, Home, wait_until
from assets_tests.survival.kills import Figures, kill_at_boundaries, kill_at_random
from assets_tests.survival.orders import Orders, taking_orders
from pipeline.commands.doctor import examined
from pipeline.config import Settings
from pipeline.corpus.repositories import add_repository
from pipeline.defs.in_process import run_loop
from pipeline.encoders.encoder import Encoder
from pipeline.index.serving import serving_index
from pipeline.progress import Silent
from pipeline.search.query import search
from pipeline.store.connections import Database
from pipeline.store.server import dagster_database, database_url

SEED = 1
KILLS = 20


@pytest.fixture(scope="module")
def orders(directory: Path) -> Iterator[Orders]:
    with taking_orders(directory / "orders") as orders:
        yield orders


@pytest.fixture
def home(prepared: Home, directory: Path, request: pytest.FixtureRequest) -> Home:
    return prepared.copy(directory / str(abs(hash(request.node.name)) % 10_000))


def require_nothing_lost(figures: Figures) -> None:
    print(json.dumps(figures.to_json(), indent=1))  # with -s, and when it fails
    assert figures.lost == []
    assert figures.mended_by_hand == []


def test_a_run_killed_in_the_middle(
    settings: Settings, db: Database, minilm: Encoder, tmp_path: Path
) -> None:
    """The quick one: killed once it has read and embedded what is new, before the index has it."""
    repository = tmp_path / "repository"
    repository.mkdir()
    copy_from_click(("globals.py",), repository)
    commit_all(repository, "Begin")
    add_repository(db, "clicked", str(repository))
    assert run_loop(settings, Silent(), only_index=True).failures == []
    before, rows = answers(db, minilm), serving_index(db).rows
    copy_from_click(("exceptions.py",), repository)
    commit_all(repository, "Add more")
    url = database_url(settings, dagster_database(settings))
    known = materialized(url)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "run", "--json"],
        env={**os.environ, **as_environment(settings)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert wait_until(lambda: materialized(url) >= known + 2 or process.poll() is not None, 300)
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    assert serving_index(db).rows in (rows, rows + len(new_functions(db)))
    if serving_index(db).rows == rows:
        assert answers(db, minilm) == before
    found, _ = examined(settings, Silent(), repair=False)
    assert {outcome.finding.kind for outcome in found} <= {
        "run without a process",
        "unfinished index version",
    }
    assert found
    assert run_loop(settings, Silent(), only_index=True).failures == []
    assert serving_index(db).rows > rows
    assert examined(settings, Silent(), repair=False)[0] == []


def answers(db: Database, encoder: Encoder) -> list[list[int]]:
    return [
        [result.snippet_id for result in search(db, encoder, query, record=False).results]
        for query in QUERIES
    ]


def materialized(url: str) -> int:
    """How many assets Dagster has recorded."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def new_functions(db: Database) -> set[bytes]:
    with db.connect() as connection:
        rows = connection.execute("SELECT content_hash FROM snippets WHERE path = 'exceptions.py'").fetchall()
    return {content_hash for (content_hash,) in rows}


@pytest.mark.slow
def test_at_twenty_random_moments(home: Home, orders: Orders) -> None:
    figures = kill_at_random(home, orders, kills=KILLS, seed=SEED)
    require_nothing_lost(figures)
    assert figures.kills.total() + figures.late == KILLS
    assert figures.kills.total() >= KILLS // 2


@pytest.mark.slow
def test_at_each_step_boundary(home: Home, orders: Orders) -> None:
    figures = kill_at_boundaries(home, orders)
    require_nothing_lost(figures)
    assert figures.kills.total() >= 8  # without a promotion the loop ends after eight assets
