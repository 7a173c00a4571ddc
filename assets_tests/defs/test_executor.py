"""The executor is chosen by a variable, and is what carries out a run: seen by the processes of its steps."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from pipeline.config import Settings, load_settings
from pipeline.corpus.repositories import Repository, add_repository
from pipeline.defs.building import build_defs
from pipeline.defs.executor import executor_named
from pipeline.defs.instance import open_instance
from pipeline.defs.partitions import synchronise
from pipeline.errors import BadInputError
from pipeline.store.connections import Database

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
VARIABLE = "HONELOOP_EXECUTOR"


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Where the processes of steps find the test's database."""
    monkeypatch.setenv("HONELOOP_HOME", str(settings.home))
    monkeypatch.setenv("HONELOOP_DATABASE_URL", str(settings.database_url))
    # A step in this very process would make it nicer, for all tests that come after.
    monkeypatch.setenv("HONELOOP_BACKGROUND_NICENESS", "0")
    return monkeypatch


def expire() -> dg.JobDefinition:
    return build_defs().resolve_job_def("expire")


def expire_again() -> dg.JobDefinition:
    """Dagster remembers what it has built by a function."""
    return expire()


def index_repository() -> dg.JobDefinition:
    return build_defs().resolve_job_def("index_repository")


def executed(
    instance: dg.DagsterInstance, job: Callable[[], dg.JobDefinition], tags: dict[str, str] | None = None
) -> dg.ExecuteJobResult:
    """As a run's process does it: the job is built anew, there and in the processes of its steps."""
    return dg.execute_job(dg.reconstructable(job), instance, run_config=QUIET, tags=tags)


def processes(done: dg.ExecuteJobResult) -> dict[str, int]:
    """Which process did each of a run's steps."""
    started = [event for event in done.all_events if event.is_step_start]
    return {str(event.step_key): event.pid for event in started if event.pid is not None}


def materialized(done: dg.ExecuteJobResult, asset: str) -> dict[str, object]:
    """What a run says of an asset that it made."""
    (event,) = [each for each in done.all_events if each.is_step_materialization and each.step_key == asset]
    return {
        name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()
    }


@pytest.mark.parametrize("name", [None, "in-process", "multiprocess", "dagster:multiprocess_executor"])
def test_every_job_has_the_executor_that_is_named(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    if name is not None:
        monkeypatch.setenv(VARIABLE, name)
    expected = dg.in_process_executor if name in (None, "in-process") else dg.multiprocess_executor
    repository = build_defs().get_repository_def()
    found = {job.name: job.executor_def for job in repository.get_all_jobs()}
    assert {"__ASSET_JOB", "expire", "fine_tune", "index_repository", "whole_loop"} <= set(found)
    assert {name for name, executor in found.items() if executor is not expected} == set()


def test_a_job_of_ops_really_runs_in_other_processes(
    environment: pytest.MonkeyPatch, db: Database, settings: Settings
) -> None:
    def left_after(
        instance: dg.DagsterInstance, job: Callable[[], dg.JobDefinition]
    ) -> tuple[set[int], list[tuple[str]]]:
        with db.connect() as connection:
            connection.execute(
                "INSERT INTO searches (query, source, user_name, at) VALUES ('old', 'search', 'ann', %s)",
                [datetime.now(UTC) - timedelta(days=200)],
            )
        done = executed(instance, job)
        assert done.success
        with db.connect() as connection:
            left = connection.execute("SELECT query FROM searches").fetchall()
        return set(processes(done).values()), left

    with open_instance(settings) as instance:
        assert left_after(instance, expire) == ({os.getpid()}, [])
        environment.setenv(VARIABLE, "multiprocess")
        others, left = left_after(instance, expire_again)
    assert left == []
    assert len(others - {os.getpid()}) == 2  # one for each op


@pytest.mark.slow
def test_assets_and_what_blocks_them_with_a_process_for_each(
    environment: pytest.MonkeyPatch, db: Database, settings: Settings, registered: Repository, tmp_path: Path
) -> None:
    """Nothing goes from one to the next but by the database, and a failed check still stops what follows."""
    environment.setenv(VARIABLE, "multiprocess")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "broken.py").write_text("def f(:\n    pass\n\ndef g():\n    return 1\n")
    broken = add_repository(db, "broken", str(tmp_path / "broken"))
    with open_instance(settings) as instance:
        synchronise(instance, [registered.name, broken.name])
        good, bad = (
            executed(instance, index_repository, {"dagster/partition": repository.name})
            for repository in (registered, broken)
        )
    assert good.success
    others = processes(good)
    assert {"snippets", "snippets_parse_errors", "snippet_embeddings"} <= set(others)
    assert len({*others.values(), os.getpid()}) == len(others) + 1
    metadata = materialized(good, "snippet_embeddings")
    assert metadata["embedded"] == 2
    assert not bad.success
    assert "snippets_parse_errors" in processes(bad)
    assert "snippet_embeddings" not in processes(bad)


def test_an_executor_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInputError, match="needs the module not_here") as raised:
        executor_named("not_here:executor")
    assert "unset HONELOOP_EXECUTOR" in str(raised.value.hint)
    with pytest.raises(BadInputError, match="dagster:asset is no executor"):
        executor_named("dagster:asset")
    monkeypatch.setenv(VARIABLE, "processes")
    with pytest.raises(ValueError, match="executor"):
        load_settings()


def test_the_executor_of_kubernetes_is_dagsters_own_or_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "k8s-job")
    if importlib.util.find_spec("dagster_k8s") is None:
        with pytest.raises(
            BadInputError, match="HONELOOP_EXECUTOR=k8s-job needs the module dagster_k8s"
        ) as raised:
            build_defs()
        assert "[kubernetes]" in str(raised.value.hint)
        return
    from dagster_k8s import k8s_job_executor  # pyright: ignore

    assert expire().executor_def is k8s_job_executor
