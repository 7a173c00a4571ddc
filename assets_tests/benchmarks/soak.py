"""Everything at once against one `honeloop serve`, for half an hour: is its memory flat, is anything lost?

    python -m assets_tests.benchmarks.soak --minutes 30

Several clients search and judge; a repository changes and is indexed; two models' indexes take turns in
serving, and are rolled back. Sampled every two seconds: the service's resident memory, its open files and
threads, the anonymous memory of Postgres' processes, and its connections. (Not their USS: a page of the
shared buffers that only one living process has touched counts as its own there, so USS rises as the buffers
fill.) Flat means: the least-squares line through the samples after a third of the time, the warm-up, rises by
less than `MOST_GROWTH` of their mean over the rest. In the end the service is stopped, and every search that
was answered and every judgement that was acknowledged has to be in the database. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from assets_tests.benchmarks.provenance import provenance, write_figures
from assets_tests.end_to_end.test_loop import commit_all
from assets_tests.index.click_corpus import click_functions
from assets_tests.survival.homes import Home, make_home, temporary_directory
from assets_tests.survival.untrained import as_trained
from assets_tests.training.click_pairs import make_set, plain_pairs
from pipeline.defs.in_process import run_loop
from pipeline.errors import HoneloopError
from pipeline.index.building import build_index
from pipeline.index.embeddings import embed_missing
from pipeline.index.flipping import flip, rollback
from pipeline.progress import Silent
from pipeline.promotion.registry import ensure_registered, set_state
from pipeline.store import server_leftovers
from pipeline.store.connections import Database
from pipeline.training.checkpoints import write_checkpoint
from pipeline.workbench import Workbench

CLIENTS = 3
SAMPLE_SECONDS = 2.0
WARM_UP = 1 / 3
MOST_GROWTH = 0.05
# What an index run says that was overtaken as often as it began anew, as no work here waits for another.
# Nothing is flipped then; the next run mends it, and the one after the soak has to complete.
OVERTAKEN = "took over; it goes on serving"
JUDGEMENTS = ("accept", "click", "reject", "copy")
NEW_CODE = '''def step_{number}(values):
    """Takes the {text} step {number}, and returns what is left."""
    return values[{number}:]
'''


@dataclass
class Soak:
    """What was asked, answered and measured; shared by all threads."""

    statuses: Counter[int] = field(default_factory=Counter[int])
    unclear: list[str] = field(default_factory=list[str])
    searches: set[str] = field(default_factory=set[str])
    not_recorded: int = 0
    judgements: set[tuple[str, int, str]] = field(default_factory=set[tuple[str, int, str]])
    seconds: list[float] = field(default_factory=list[float])
    done: Counter[str] = field(default_factory=Counter[str])
    broken: list[str] = field(default_factory=list[str])
    samples: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


def ask(soak: Soak, address: str, queries: Sequence[str], seed: int) -> None:
    """One client: searches without a pause worth mentioning, and judges every third answer."""
    chance = random.Random(seed)
    with httpx.Client(base_url=address, timeout=60) as client:
        while not soak.over.is_set():
            began = time.perf_counter()
            answer = client.post("/search", json={"query": chance.choice(queries), "k": 5})
            took = time.perf_counter() - began
            with soak.lock:
                soak.seconds.append(took)
            if (found := _noted(soak, answer)) is None:
                continue
            search_id, results = found["search_id"], found["results"]
            with soak.lock:
                if search_id is None:
                    soak.not_recorded += 1
                else:
                    soak.searches.add(search_id)
            if search_id is not None and results and chance.random() < 1 / 3:
                snippet, judgement = chance.choice(results)["snippet_id"], chance.choice(JUDGEMENTS)
                given = {"search_id": search_id, "snippet_id": snippet, "judgement": judgement}
                if _noted(soak, client.post("/feedback", json=given)) is not None:
                    with soak.lock:
                        soak.judgements.add((search_id, snippet, judgement))
            soak.over.wait(0.02)


def _noted(soak: Soak, answer: httpx.Response) -> dict[str, Any] | None:
    """The content of an answer; None if it is a refusal, which has to be a clear 503."""
    content = answer.json()
    with soak.lock:
        soak.statuses[answer.status_code] += 1
        if answer.status_code == 503:
            if not content.get("hint") or "retry-after" not in answer.headers:
                soak.unclear.append(answer.text[:300])
        elif answer.status_code != 200:
            soak.unclear.append(f"{answer.status_code}: {answer.text[:300]}")
    return content if answer.status_code == 200 else None


def change_and_index(soak: Soak, home: Home, db: Database) -> None:
    """The repository gets a function, another changes, and one goes; then it is indexed."""
    settings = home.settings.model_copy(update={"database_url": db.url})
    number = 0
    while not soak.over.wait(1.0):
        number += 1
        for each, text in ((number, "new"), (number - 1, "changed")):
            code = NEW_CODE.format(number=each, text=text)
            (home.repository / f"step_{each}.py").write_text(code)
        (home.repository / f"step_{number - 5}.py").unlink(missing_ok=True)
        commit_all(home.repository, f"Step {number}")
        result = run_loop(settings, Silent(), only_index=True)
        with soak.lock:
            soak.done["indexed"] += not result.failures
            for failure in result.failures:
                if OVERTAKEN in failure.message:
                    soak.done["index run was overtaken"] += 1
                else:
                    soak.broken.append(failure.message)


def take_turns(soak: Soak, bench: Workbench, versions: Sequence[str]) -> None:
    """Lets the index of one model serve after that of the other, and goes back now and then."""
    db, settings = bench.db, bench.settings
    turn = 0
    while not soak.over.wait(3.0):
        turn += 1
        serving = bench.serving_model().version
        version = next(each for each in versions if each != serving)
        try:
            if turn % 5 == 0:
                rollback(db)
                soak.done["rolled back"] += 1
                continue
            with db.connect() as connection:
                set_state(connection, version, "approved", "person", [f"turn {turn}"])
            embed_missing(db, bench.encoder(bench.model(version)), settings, Silent())
            report = build_index(db, version, settings, Silent())
            flip(db, report.index_version_id, actor="person", reasons=[f"turn {turn}"], settings=settings)
            soak.done["flipped"] += 1
        except HoneloopError as error:
            # A commit between embedding and building leaves a text without its vector; then it is refused.
            soak.done[f"refused: {error.message[:40]}"] += 1


def sample(soak: Soak, service: psutil.Process, home: Home, db: Database) -> None:
    """Adds one sample of each measure every two seconds."""
    while not soak.over.wait(SAMPLE_SECONDS):
        postmaster = psutil.Process(server_leftovers.running_postmaster(home.data) or os.getpid())
        with db.connect() as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            ).fetchone()
        assert row is not None
        values = {
            "service MB": service.memory_info().rss / 1e6,
            "service files": float(service.num_fds()),
            "service threads": float(service.num_threads()),
            "Postgres MB": sum(_own_memory(each) for each in postmaster.children()) / 1e6,
            "connections": float(row[0]),
        }
        for name, value in values.items():
            soak.samples.setdefault(name, []).append(value)


def _own_memory(process: psutil.Process) -> float:
    """Bytes that are no file's and shared with nobody: what a leak would add to; 0 once it has ended."""
    try:
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    kilobytes = rollup.partition("Anonymous:")[2].split()
    return 1024.0 * int(kilobytes[0]) if kilobytes else 0.0


