"""The engine of a long-lived process: many callers, every flip followed, and a database that goes away."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import Function, add_functions, serve, store_vectors
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.search.engine import SearchEngine
from pipeline.search.query import search
from pipeline.search.recording import DatabaseRecorder
from pipeline.search.request import SearchRequest
from pipeline.store.connections import Database

Vectors = NDArray[np.float32]
Functions = tuple[Function, ...]


@pytest.fixture
def engine(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> Iterator[SearchEngine]:
    """Over an index of click's functions that serves."""
    add_functions(db, functions)
    store_vectors(db, minilm, functions, vectors)
    serve(db, minilm, settings)
    with SearchEngine(settings, db, DatabaseRecorder(db)) as engine:
        yield engine


def test_it_answers_as_a_single_search_does(engine: SearchEngine, db: Database, minilm: Encoder) -> None:
    answer = engine.search(SearchRequest("open a file for reading", 5))
    alone = search(db, minilm, "open a file for reading", k=5, record=False)
    assert [each.snippet_id for each in answer.results] == [each.snippet_id for each in alone.results]
    assert answer.model_version == minilm.version
    with db.connect() as connection:
        shown = connection.execute(
            "SELECT snippet_id FROM impressions WHERE search_id = %s ORDER BY rank", [answer.search_id]
        ).fetchall()
    assert shown == [(each.snippet_id,) for each in answer.results]
