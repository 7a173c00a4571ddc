"""What Dagster costs: the index brought up to date by the same functions called bare, in process, and by its
multiprocess executor; on a small real repository in which one function is new each time.

In process is what `honeloop index` does: each step a run, with its checks, on the persistent instance. The
multiprocess executor starts a process for each step, which loads torch and the encoder anew.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from assets_tests.benchmarks.comparing import Comparison, Found, Rounds, Size, in_turns
from assets_tests.benchmarks.environment import given
from assets_tests.benchmarks.index_runs import change, copied, registered
from pipeline.config import Settings
from pipeline.corpus.extraction import extract_repository
from pipeline.corpus.repositories import list_repositories
from pipeline.defs.building import build_defs
from pipeline.defs.in_process import run_loop
from pipeline.defs.instance import open_instance
from pipeline.index.building import build_index
from pipeline.index.embeddings import embed_missing
from pipeline.index.flipping import flip
from pipeline.index.serving import serving_index
from pipeline.index.verifying import documentation_queries
from pipeline.progress import Silent
from pipeline.search.hybrid.line import learn_ranking
from pipeline.workbench import Workbench

BYTES: dict[Size, int] = {"quick": 60_000, "full": 600_000}
ROUNDS: dict[Size, int] = {"quick": 2, "full": 5}
STEPS = 3  # snippets, snippet_embeddings, search_index


def bare(settings: Settings) -> None:
    """What the assets call, without Dagster and its checks."""
    bench = Workbench(settings)
    (repository,) = list_repositories(bench.db)
    extract_repository(bench.db, repository, settings, bench.token_budget(), Silent())
    model = bench.target_model()
    encoder = bench.encoder(model)
    embed_missing(bench.db, encoder, settings, Silent(), repository)
    queries = documentation_queries(bench.db, encoder, settings.recall_sample)
    report = build_index(bench.db, model.version, settings, Silent(), queries)
    flip(bench.db, report.index_version_id, actor="index", reasons=["benchmark"], settings=settings)
    learn_ranking(bench, serving_index(bench.db), Silent(), changed=report.action != "reused")


def in_process(settings: Settings) -> None:
    """As `honeloop index` does it."""
    run_loop(settings, Silent(), only_index=True).raise_for_failure()


def index_repository() -> dg.JobDefinition:
    """The job of one repository, by the multiprocess executor."""
    return _by_processes("index_repository")


def refresh_index() -> dg.JobDefinition:
    """The job of the index, likewise."""
    return _by_processes("refresh_index")


def _by_processes(name: str) -> dg.JobDefinition:
    definitions = build_defs()
    job = definitions.resolve_job_def(name)
    return job.with_executor_def(dg.multiprocess_executor)


def multiprocess(settings: Settings) -> None:
    """The same two jobs that the web page launches, a process for each step."""
    config = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with open_instance(settings) as instance:
        for job, tags in ((index_repository, {"dagster/partition": "code"}), (refresh_index, {})):
            done = dg.execute_job(dg.reconstructable(job), instance, run_config=config, tags=tags)
            if not done.success:
                raise RuntimeError(f"{job.__name__} failed.")


def run(size: Size) -> Found:
    """All three in turns."""
    return measure(BYTES[size], ROUNDS[size])


def measure(most_bytes: int, rounds: int) -> Found:
    """See the module."""
    with tempfile.TemporaryDirectory(prefix="honeloop-bench-") as scratch:
        files = copied(most_bytes, Path(scratch) / "code")
        with registered(Path(scratch) / "home", Path(scratch) / "code") as home:
            settings = Settings(home=home, min_recall=0)
            number = 0

            def with_news(way: Callable[[Settings], None]) -> Callable[[], None]:
                def once() -> None:
                    nonlocal number
                    number += 1
                    change(files, number)
                    way(settings)

                return once

            ways = {"in process": in_process, "bare": bare, "multiprocess": multiprocess}
            # The processes of the steps have their settings from the environment.
            with given(home=str(home), min_recall="0"):
                seconds = in_turns({name: with_news(way) for name, way in ways.items()}, rounds)
    return Found(_lines(seconds, len(files)), {"seconds": seconds})


def _lines(seconds: Rounds, files: int) -> list[Comparison]:
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return [
        Comparison(
            f"the index of {files} files up to date, {name}",
            f"{medians[name]:.1f} s, {(medians[name] - medians['bare']) / STEPS:+.1f} s for each step",
            f"the same functions called bare {medians['bare']:.1f} s",
            statistics.median(
                ours / theirs for ours, theirs in zip(seconds[name], seconds["bare"], strict=True)
            ),
        )
        for name in ("in process", "multiprocess")
    ]
