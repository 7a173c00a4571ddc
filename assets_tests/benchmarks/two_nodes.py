"""The same functions embedded here, by Ray on two nodes, and by Ray on two nodes one of which is killed.

A real cluster on this machine: two nodes with a processor each, processes of their own. The second is killed
without a warning once both have worked and it holds two pieces of work. What comes is compared, text by text,
with what this process computes alone.

Run: `python -m assets_tests.benchmarks.two_nodes --functions 2000 --json FILE`; needs the extra `ray`. The
seconds with a cluster begin when it is joined, and hold what its workers take to start.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from assets_tests.benchmarks.installed_code import real_code
from assets_tests.benchmarks.provenance import provenance, show, write_figures
from assets_tests.benchmarks.real_vectors import fresh_database
from assets_tests.engines.clusters import real_cluster
from assets_tests.engines.watched import KeptVectors, KillsMidway, WatchedPool
from assets_tests.index.click_corpus import Function, add_functions
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.loading import load_encoder
from pipeline.engines import ray_engine
from pipeline.index import embeddings
from pipeline.index.embeddings import embed_missing, load_vectors
from pipeline.progress import Progress, Silent
from pipeline.terminal import TerminalProgress

SEED = 17
PATIENCE = 1800  # seconds; a cluster on a busy machine takes its time
CHUNK = 32
ALONE, BOTH, KILLED = "this process", "two nodes", "two nodes, one killed midway"
COLUMNS = (
    "by",
    "texts",
    "missing",
    "twice",
    "done by the second node",
    "done anew",
    "largest difference",
    "s",
)


@dataclass(frozen=True)
class Figures:
    """What came of one way.

    Args:
        way: To embed.
        texts: That have a vector in the end.
        missing: That have none.
        twice: That were stored more than once.
        by_second: Share of the pieces that the second node did.
        anew: Pieces that were lost with the node and done by the other one.
        largest_difference: Of any number from the one that this process computes.
        seconds: On the clock.
    """

    way: str
    texts: int
    missing: int
    twice: int
    by_second: float
    anew: int
    largest_difference: float
    seconds: float


Vectors = dict[bytes, NDArray[np.float32]]
Way = tuple[Figures, Vectors]


def embedded(encoder: Encoder, functions: Sequence[Function], way: str, expected: Vectors | None) -> Way:
    """One way's figures, and its vectors; they are compared with `expected`, if there are any."""
    kept = KeptVectors()
    with fresh_database() as (db, settings, _), patch.object(embeddings, "copy_vectors", kept):
        add_functions(db, functions)

        def run(used: Settings, progress: Progress) -> float:
            started = time.perf_counter()
            embed_missing(db, encoder, used, progress)
            return time.perf_counter() - started

        seconds, by_second, anew = (
            (run(settings, TerminalProgress()), 0.0, 0) if way == ALONE else _on_nodes(settings, way, run)
        )
        texts = len(load_vectors(db, encoder.version)[0])
    expected = expected or kept.vectors
    worst = max(float(np.abs(vector - expected[each]).max()) for each, vector in kept.vectors.items())
    missing = len(functions) - texts
    return Figures(way, texts, missing, kept.twice, by_second, anew, worst, seconds), kept.vectors


def _on_nodes(
    settings: Settings, way: str, run: Callable[[Settings, Progress], float]
) -> tuple[float, float, int]:
    """The seconds, the share of the work that the second node did, and what was done anew without it."""
    said = {"engine": "ray", "device": "cpu", "ray_patience_seconds": PATIENCE, "embed_chunk_size": CHUNK}
    WatchedPool.made.clear()
    with real_cluster() as cluster, patch.object(ray_engine, "Pool", WatchedPool):
        second = cluster.add_node()
        progress = KillsMidway(second) if way == KILLED else Silent()
        seconds = run(settings.model_copy(update=said | {"ray_address": cluster.address}), progress)
    (pool,) = WatchedPool.made
    lost = {number for number, _ in pool.lost}
    assert bool(lost) == (way == KILLED), "the second node was to be lost while it held work, or not at all"
    return seconds, [node for _, node in pool.done].count(second.id) / len(pool.done), len(lost)


def measured(count: int) -> list[Figures]:
    """Each way in turn, over the same functions."""
    functions = [
        Function(each.path, f"f{number}", each.text, 1, each.documentation or None)
        for number, each in enumerate(real_code(count))
    ]
    encoder = load_encoder("minilm")
    alone, vectors = embedded(encoder, functions, ALONE, None)
    return [alone, *(embedded(encoder, functions, way, vectors)[0] for way in (BOTH, KILLED))]


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Embedding on two nodes, with one lost midway.")
    parser.add_argument("--functions", type=int, default=2000, help="How many real functions.")
    parser.add_argument("--json", type=Path, help="Where the figures go, too.")
    asked = parser.parse_args(given)
    found = measured(asked.functions)
    table = Table(title=f"{asked.functions:,} functions by MiniLM")
    for title in COLUMNS:
        table.add_column(title, justify="left" if title == COLUMNS[0] else "right")
    for each in found:
        table.add_row(
            each.way,
            f"{each.texts:,}",
            str(each.missing),
            str(each.twice),
            f"{each.by_second:.0%}",
            str(each.anew),
            f"{each.largest_difference:.1e}",
            f"{each.seconds:.1f}",
        )
    show(table)
    write_figures(
        asked.json, {**provenance([SEED], chunk=CHUNK), "figures": [asdict(each) for each in found]}
    )


if __name__ == "__main__":
    main()
