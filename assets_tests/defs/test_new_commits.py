"""Sources are asked for news: cheaply, within a time limit, and without telling secrets."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import dagster as dg
import pytest

from assets_tests.corpus.making import GitRepository
from assets_tests.defs.conftest import CODE
from assets_tests.defs.ticking import run_of, tick, with_settings
from pipeline.corpus.news import state_of_source
from pipeline.corpus.repositories import Repository, add_repository
from pipeline.defs import sensors
from pipeline.defs.assets.corpus import snippets
from pipeline.encoders.encoder import Encoder
from pipeline.promotion.registry import ensure_registered
from pipeline.workbench import Workbench


def read(workbench: Workbench, instance: dg.DagsterInstance, repository: Repository) -> None:
    """Reads it as a run does."""
    instance.add_dynamic_partitions("repository", [repository.name])
    done = dg.materialize(
        [snippets],
        partition_key=repository.name,
        instance=instance,
        resources={"workbench": workbench},
    )
    assert done.success


@pytest.fixture
def base(workbench: Workbench, minilm: Encoder) -> None:
    ensure_registered(workbench.db, minilm, "minilm")


@pytest.mark.usefixtures("base")
def test_a_new_commit_has_its_repository_read_once(
    workbench: Workbench, instance: dg.DagsterInstance, tmp_path: Path
):
    repo = GitRepository(tmp_path / "mine")
    repo.commit({"times.py": CODE})
    repository = add_repository(workbench.db, "mine", str(repo.path))
    by_url = add_repository(workbench.db, "far", f"file://{repo.path}")
    assert "No repository was read" in tick(sensors.new_commits, workbench, instance).skip_message
    for each in (repository, by_url):
        read(workbench, instance, each)

    nothing = tick(sensors.new_commits, workbench, instance)
    assert nothing.skip_message == "2 of the 2 sources asked now have nothing new."
    rested = tick(sensors.new_commits, workbench, instance, cursor=nothing.cursor)
    assert "asked lately; the next is due in" in rested.skip_message

    commit = repo.commit({"times.py": CODE + "\n\ndef added():\n    pass\n"})
    result = tick(sensors.new_commits, workbench, instance)
    assert {(r.job_name, r.partition_key) for r in result.run_requests} == {
        ("index_repository", "mine"),
        ("index_repository", "far"),
    }
    assert all(commit in str(request.run_key) for request in result.run_requests)
    for request in result.run_requests:
        run_of(instance, request, dg.DagsterRunStatus.STARTED)
    assert "under way" in tick(sensors.new_commits, workbench, instance).skip_message


@pytest.mark.usefixtures("base")
def test_a_directory_is_known_by_the_times_of_its_files(
    workbench: Workbench, instance: dg.DagsterInstance, registered: Repository
):
    read(workbench, instance, registered)
    assert "nothing new" in tick(sensors.new_commits, workbench, instance).skip_message
    file = Path(registered.location) / "times.py"
    os.utime(file, (1, 1))
    (request,) = tick(sensors.new_commits, workbench, instance).run_requests
    assert request.partition_key == "mine"
    read(workbench, instance, registered)
    assert "nothing new" in tick(sensors.new_commits, workbench, instance).skip_message
    with_more = file.with_name("more.py")
    with_more.write_text(CODE)
    assert tick(sensors.new_commits, workbench, instance).run_requests


def test_a_source_is_read_again_after_a_day_whatever_it_says(
    workbench: Workbench, instance: dg.DagsterInstance, extracted: Repository
):
    instance.add_dynamic_partitions("repository", [extracted.name])
    with workbench.db.connect() as connection:
        connection.execute("UPDATE repositories SET extracted_at = now() - interval '25 hours'")
    (request,) = tick(sensors.new_commits, workbench, instance).run_requests
    assert "read last at" in str(request.run_key)


@pytest.mark.usefixtures("extracted")
def test_a_server_that_never_answers_does_not_hold_up_the_others(
    workbench: Workbench, instance: dg.DagsterInstance, tmp_path: Path
):
    repo = GitRepository(tmp_path / "repo")
    repo.commit({"times.py": CODE})
    add_repository(workbench.db, "near", str(repo.path))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        add_repository(workbench.db, "silent", f"https://127.0.0.1:{silent.getsockname()[1]}/repo.git")
        with workbench.db.connect() as connection:
            connection.execute("UPDATE repositories SET extracted_at = now()")
        instance.add_dynamic_partitions("repository", ["mine", "near", "silent"])
        hasty = with_settings(workbench, new_commits_timeout_seconds=1)
        started = time.monotonic()
        result = tick(sensors.new_commits, hasty, instance)
        assert time.monotonic() - started < 5
    assert "near" in {request.partition_key for request in result.run_requests}
    agenda = json.loads(result.cursor)
    again = tick(sensors.new_commits, hasty, instance, cursor=json.dumps({**agenda, str(3): 0}))
    assert "silent: " in again.skip_message


def test_no_secret_stands_in_a_reason(
    workbench: Workbench, instance: dg.DagsterInstance, extracted: Repository
):
    with workbench.db.connect() as connection:  # such an address is refused; an old row could hold one
        connection.execute(
            "UPDATE repositories SET kind = 'git', location = 'https://ann:hunter2@127.0.0.1:9/x.git'"
        )
    instance.add_dynamic_partitions("repository", [extracted.name])
    reason = tick(sensors.new_commits, workbench, instance).skip_message
    assert "127.0.0.1 carries credentials" in reason
    assert "hunter2" not in reason


def test_a_distribution_is_known_by_its_version_and_its_files(workbench: Workbench):
    click = add_repository(workbench.db, "click", "click")
    state = state_of_source(click, workbench.settings)
    assert state is not None
    assert state.split(" ")[0].count(".") == 2
    assert state_of_source(click, workbench.settings) == state
