"""An index for a new model: loading and HNSW against psql's \\copy and CREATE INDEX; searches during each.

psql builds with the parallel workers that Postgres gives by default, Honeloop with as many and with its own
default, which leaves a processor to searches. Graph and memory are the same. Honeloop copies the vectors
within the database, adds the key, and is what serves afterwards; its measuring the recall does not count as
build time, as psql does not, but searches during it do.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from assets_tests.benchmarks.comparing import Comparison, Found, Goal, Rounds, Size, speed_ratio, timed
from assets_tests.benchmarks.indexed_rows import Rows, many_rows
from assets_tests.benchmarks.plain_index import PlainIndex
from pipeline.index.hnsw import build_workers

ROWS: dict[Size, int] = {"quick": 10_000, "full": 100_000}
EMBEDDED: dict[Size, int] = {"quick": 200, "full": 5_000}
ROUNDS: dict[Size, int] = {"quick": 2, "full": 3}
QUIET_SEARCHES = 200
OURS, SAME, PLAIN = "honeloop", "honeloop, as many workers", "psql"


def run(size: Size) -> Found:
    """Builds in turns, then searches beside builds."""
    return measure(ROWS[size], EMBEDDED[size], ROUNDS[size])


def measure(count: int, embedded: int, rounds: int) -> Found:
    """See the module."""
    with many_rows(count, embedded) as rows, tempfile.TemporaryDirectory() as directory:
        rows.build()
        plain = PlainIndex.prepared(rows, Path(directory))
        ways = {
            OURS: partial(built, rows),
            SAME: partial(built, rows, index_build_workers=plain.workers),
            PLAIN: lambda: timed(plain.build),
        }
        seconds: Rounds = {name: [] for name in ways}
        searches: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
        for number in range(rounds):
            for name in ways if number % 2 == 0 else reversed(ways):
                seconds[name].append(ways[name]())
        for number in range(rounds):
            for name in ways if number % 2 == 0 else reversed(ways):
                searches[name].append(beside(rows, ways[name]))
        workers = {OURS: build_workers(rows.settings), SAME: plain.workers, PLAIN: plain.workers}
    details = {
        "rows": plain.count,
        "real vectors": embedded,
        "workers": workers,
        "seconds": seconds,
        "searches": searches,
    }
    return Found([*_build_lines(seconds, workers, plain.count), *_search_lines(searches, workers)], details)


def built(rows: Rows, **changed: Any) -> float:
    """Seconds of a build anew, with other settings if need be."""
    with rows.db.connect() as connection:
        # An index with other links is none that could be used again.
        connection.execute("""UPDATE index_versions SET parameters = parameters || '{"m": 0}'""")
    report = rows.build(**changed)
    assert report.action == "built"
    return report.build_seconds


def beside(rows: Rows, build: Callable[[], object]) -> dict[str, Any]:
    """p95 of searches with nothing beside them, and of those during a build, in milliseconds."""
    failed: list[BaseException] = []

    def building() -> None:
        try:
            build()
        except BaseException as error:
            failed.append(error)

    with rows.searching() as searching:
        for number in range(QUIET_SEARCHES // 2):
            searching.ask(number)
        quiet = [searching.ask(number) for number in range(QUIET_SEARCHES)]
        thread = threading.Thread(target=building)
        thread.start()
        during: list[float] = []
        while thread.is_alive():
            during.append(searching.ask(len(during)))
        thread.join()
    if failed:
        raise failed[0]
    return {
        "quiet_p95_ms": 1000 * float(np.percentile(quiet, 95)),
        "during_p95_ms": 1000 * float(np.percentile(during, 95)),
        "during": len(during),
    }


def _build_lines(seconds: Rounds, workers: dict[str, int], count: int) -> list[Comparison]:
    plain = f"psql's \\copy and CREATE INDEX {np.median(seconds[PLAIN]):.1f} s, {_said(workers[PLAIN])}"
    return [
        Comparison(
            f"loading and HNSW of {count:,} vectors{title}",
            f"{np.median(seconds[name]):.1f} s, {_said(workers[name])}",
            plain,
            speed_ratio(seconds[name], seconds[PLAIN]),
        )
        for name, title in ((OURS, ""), (SAME, ", as many workers as psql's"))
    ]


def _search_lines(searches: dict[str, list[dict[str, Any]]], workers: dict[str, int]) -> list[Comparison]:
    titles = {OURS: "the build", SAME: "the build with as many workers as psql's", PLAIN: "psql's"}
    return [
        Comparison(
            f"p95 of {sum(each['during'] for each in some):,} searches during {titles[name]}",
            f"{_median(some, 'during_p95_ms'):.1f} ms, {_said(workers[name])}",
            f"with nothing beside them {_median(some, 'quiet_p95_ms'):.1f} ms",
            statistics.median(each["during_p95_ms"] / each["quiet_p95_ms"] for each in some),
            Goal(2.0, "at most") if name == OURS else None,
        )
        for name, some in searches.items()
    ]


def _median(some: list[dict[str, Any]], name: str) -> float:
    return statistics.median(each[name] for each in some)


def _said(workers: int) -> str:
    return f"{workers} parallel worker{'' if workers == 1 else 's'}"
