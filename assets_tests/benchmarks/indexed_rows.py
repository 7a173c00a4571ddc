"""A database of many rows to search and to index again: real code, a few real vectors, the others near them.

See `big_corpus` for what is real and what is repeated.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets_tests.benchmarks.big_corpus import fill, real_embeddings
from assets_tests.benchmarks.installed_code import Code, real_code
from assets_tests.benchmarks.real_vectors import fresh_database
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.loading import load_encoder
from pipeline.index.building import IndexReport, build_index
from pipeline.index.flipping import flip
from pipeline.progress import Silent
from pipeline.search.answer import ranked
from pipeline.search.engine import SearchEngine
from pipeline.search.filters import Filters
from pipeline.search.places import find_places
from pipeline.search.query import answer_query, best_texts
from pipeline.search.request import SearchRequest
from pipeline.store.connections import Connection, Database

CLIENTS = 4


@dataclass(frozen=True)
class Rows:
    """A database with so many rows, and queries with their vectors."""

    db: Database
    settings: Settings
    encoder: Encoder
    queries: Sequence[str]
    vectors: NDArray[np.float32]

    def build(self, **changed: Any) -> IndexReport:
        """Builds the index, with other settings if need be, and lets it serve."""
        settings = self.settings.model_copy(update=changed)
        report = build_index(self.db, self.encoder.version, settings, Silent(), lambda: self.vectors)
        flip(self.db, report.index_version_id, actor="index", reasons=["benchmark"], settings=settings)
        return report

    @contextmanager
    def searching(self) -> Generator[Searching]:
        """Searches of the index that serves; queries are not embedded again."""
        # So small that no query is remembered: each is encoded.
        settings = self.settings.model_copy(update={"query_cache_size": 1})
        with SearchEngine(settings, self.db, connections=CLIENTS) as engine:
            yield Searching(engine, self)

    def with_settings(self, **changed: Any) -> Rows:
        """The same with other settings."""
        return replace(self, settings=self.settings.model_copy(update=changed))


@dataclass(frozen=True)
class Searching:
    """Asks one query after the other."""

    engine: SearchEngine
    rows: Rows

    def ask(self, number: int) -> float:
        """Seconds that the search and the fetching of its results take."""
        place = number % len(self.rows.queries)
        index, request = self.engine.serving().index, SearchRequest(self.rows.queries[place])
        started = time.perf_counter()
        self.engine.read(
            lambda connection: answer_query(
                connection, index, self.rows.vectors[place], request, started=started
            )
        )
        return time.perf_counter() - started

    def parts(self, number: int) -> tuple[float, float, float]:
        """Seconds that encoding the query, searching, and fetching the results take."""
        serving, query = self.engine.serving(), self.rows.queries[number % len(self.rows.queries)]
        started = time.perf_counter()
        vector = serving.encoder.submit(query).result()
        encoded = time.perf_counter()

        def answer(connection: Connection) -> tuple[float, float]:
            filters = Filters()
            near = best_texts(connection, serving.index, vector, query, k=10, filters=filters, ef_search=None)
            found = time.perf_counter()
            ranked(near, find_places(connection, [each.content_hash for each in near], filters), 10)
            return found, time.perf_counter()

        found, fetched = self.engine.read(answer)
        return encoded - started, found - encoded, fetched - found

    def per_second(self, searches: int, *, encoding: bool) -> float:
        """Searches a second of `CLIENTS` clients that each ask one after the other."""

        def one(number: int) -> None:
            if encoding:
                self.engine.search(SearchRequest(self.rows.queries[number % len(self.rows.queries)]))
            else:
                self.ask(number)

        started = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(one, range(searches)))
        return searches / (time.perf_counter() - started)


@dataclass(frozen=True)
class EmbeddedCode:
    """Real code with its vectors, and queries with theirs: what databases of any size are filled with."""

    encoder: Encoder
    code: list[Code]
    vectors: NDArray[np.float32]
    queries: Sequence[str]
    asked: NDArray[np.float32]

    @classmethod
    def made(cls, embedded: int, queries: int = 100, cache: Path | None = None) -> EmbeddedCode:
        """So many functions, embedded now or taken from the cache."""
        encoder, code = load_encoder("minilm"), real_code(embedded)
        return cls(encoder, code, *real_embeddings(encoder, code, queries, cache))

    @contextmanager
    def rows(self, count: int) -> Generator[Rows]:
        """A database with so many rows; those beyond the real ones are near-duplicates. Not indexed yet."""
        with fresh_database() as (db, own, _):
            fill(db, self.encoder, self.code, self.vectors, count, words=False)
            settings = own.model_copy(update={"min_recall": 0.0})
            yield Rows(db, settings, self.encoder, self.queries, self.asked)


@contextmanager
def many_rows(count: int, embedded: int, queries: int = 100) -> Generator[Rows]:
    """So many rows, of which so many vectors are real; not indexed yet."""
    with EmbeddedCode.made(embedded, queries).rows(count) as rows:
        yield rows
