"""No setting of a user's reaches a benchmark, its processes or what they write into."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from assets_tests.benchmarks import environment
from pipeline.config import PROJECT_ROOT
from pipeline.store.connections import Database

NOWHERE = "postgresql://nobody@nowhere.invalid/users"
IN_FORCE = """
import json, os
from assets_tests.benchmarks.comparing import alone
from pipeline.config import Settings
settings = Settings()
print(json.dumps({
    "database_url": settings.database_url,
    "encoder": settings.encoder,
    "min_recall": settings.min_recall,
    "index_build_workers": settings.index_build_workers,
    "roots": os.environ.get("HONELOOP_BENCH_ROOTS"),
    "of a process": alone(os.getenv, "HONELOOP_DATABASE_URL").result,
}))
"""
A_DATABASE = """
import json
from assets_tests.benchmarks.real_vectors import fresh_database
with fresh_database() as (db, settings, table):
    with db.connect() as connection:
        (models,) = connection.execute("SELECT count(*) FROM model_versions").fetchone()
    print(json.dumps([db.url, models]))
"""


def started(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A Python with these variables of Honeloop's in its environment."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
        | {f"HONELOOP_{name.upper()}": value for name, value in variables.items()},
        capture_output=True,
        text=True,
        check=True,
    )


def printed(code: str, **variables: str) -> Any:
    return json.loads(started("-c", code, **variables).stdout)


def test_settings_are_left_out_but_for_the_benchmarks_own(tmp_path: Path) -> None:
    found = printed(
        IN_FORCE,
        database_url=NOWHERE,
        encoder="qodo",
        min_recall="0.1",
        index_build_workers="3",
        bench_roots=str(tmp_path),
    )
    assert found == {
        "database_url": None,
        "encoder": "minilm",
        "min_recall": 0.95,
        "index_build_workers": 3,
        "roots": str(tmp_path),
        "of a process": None,
    }


def test_a_command_says_which_it_ignores() -> None:
    command = ("-m", "assets_tests.benchmarks.scaling_plan")
    done = started(*command, database_url=NOWHERE, encoder="qodo", cocoindex_python="python")
    (line,) = done.stderr.splitlines()
    assert line.endswith(": HONELOOP_DATABASE_URL, HONELOOP_ENCODER")
    quiet = started(*command, cocoindex_python="python")
    assert (quiet.stdout, quiet.stderr) == (done.stdout, "")


def test_a_benchmarks_database_is_its_own(db: Database) -> None:
    """What it fills is not the database that a user has exported."""
    url, models = printed(A_DATABASE, database_url=db.url)
    assert models == 1
    assert url != db.url
    with db.connect() as connection:
        assert connection.execute("SELECT count(*) FROM model_versions").fetchone() == (0,)


def test_a_process_has_what_a_benchmark_gives_it_and_no_more() -> None:
    with environment.given(min_recall="0", encoder="jina"):
        found = printed(IN_FORCE, database_url=NOWHERE)
    assert (found["min_recall"], found["encoder"], found["database_url"]) == (0, "jina", None)
    assert not [name for name in os.environ if name.startswith(environment.PREFIX)]
