"""How long a search takes, and where: encode, search, fetch; and how many a second, by how many clients.

Run: `python -m assets_tests.benchmarks.search_latency --snippets 100000 --embedded 10000`, or
`--rows 1000000` for the database alone, by meaning alone. What is real and what is repeated is said in the
output.

Measured (2 cores, nothing else running; MiniLM, 200 documentation queries; milliseconds; 100,000 different
real functions, of which 12,500 were embedded and the other vectors repeat theirs with isotropic noise):

    1 client                    p50     p95     p99    per second    recall@10 (breadth)
    100,000, meaning alone       19      28      38    49            0.977 (196)
      encode / search / fetch    12.2 / 3.9 / 0.8 (p50), 21.1 / 5.1 / 1.2 (p95)

The database alone (12,500 functions embedded; the other vectors repeat them with noise, as near-duplicates
differ; built in 824 s while other work took most of the machine, measured with little beside it):

    1,000,000, meaning alone    p50     p95     p99    per second    recall@10 (breadth)
    1 client                     8.9    15.2    17.5   107           0.973 (385)
    4 clients                   26.3    50.8    59.3   140

Processor time of one search without encoding, server and client together (40,000 different functions, 7,500
embedded, 100,000 snippets; the machine was shared by some twenty processes; recall@10 0.974):

    100,000                     p50     p95     p99
    meaning alone                3.4     4.9     5.1
    words count 0.1             10.3    15.4    16.5
    filter: a kind               4.2     5.7     6.0
    filter: a folder            24      25      26
    filter: everything           4.4     5.1     6.3
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets_tests.benchmarks.big_corpus import batches_of, fill, real_embeddings
from assets_tests.benchmarks.installed_code import real_code
from assets_tests.benchmarks.real_vectors import fresh_database
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.loading import load_encoder
from pipeline.index.building import build_index
from pipeline.index.flipping import flip
from pipeline.index.serving import serving_index
from pipeline.progress import Silent
from pipeline.search.answer import ranked
from pipeline.search.engine import SearchEngine
from pipeline.search.filters import Filters
from pipeline.search.hybrid.fusion import Weights
from pipeline.search.hybrid.weights import RankingWeights, store_weights
from pipeline.search.hybrid.words import count_words
from pipeline.search.places import find_places
from pipeline.search.query import answer_query, best_texts
from pipeline.search.request import SearchRequest
from pipeline.store.connections import Database

PERCENTILES = (50, 95, 99)
FILTERS: dict[str, dict[str, Any]] = {
    "kind": {"kinds": ("function",)},
    "path, folder": {"path": "networkx/**"},
    "path, everything": {"path": "*.py"},
    "path, few files": {"path": "base.py"},
    "path, none": {"path": "no_such_file.py"},
}


def percentiles(seconds: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
    values = np.percentile(np.array(seconds) * 1000, PERCENTILES)
    return {f"p{p}_ms": round(float(value), 2) for p, value in zip(PERCENTILES, values, strict=True)}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


class Stopwatch:
    """Seconds on the clock and on the processor, of this process and of one of the database server's.

    Where other work shares the machine, the clock measures that; the processor time does not.
    """

    def __init__(self, backend: int | None = None) -> None:
        schedule = Path(f"/proc/{backend}/schedstat")
        self._schedule = schedule if backend is not None and schedule.exists() else None
        self._began = self._now()

    def _now(self) -> NDArray[np.float64]:
        # Its first number: nanoseconds on the processor.
        server = 0 if self._schedule is None else int(self._schedule.read_text().split()[0])
        return np.array([time.perf_counter(), time.process_time() + server / 1e9])

    def lap(self) -> NDArray[np.float64]:
        """Since it was made or last asked: on the clock, on the processor."""
        began, self._began = self._began, self._now()
        return self._began - began


def parts(
    engine: SearchEngine, queries: Sequence[str], vectors: NDArray[np.float32] | None
) -> dict[str, Any]:
    """One client, the parts of a search one after the other; given vectors, nothing is encoded."""
    serving = engine.serving()
    times: dict[str, list[NDArray[np.float64]]] = {"encode": [], "search": [], "fetch": [], "whole": []}
    for number, query in enumerate(queries):
        watch = Stopwatch()
        vector = serving.encoder.submit(query).result() if vectors is None else vectors[number]
        encode = watch.lap()

        def answer(
            connection: Any, query: str = query, vector: Any = vector
        ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            watch = Stopwatch(connection.info.backend_pid)
            near = best_texts(
                connection, serving.index, vector, query, k=10, filters=Filters(), ef_search=None
            )
            search = watch.lap()
            ranked(near, find_places(connection, [each.content_hash for each in near], Filters()), 10)
            return search, watch.lap()

        search, fetch = engine.read(answer)
        if vectors is None:
            times["encode"].append(encode)
        times["search"].append(search)
        times["fetch"].append(fetch)
        times["whole"].append(encode + search + fetch)
    found: dict[str, Any] = {}
    for name, laps in times.items():
        if laps:
            clock, processor = np.array(laps).T
            found[name] = percentiles(clock)
            found[f"{name}, on the processor"] = percentiles(processor)
    return found


def clients(ask: Callable[[str], Any], queries: list[str], count: int) -> dict[str, float]:
    """Latency and throughput of `count` clients that ask one query after the other."""

    def client(own: list[str]) -> list[float]:
        return [timed(lambda query=query: ask(query))[1] for query in own]

    started = time.perf_counter()
    with ThreadPoolExecutor(count) as threads:
        seconds = [each for found in threads.map(client, batches_of(queries, count)) for each in found]
    return {**percentiles(seconds), "per_second": round(len(queries) / (time.perf_counter() - started), 1)}


def measure(
    db: Database, settings: Settings, queries: list[str], vectors: NDArray[np.float32], database_only: bool
) -> dict[str, Any]:
    # So small that no query is remembered: each is encoded.
    with SearchEngine(settings.model_copy(update={"query_cache_size": 1}), db, connections=16) as engine:
        index = engine.serving().index
        row = {query: vectors[number] for number, query in enumerate(queries)}

        def ask_database(query: str) -> Any:
            request = SearchRequest(query)
            return engine.read(
                lambda connection: answer_query(
                    connection, index, row[query], request, started=time.perf_counter()
                )
            )

        def ask(query: str) -> Any:
            return engine.search(SearchRequest(query))

        asking = ask_database if database_only else ask
        for query in queries:  # warm: the whole index comes into memory
            ask_database(query)
        for query in queries[:20]:
            asking(query)
        found: dict[str, Any] = {
            "parts, 1 client": parts(engine, queries, vectors if database_only else None)
        }
        for count in (1, 4, 16):
            found[f"{count} clients" if count > 1 else "1 client"] = clients(asking, queries, count)
        for name, filters in FILTERS.items():
            seconds, least = [], 10
            for query in queries[:50]:
                request = SearchRequest(query, **filters)
                answer, taken = timed(
                    lambda request=request, query=query: engine.read(
                        lambda connection: answer_query(
                            connection, index, row[query], request, started=time.perf_counter()
                        )
                    )
                )
                seconds.append(taken)
                least = min(least, len(answer.results))
            found[f"filter {name}, no encoding"] = {**percentiles(seconds), "least_results": least}
        return found


def table(found: dict[str, Any], indent: str = "") -> None:
    for name, value in found.items():
        if isinstance(value, dict) and any(isinstance(each, dict) for each in value.values()):
            print(f"{indent}{name}")
            table(value, indent + "  ")
        elif isinstance(value, dict):
            print(f"{indent}{name:34} " + "  ".join(f"{key} {each:>8}" for key, each in value.items()))
        else:
            print(f"{indent}{name:34} {value}")


def prepared(
    db: Database, encoder: Encoder, settings: Settings, asked: argparse.Namespace
) -> tuple[list[str], NDArray[np.float32], dict[str, Any]]:
    """The queries, their vectors, and what is indexed; nothing is made again that a kept database holds."""
    count = asked.rows or asked.snippets
    # A million rows are of as many texts as vectors: what is searched are the vectors.
    code = real_code(min(count, asked.embedded) if asked.rows else count)
    embedded = code[: min(asked.embedded, count)]
    (vectors, queries, query_vectors), seconds = timed(
        lambda: real_embeddings(encoder, embedded, asked.queries, asked.cache)
    )
    print(f"{len(vectors):,} functions and {len(queries)} queries embedded in {seconds:.0f} s", flush=True)
    with db.connect() as connection:
        stored = connection.execute("SELECT EXISTS (SELECT FROM snippets)").fetchone()
    if stored != (True,):
        _, seconds = timed(
            lambda: fill(db, encoder, code, vectors, count, words=not asked.rows, isotropic=asked.isotropic)
        )
        print(f"{count:,} snippets stored in {seconds:.0f} s", flush=True)
    report, seconds = timed(
        lambda: build_index(db, encoder.version, settings, Silent(), lambda: query_vectors)
    )
    print(
        f"index {report.action} in {report.build_seconds:.0f} s, {seconds:.0f} s with its recall", flush=True
    )
    flip(db, report.index_version_id, actor="index", reasons=["benchmark"], settings=settings)
    return (
        queries,
        query_vectors,
        {
            "snippets": report.rows,
            "different real functions": len(code),
            "embedded for real; the others repeat them with noise": len(vectors),
            "noise": "isotropic" if asked.isotropic else "as real near-duplicates differ",
        },
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Latency and throughput of searches.")
    parser.add_argument("--snippets", type=int, default=10_000, help="How many snippets are indexed.")
    parser.add_argument("--embedded", type=int, default=2000, help="How many of them are really embedded.")
    parser.add_argument("--rows", type=int, help="So many rows, and the database part alone.")
    parser.add_argument("--queries", type=int, default=200, help="How many queries are asked.")
    parser.add_argument("--weight", type=float, default=0.15, help="Of words, in the hybrid ranking.")
    parser.add_argument("--crowding", type=float, default=0.2, help="Of crowds, likewise.")
    parser.add_argument("--isotropic", action="store_true", help="Repeat vectors with isotropic noise.")
    parser.add_argument("--home", type=Path, help="Keep the database here, and take it from here.")
    parser.add_argument("--cache", type=Path, help="A .npz file to keep vectors in between runs.")
    parser.add_argument("--json", type=Path, help="Where to write the figures.")
    asked = parser.parse_args(arguments)
    encoder = load_encoder("minilm")
    with fresh_database(asked.home) as (db, own, _):
        settings = own.model_copy(update={"min_recall": 0.0})
        queries, query_vectors, corpus = prepared(db, encoder, settings, asked)
        index = serving_index(db)
        found: dict[str, Any] = {
            **corpus,
            "queries": len(queries),
            "processors": os.cpu_count(),
            "load average at the end": 0.0,
            "recall@10 against exact search": round(index.recall_at_10 or 0.0, 4),
            "ef_search": index.ef_search,
            "by meaning alone": measure(db, settings, queries, query_vectors, bool(asked.rows)),
        }
        if not asked.rows:
            with db.connect() as connection:
                _, found["count_words_seconds"] = timed(lambda: count_words(connection))
                weights = Weights(asked.weight, asked.crowding)
                store_weights(connection, RankingWeights(encoder.version, weights, {"fingerprint": ""}))
            found[f"words count {asked.weight:g}, crowds {asked.crowding:g}"] = measure(
                db, settings, queries, query_vectors, False
            )
        found["load average at the end"] = round(os.getloadavg()[0], 2)
    table(found)
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
