"""A database of many rows to search and to index again: real code, a few real vectors, the others near them.

See `big_corpus` for what is real and what is repeated.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets_tests.benchmarks.big_corpus import fill, real_embeddings
from assets_tests.benchmarks.installed_code import real_code
from assets_tests.benchmarks.real_vectors import fresh_database
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.loading import load_encoder
from pipeline.index.building import IndexReport, build_index
from pipeline.index.flipping import flip
from pipeline.progress import Silent
from pipeline.search.engine import SearchEngine
from pipeline.search.query import answer_query
from pipeline.search.request import SearchRequest
from pipeline.store.connections import Database


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
        report = build_index(self.db, self.encoder.version, settings, Silent(), self.vectors)
        flip(self.db, report.index_version_id, actor="index", reasons=["benchmark"], settings=settings)
        return report

    @contextmanager
    def searching(self) -> Generator[Searching]:
        """Searches of the index that serves; queries are not embedded again."""
        with SearchEngine(self.settings, self.db, connections=4) as engine:
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


@contextmanager
def many_rows(count: int, embedded: int, queries: int = 100) -> Generator[Rows]:
    """So many rows, of which so many vectors are real; not indexed yet."""
    encoder = load_encoder("minilm")
    code = real_code(embedded)
    vectors, texts, asked = real_embeddings(encoder, code, queries, None)
    with fresh_database() as (db, settings, _):
        fill(db, encoder, code, vectors, count, words=False)
        yield Rows(db, settings.model_copy(update={"min_recall": 0.0}), encoder, texts, asked)
