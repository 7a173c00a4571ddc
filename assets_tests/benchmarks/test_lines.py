"""The lines that benchmarks say: each ratio the right way round, computed from figures made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from assets_tests.benchmarks import dagster_overhead, extraction, indexing, reindexing
from assets_tests.benchmarks.comparing import Alone, Comparison
from assets_tests.benchmarks.indexing import Runs


def ran(seconds: float, peak: float = 0.0, tree: float = 0.0, /, **result: Any) -> Alone:
    return Alone(result, seconds, peak, 0.0, tree)


def ratios(lines: list[Comparison]) -> list[tuple[str, float | None]]:
    return [(line.what, None if line.ratio is None else round(line.ratio, 6)) for line in lines]


@pytest.fixture
def small() -> Runs:
    """A run of 100 s, of which 5 pass before it begins and 80 with embedding; three turns of the others."""
    stages = {"Extracting": 10.0, "Embedding": 80.0, "Building": 1.0}
    runs = Runs(files=10, changed=2)
    runs.ours = {
        "from nothing": [ran(100, 900, 1000, seconds=95, stages=stages, snippets=500, embedded=400)],
        "nothing changed": [ran(4, seconds=1), ran(6, seconds=3), ran(5, seconds=2)],
        "1% changed": [ran(20, embedded=3), ran(12, embedded=2), ran(16, embedded=4)],
    }
    runs.peers = {
        "from nothing": [ran(250, 1800, 2500, chunks=600)],
        "nothing changed": [ran(8), ran(6), ran(10)],
        "1% changed": [ran(10), ran(24), ran(8)],
    }
    runs.starts = [ran(10), ran(12), ran(8)]
    return runs


def test_lines_of_an_index(small: Runs) -> None:
    lines = indexing._lines(small)
    corpus = "10 files, 500 snippets"
    assert ratios(lines) == [
        (f"index from nothing: {corpus}", 2.5),
        (f"{corpus}: Embedding", 0.8),
        (f"{corpus}: Extracting", 0.1),
        (f"{corpus}: start", 0.05),
        (f"{corpus}: everything else", 0.04),  # building, 1%, is too little for a line
        (f"nothing changed: {corpus}", 2.0),  # of 2, 1 and 2: how many times as long the peer takes
        ("the same: seconds after the start", 2.0),
        (f"2 files changed: {corpus}", 0.5),  # of 0.5, 2 and 0.5
        ("the fixed start: a process, torch, the model, one vector", None),
        ("2 files changed, beyond the fixed start, as a share of the whole", 0.06),
        ("2 files changed: texts embedded, as a share of all", 0.01),
        (f"peak memory of the main process: {corpus}", 0.5),
        (f"peak memory of all its processes: {corpus}", 0.4),
    ]
    said = {line.what: (line.ours, line.theirs) for line in lines}
    assert said[f"index from nothing: {corpus}"] == (
        "100.0 s, 400 texts embedded",
        "cocoindex 250.0 s, 600 chunks",
    )
    assert said["the same: seconds after the start"] == ("2.0 s", "start 3.0 s")
    assert said["2 files changed, beyond the fixed start, as a share of the whole"] == ("6.0 s", "100.0 s")
    assert said[f"peak memory of all its processes: {corpus}"] == ("1,000 MB", "cocoindex 2,500 MB")
    goals = [str(line.goal) for line in lines if line.goal is not None]
    assert goals == ["≤ 2", "≤ 0.02", "≤ 0.02"]


def test_lines_of_an_index_without_a_peer(small: Runs) -> None:
    small.peers = {}
    lines = indexing._lines(small)
    assert not any("memory" in line.what or "cocoindex" in line.theirs for line in lines)
    compared = ("index from nothing", "nothing changed", "2 files changed: 10 files")
    assert [line.ratio for line in lines if line.what.startswith(compared)] == [None] * 3


def test_memory_at_ten_times_the_size_is_over_that_at_once(small: Runs) -> None:
    large = Runs(files=100)
    large.ours = {"from nothing": [ran(1000, 1170, 1500, snippets=5000)]}
    lines = indexing._growth(small, large)
    assert ratios(lines) == [
        ("peak memory of the main process at 5,000 snippets over 500", 1.3),
        ("peak memory of all its processes at 5,000 snippets over 500", 1.5),
    ]
    assert [(line.ours, line.theirs) for line in lines] == [("1,170 MB", "900 MB"), ("1,500 MB", "1,000 MB")]
    assert [line.to_json()["met"] for line in lines] == [True, False]


OURS, SAME, PLAIN = reindexing.OURS, reindexing.SAME, reindexing.PLAIN
WORKERS = {OURS: 1, SAME: 2, PLAIN: 2}


def test_lines_of_a_build() -> None:
    seconds = {OURS: [2.0, 2.0, 8.0], SAME: [8.0, 10.0, 16.0], PLAIN: [4.0, 5.0, 4.0]}
    lines = reindexing._build_lines(seconds, WORKERS, 1000)
    assert ratios(lines) == [
        ("loading and HNSW of 1,000 vectors", 2.0),  # of 2, 2.5 and 0.5: twice as fast
        ("loading and HNSW of 1,000 vectors, as many workers as psql's", 0.5),
    ]
    assert [line.ours for line in lines] == ["2.0 s, 1 parallel worker", "10.0 s, 2 parallel workers"]
    assert {line.theirs for line in lines} == {"psql's \\copy and CREATE INDEX 4.0 s, 2 parallel workers"}


def test_lines_of_searches_beside_a_build() -> None:
    def searched(*pairs: tuple[float, float]) -> list[dict[str, Any]]:
        return [{"during_p95_ms": during, "quiet_p95_ms": quiet, "during": 7} for during, quiet in pairs]

    searches = {
        OURS: searched((15, 10), (30, 10), (10, 5)),
        SAME: searched((30, 10), (60, 20), (10, 5)),
        PLAIN: searched((5, 10), (4, 8), (20, 10)),
    }
    lines = reindexing._search_lines(searches, WORKERS)
    assert ratios(lines) == [
        ("p95 of 21 searches during the build", 2.0),
        ("p95 of 21 searches during the build with as many workers as psql's", 3.0),
        ("p95 of 21 searches during psql's", 0.5),
    ]
    assert (lines[0].ours, lines[0].theirs) == (
        "15.0 ms, 1 parallel worker",
        "with nothing beside them 10.0 ms",
    )
    assert [line.to_json()["met"] for line in lines] == [True, None, None]


def test_lines_of_dagster_share_what_it_adds_among_the_steps_that_ran() -> None:
    seconds = {"in process": [3.0, 4.0], "bare": [1.0, 2.0], "multiprocess": [21.0, 22.0]}
    lines = dagster_overhead._lines(seconds, {"in process": 10, "multiprocess": 20}, 6)
    assert ratios(lines) == [
        ("the index of 6 files up to date, in process", 2.5),
        ("the index of 6 files up to date, multiprocess", 16.0),
    ]
    assert [line.ours for line in lines] == [
        "3.5 s, +0.20 s for each of 10 steps",
        "21.5 s, +1.00 s for each of 20 steps",
    ]


def test_lines_of_extraction_have_their_goal_cold() -> None:
    figures = {
        "files": 3,
        "megabytes": 2.0,
        "rates": {"cold": 4.0, "warm": 5.0, "bare": 10.0, "cocoindex": 8.0},
        "snippets_per_second": 1234.0,
        "processor_seconds": {"cold": [9.0, 1.0, 1.0], "warm": [0.8], "bare": [0.2]},
        "ratios": {"bare": 0.4, "cocoindex": 0.5, "warm": 0.6, "processor": 0.2},
    }
    lines = extraction._lines("go", figures)
    assert ratios(lines) == [
        ("extraction of go: 2.0 MB in 3 files", 0.4),
        ("extraction of go: 2.0 MB in 3 files", 0.5),
        ("the same by processes that have cut these files before, go", 0.6),
        ("the same in processor time, go", 0.2),
    ]
    assert [line.to_json()["met"] for line in lines] == [False, None, None, None]
    assert lines[0].ours == "4.0 MB/s, 1,234 snippets/s"
    assert (lines[3].ours, lines[3].theirs) == (
        "0.50 s/MB, warm 0.40 s/MB",
        "bare tree-sitter 0.10 s/MB",
    )
