"""What searches wait for beside runs that embed and train: how many times as long as when nothing else runs.

Run: `honeloop up`, something indexed, then `python -m assets_tests.benchmarks.search_beside_embedding`; with
`--url` where the service has another port than by default. The searches go to the real service over HTTP,
each with a query it has not seen. The embedding and the training are processes of their own that do what runs
do, and step back for searches as runs do; one does not. Each is started once and suspended between its turns.
The turns are short and follow each other round and round, so that whatever else the machine does hits all of
them alike: only the ratios say something.

Measured on two quiet processors, 12 turns of 4 s each, 475 to 660 searches a case: p95 alone 36 ms; beside
embedding 1.27 times that, beside training 1.31, beside embedding that does not step back 2.22. What stepped
back used 0.96 and 0.93 of a processor, what did not 1.53.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from assets_tests.benchmarks.installed_code import queries_of, real_code
from pipeline.config import load_settings

ALONE = "alone"
# What is done beside, and whether it steps back.
CASES: dict[str, tuple[str, bool] | None] = {
    ALONE: None,
    "embedding": ("embed", True),
    "training": ("train", True),
    "embedding that does not step back": ("embed", False),
}
PAUSE_SECONDS = 0.05  # people search now and then; a queue of searches would measure itself
BATCH = 16
PAIRS = 180


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line per case, as JSON."""
    settings = load_settings()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=f"http://127.0.0.1:{settings.search_port}")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=15, help="how often each case has its turn")
    parser.add_argument("--work", choices=["embed", "train"], help=argparse.SUPPRESS)
    parser.add_argument("--step-back", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.work is not None:
        _work(chosen.work, step_back=chosen.step_back)
    queries = queries_of(real_code(1000), 300)
    numbers = count()
    took: dict[str, list[list[float]]] = {case: [] for case in CASES}
    used = dict.fromkeys(CASES, 0.0)
    with ExitStack() as stack:
        workers = {case: stack.enter_context(_worker(*work)) for case, work in CASES.items() if work}
        _search(chosen.url, "warm up", -1)
        for turn in range(chosen.rounds):
            # Each case follows each other one now and then.
            cases = list(CASES) if turn % 2 else list(reversed(CASES))
            for case in cases:
                worker = workers.get(case)
                before = _at_work(worker)
                seconds: list[float] = []
                until = time.monotonic() + chosen.seconds
                while time.monotonic() < until:
                    number = next(numbers)
                    seconds.append(_search(chosen.url, queries[number % len(queries)], number))
                    time.sleep(PAUSE_SECONDS)
                used[case] += _suspended(worker) - before
                took[case].append(seconds)
    for case, turns in took.items():
        line = _line(case, turns, took[ALONE])
        line["processors_used"] = round(used[case] / chosen.rounds / chosen.seconds, 2)
        print(json.dumps(line))
    print(json.dumps({"load": [round(load, 1) for load in os.getloadavg()], "processors": os.cpu_count()}))
    return 0


def _line(case: str, turns: Sequence[Sequence[float]], alone: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Percentiles over all turns, how they stand to those alone, and how that differed from turn to turn."""
    ours, theirs = _percentiles(np.concatenate(turns)), _percentiles(np.concatenate(alone))
    of_turns = [
        _percentiles(one)[1] / _percentiles(other)[1] for one, other in zip(turns, alone, strict=True)
    ]
    low, middle, high = np.percentile(of_turns, (25, 50, 75))
    return {
        "case": case,
        "searches": sum(map(len, turns)),
        **{f"p{p}_ms": round(1000 * value, 1) for p, value in zip((50, 95, 99), ours, strict=True)},
        **{f"p{p}_ratio": round(a / b, 2) for p, a, b in zip((50, 95, 99), ours, theirs, strict=True)},
        "p95_ratio_of_turns": [round(float(value), 2) for value in (low, middle, high)],
    }


def _percentiles(seconds: Sequence[float] | np.ndarray) -> list[float]:
    return [float(value) for value in np.percentile(seconds, (50, 95, 99))]


def _search(url: str, query: str, number: int) -> float:
    """Seconds that one search takes; the number keeps the service from knowing the query already."""
    body = json.dumps({"query": f"{query} {number}", "k": 10}).encode()
    request = urllib.request.Request(f"{url}/search", data=body, headers={"Content-Type": "application/json"})
    started = time.perf_counter()
    with urllib.request.urlopen(request, timeout=120) as answer:
        answer.read()
    return time.perf_counter() - started


@contextmanager
def _worker(work: str, step_back: bool) -> Generator[psutil.Process]:
    """A process that is at it, suspended."""
    command = [sys.executable, "-m", "assets_tests.benchmarks.search_beside_embedding", "--work", work]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with subprocess.Popen(
        [*command, *(["--step-back"] if step_back else [])],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        # As a run of Dagster: in another session than the search service.
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "at work\n"
            worker = psutil.Process(process.pid)
            worker.suspend()
            yield worker
        finally:
            process.send_signal(signal.SIGKILL)


def _at_work(worker: psutil.Process | None) -> float:
    """Lets it go on; the processor time that it has used so far."""
    if worker is None:
        return 0.0
    worker.resume()
    time.sleep(0.2)
    return _used(worker)


def _suspended(worker: psutil.Process | None) -> float:
    """Stops it; the processor time that it has used so far."""
    if worker is None:
        return 0.0
    worker.suspend()
    return _used(worker)


def _used(worker: psutil.Process) -> float:
    times = worker.cpu_times()
    return times.user + times.system


def _work(work: str, *, step_back: bool) -> None:
    """Embeds or trains until it is killed."""
    from pipeline.defs import resources

    settings = load_settings()
    if step_back:
        os.environ["OMP_NUM_THREADS"] = str(resources.run_threads(settings))
    from pipeline.encoders.loading import load_encoder

    encoder = load_encoder("minilm", device="cpu")
    if work == "train":
        from assets_tests.training.click_pairs import make_set, plain_pairs
        from pipeline.progress import Silent
        from pipeline.training.fine_tuning import fine_tune

        pairs = [*plain_pairs(PAIRS, "train"), *plain_pairs(20, "validation", PAIRS)]
        settings = settings.model_copy(update={"train_epochs": 10_000, "early_stopping_patience": 10_000})
        with tempfile.TemporaryDirectory() as directory:
            resources.step_back(settings)
            print("at work", flush=True)
            fine_tune(encoder, make_set(pairs), settings, Path(directory), Silent())
    texts = [code.text for code in real_code(200)]
    for start in count(0, BATCH):
        encoder.embed_documents([texts[(start + n) % len(texts)] for n in range(BATCH)])
        if not start:
            if step_back:
                resources.step_back(settings)  # earlier, it might never come to its work
            print("at work", flush=True)


if __name__ == "__main__":
    sys.exit(main())
