"""What Dagster costs: the index brought up to date by the same functions called bare, in process, and by its
multiprocess executor; on a small real repository in which one function is new each time.

In process is what `honeloop index` does: runs with their checks, on the persistent instance. The multiprocess
executor starts a process for each step, which loads torch and the encoder anew. Called bare are the bodies of
the assets and of their checks. What Dagster adds is divided by the steps that it carried out, each asset and
each check one, as its events say.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import dagster as dg

from assets_tests.benchmarks.comparing import Comparison, Found, Rounds, Size, in_turns
from assets_tests.benchmarks.environment import given
from assets_tests.benchmarks.index_runs import change, copied, registered
from pipeline.checks import CHECKS, Subject
from pipeline.config import Settings
from pipeline.corpus.extraction import extract_repository
from pipeline.corpus.news import state_of_source
from pipeline.corpus.repositories import get_repository, list_repositories
from pipeline.corpus.state import live_fingerprint, sample
from pipeline.defs.building import build_defs
from pipeline.defs.in_process import run_loop
from pipeline.defs.instance import open_instance
from pipeline.index.building import build_index
from pipeline.index.embeddings import embed_missing
from pipeline.index.flipping import flip
from pipeline.index.serving import serving_index
from pipeline.progress import Silent
from pipeline.promotion.sanity import require_sane, sanity_of
from pipeline.search.challenger import keep_up
from pipeline.search.hybrid.line import learn_ranking
from pipeline.workbench import Workbench

BYTES: dict[Size, int] = {"quick": 60_000, "full": 600_000}
ROUNDS: dict[Size, int] = {"quick": 2, "full": 5}

# Each brings the index up to date, and returns the ids of the runs that it took.
Way = Callable[[Settings], Sequence[str]]


def bare(settings: Settings) -> Sequence[str]:
    """What the three assets and their checks call, in their order, without Dagster."""
    bench = Workbench(settings)
    db = bench.db
    (repository,) = list_repositories(db)
    state_of_source(repository, settings)
    extract_repository(db, repository, settings, bench.token_budget(), Silent())
    sample(db, repository.id)
    subject = Subject(bench, get_repository(db, repository.name))
    live_fingerprint(db, repository.id)
    check("snippets", subject)

    model = bench.target_model()
    require_sane(model, sanity_of(bench, model))
    subject = replace(subject, embedded_by=model, embedded=live_fingerprint(db, repository.id))
    encoder = bench.encoder(model)
    embed_missing(db, encoder, settings, Silent(), repository)
    check("snippet_embeddings", subject)

    live_fingerprint(db)
    require_sane(model, sanity_of(bench, model))
    report = build_index(db, model.version, settings, Silent(), lambda: bench.recall_queries(model))
    flip(db, report.index_version_id, actor="index", reasons=["benchmark"], settings=settings)
    learn_ranking(bench, serving_index(db), Silent(), changed=report.action != "reused")
    keep_up(bench, Silent())
    check("search_index", subject)
    return ()


def check(asset: str, subject: Subject) -> None:
    """The bodies of the asset's checks.

    Raises:
        RuntimeError: one failed, and Dagster would have stopped.
    """
    for each in CHECKS:
        if each.asset == asset:
            outcome = each.body(subject)
            if not (outcome.passed or outcome.warning):
                raise RuntimeError(f"{each.name}: {outcome.message}")


def in_process(settings: Settings) -> Sequence[str]:
    """As `honeloop index` does it."""
    result = run_loop(settings, Silent(), only_index=True)
    result.raise_for_failure()
    return result.run_ids


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


def multiprocess(settings: Settings) -> Sequence[str]:
    """The same two jobs that the web page launches, a process for each step."""
    runs: list[str] = []
    config = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with open_instance(settings) as instance:
        for job, tags in ((index_repository, {"dagster/partition": "code"}), (refresh_index, {})):
            done = dg.execute_job(dg.reconstructable(job), instance, run_config=config, tags=tags)
            if not done.success:
                raise RuntimeError(f"{job.__name__} failed.")
            runs.append(done.run_id)
    return runs


def steps_of(runs: Sequence[str], settings: Settings) -> int:
    """How many steps of these runs were carried out."""
    with open_instance(settings) as instance:
        return sum(len(instance.all_logs(run, of_type=dg.DagsterEventType.STEP_START)) for run in runs)


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
            runs: dict[str, Sequence[str]] = {}  # of the last turn

            def with_news(name: str, way: Way) -> Callable[[], None]:
                def once() -> None:
                    nonlocal number
                    number += 1
                    change(files, number)
                    runs[name] = way(settings)

                return once

            ways: dict[str, Way] = {"in process": in_process, "bare": bare, "multiprocess": multiprocess}
            # The processes of the steps have their settings from the environment.
            with given(home=str(home), min_recall="0"):
                seconds = in_turns({name: with_news(name, way) for name, way in ways.items()}, rounds)
            steps = {name: steps_of(runs[name], settings) for name in ways if name != "bare"}
    return Found(_lines(seconds, steps, len(files)), {"seconds": seconds, "steps": steps})


def _lines(seconds: Rounds, steps: Mapping[str, int], files: int) -> list[Comparison]:
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return [
        Comparison(
            f"the index of {files} files up to date, {name}",
            f"{medians[name]:.1f} s, {(medians[name] - medians['bare']) / count:+.2f} s"
            f" for each of {count} steps",
            f"the same functions and checks called bare {medians['bare']:.1f} s",
            statistics.median(
                ours / theirs for ours, theirs in zip(seconds[name], seconds["bare"], strict=True)
            ),
        )
        for name, count in steps.items()
    ]