def trend(values: Sequence[float]) -> dict[str, float]:
    """The line through what follows the warm-up: its mean, and by what share of that it rises."""
    kept = np.asarray(values[int(len(values) * WARM_UP) :])
    slope = float(np.polyfit(np.arange(len(kept)), kept, 1)[0]) if len(kept) > 1 else 0.0
    mean = float(kept.mean())
    return {
        "mean": round(mean, 1),
        "most": round(float(kept.max()), 1),
        "per minute": round(slope * 60 / SAMPLE_SECONDS, 3),
        "growth": round(slope * len(kept) / mean, 4),
    }


@contextmanager
def serving(home: Home, db: Database) -> Generator[tuple[psutil.Process, str]]:
    """`honeloop serve` as a process, and its address; stopped by a signal, so that it writes its queue."""
    command = [sys.executable, "-m", "pipeline.cli", "serve", "--port", "0", "--quiet"]
    environment = {
        **home.environment,
        "HONELOOP_DATABASE_URL": db.url,
        "HONELOOP_RATE_LIMIT": "1000000/minute",
    }
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = ""
        while not address.startswith("Search"):
            address = process.stdout.readline()
            assert address, "the service ended"
        try:
            yield psutil.Process(process.pid), address.removeprefix("Search").strip()
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0


