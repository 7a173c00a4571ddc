"""What searches wait for beside an embedding run: none, one that steps back for them, and one that does not.

Run: `honeloop up`, something indexed, then `python -m assets_tests.benchmarks.search_beside_embedding`. The
searches go to the real service over HTTP, each with a query it has not seen; the embedding is a process of
its own that embeds installed code in the batches that runs use.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np

from assets_tests.benchmarks.installed_code import queries_of, real_code
from pipeline.config import load_settings

CASES: dict[str, int | None] = {"alone": None, "beside niceness 0": 0, "beside niceness 10": 10}
PAUSE_SECONDS = 0.05  # people search now and then; a queue of searches would measure itself


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line per case, as JSON."""
    settings = load_settings()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=f"http://127.0.0.1:{settings.search_port}")
    parser.add_argument("--seconds", type=float, default=20.0, help="per case and round")
    parser.add_argument("--rounds", type=int, default=2, help="the cases in turn, so often")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the embedding process")
    parser.add_argument("--embed", type=int, metavar="NICENESS", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.embed is not None:
        _embed_for_ever(chosen.embed)
    queries = queries_of(real_code(2000), 500)
    numbers = count()
    took: dict[str, list[float]] = {case: [] for case in CASES}
    embedded: dict[str, float] = {}
    _search(chosen.url, "warm up", -1)
    for _ in range(chosen.rounds):
        for case, niceness in CASES.items():
            worker = None if niceness is None else _embedding(niceness, chosen.threads)
            until = time.monotonic() + chosen.seconds
            while time.monotonic() < until:
                number = next(numbers)
                took[case].append(_search(chosen.url, queries[number % len(queries)], number))
                time.sleep(PAUSE_SECONDS)
            if worker is not None:
                worker.terminate()
                said, _ = worker.communicate()
                counted = len(said.split()) * BATCH / chosen.seconds
                embedded[case] = embedded.get(case, 0.0) + counted / chosen.rounds
    for case, seconds in took.items():
        print(json.dumps(_line(case, seconds, embedded.get(case), chosen.threads)))
    return 0


BATCH = 16


def _line(case: str, seconds: Sequence[float], embedded: float | None, threads: int) -> dict[str, Any]:
    p50, p95, p99 = (round(float(x) * 1000, 1) for x in np.percentile(seconds, (50, 95, 99)))
    return {
        "case": case,
        "searches": len(seconds),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "embedded_per_second": None if embedded is None else round(embedded, 1),
        "threads": threads,
        "load": round(os.getloadavg()[0], 1),
    }


def _search(url: str, query: str, number: int) -> float:
    """Seconds that one search takes; the number keeps the service from knowing the query already."""
    body = json.dumps({"query": f"{query} {number}", "k": 10}).encode()
    request = urllib.request.Request(f"{url}/search", data=body, headers={"Content-Type": "application/json"})
    started = time.perf_counter()
    with urllib.request.urlopen(request, timeout=120) as answer:
        answer.read()
    return time.perf_counter() - started


def _embedding(niceness: int, threads: int) -> subprocess.Popen[str]:
    """A process that embeds until it is ended, once it has begun."""
    worker = subprocess.Popen(
        [sys.executable, "-m", __spec__.name if __spec__ else __name__, "--embed", str(niceness)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        text=True,
        # As a run of Dagster: in another session than the search service.
        start_new_session=True,
    )
    assert worker.stdout is not None
    worker.stdout.readline()
    return worker


def _embed_for_ever(niceness: int) -> None:
    from pipeline.encoders.loading import load_encoder

    os.nice(niceness)
    encoder = load_encoder("minilm", device="cpu")
    texts = [code.text for code in real_code(500)]
    for start in count(0, BATCH):
        encoder.embed_documents([texts[(start + n) % len(texts)] for n in range(BATCH)])
        print("batch", flush=True)


if __name__ == "__main__":
    sys.exit(main())