def second_model(bench: Workbench, home: Home) -> str:
    """The base with every weight a little off, as a training would leave it: a checkpoint like any other."""
    import torch

    base = bench.base_model()
    encoder = bench.encoder_at("minilm")
    model = encoder.sentence_transformer()
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn_like(weights) * 1e-4)
    tuned = as_trained(model, base.version, bench.settings)
    checkpoint = write_checkpoint(
        tuned, encoder, make_set(plain_pairs(8, "train")), home.settings.checkpoints_path
    )
    record = ensure_registered(
        bench.db,
        bench.encoder_at(str(checkpoint.path)),
        str(checkpoint.path),
        "candidate",
        base_version=base.version,
    )
    return record.version


def run_soak(minutes: float, directory: Path, clients: int = CLIENTS) -> dict[str, Any]:
    """The whole of it; what was measured, and what was lost."""
    home = make_home(directory)
    db = home.database()
    bench = Workbench(home.settings, database=db)
    versions = [second_model(bench, home), bench.base_model().version]
    queries = [each.documentation for each in click_functions() if each.documentation][:100]
    soak = Soak()
    with serving(home, db) as (service, address):
        works: list[Callable[[], None]] = [
            *(lambda seed=seed: ask(soak, address, queries, seed) for seed in range(clients)),
            lambda: change_and_index(soak, home, db),
            lambda: take_turns(soak, bench, versions),
            lambda: sample(soak, service, home, db),
        ]
        threads = [threading.Thread(target=_told(soak, work)) for work in works]
        for thread in threads:
            thread.start()
        soak.over.wait(minutes * 60)
        soak.over.set()
        for thread in threads:
            thread.join(300)
    lost = _lost(soak, db)
    settings = home.settings.model_copy(update={"database_url": db.url})
    soak.broken += [each.message for each in run_loop(settings, Silent(), only_index=True).failures]
    home.leave()
    trends = {name: trend(values) for name, values in soak.samples.items()}
    return {
        "minutes": minutes,
        "clients": clients,
        "statuses": dict(soak.statuses),
        "p50 ms": round(float(np.median(soak.seconds)) * 1000, 1),
        "p99 ms": round(float(np.quantile(soak.seconds, 0.99)) * 1000, 1),
        "searches": len(soak.searches),
        "not recorded": soak.not_recorded,
        "judgements": len(soak.judgements),
        "done": dict(soak.done),
        "trends": trends,
        "not flat": [name for name, found in trends.items() if found["growth"] > MOST_GROWTH],
        "unclear": soak.unclear[:20],
        "broken": soak.broken[:20],
        "lost": lost,
    }


def _told(soak: Soak, work: Callable[[], None]) -> Callable[[], None]:
    """Ends the soak, and says why, if one of its threads fails."""

    def run() -> None:
        try:
            work()
        except Exception as error:
            with soak.lock:
                soak.broken.append(f"{type(error).__name__}: {error}")
            soak.over.set()

    return run


def _lost(soak: Soak, db: Database) -> dict[str, int]:
    """How many answered searches and acknowledged judgements are not in the database."""
    with db.connect() as connection:
        searches = {str(row[0]) for row in connection.execute("SELECT id FROM searches").fetchall()}
        judgements = {
            (str(search), int(snippet), str(kind))
            for search, snippet, kind in connection.execute(
                "SELECT search_id, snippet_id, judgement FROM feedback"
            ).fetchall()
        }
    return {
        "searches": len(soak.searches - searches),
        "judgements": len(soak.judgements - judgements),
    }


def main() -> None:
    """Prints the figures, and ends with 1 if anything was lost, unclear or not flat."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--json", type=Path, default=None, help="Also write the figures to this file.")
    asked = parser.parse_args()
    with temporary_directory() as directory:
        figures = run_soak(asked.minutes, directory, asked.clients)
    write_figures(asked.json, {**provenance([0]), **figures})
    print(json.dumps(figures, indent=1))
    wrong = figures["unclear"] or figures["broken"] or figures["not flat"] or any(figures["lost"].values())
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
