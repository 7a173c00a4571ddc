"""A change of model to 2,560 dimensions and back, on a real database, while searches go on."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import Function, add_functions
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.onnx_files import OnnxExport
from pipeline.index.building import build_index
from pipeline.index.embeddings import embed_missing
from pipeline.index.flipping import flip, rollback
from pipeline.progress import Silent
from pipeline.promotion.registry import ensure_registered, set_state
from pipeline.search.answer import SearchAnswer
from pipeline.search.engine import SearchEngine
from pipeline.search.request import SearchRequest
from pipeline.store.connections import Database

QUERIES = ["open a file for reading", "print a coloured message", "ask the user for confirmation"]
Functions = tuple[Function, ...]


def become_serving(db: Database, encoder: Encoder, location: str, settings: Settings) -> None:
    """What a promotion does: approve, embed what has no vector yet, build, flip."""
    ensure_registered(db, encoder, location)
    with db.connect() as connection:
        set_state(connection, encoder.version, "approved", "person", ["test"])
    embed_missing(db, encoder, settings, Silent())
    report = build_index(db, encoder.version, settings, Silent())
    flip(db, report.index_version_id, actor="index", reasons=["test"], settings=settings)


def scores(encoder: Encoder, functions: Functions) -> dict[str, dict[str, float]]:
    """The cosine of each query to each function, by numpy."""
    documents = encoder.embed_documents([function.code for function in functions])
    cosines: NDArray[np.float32] = encoder.embed_queries(QUERIES) @ documents.T
    return {
        query: {function.code: float(row[i]) for i, function in enumerate(functions)}
        for query, row in zip(QUERIES, cosines, strict=True)
    }


@pytest.fixture
def serving_by_onnx(settings: Settings, jina_export: OnnxExport) -> Settings:
    """Settings by which the frozen member is computed by ONNX."""
    shutil.copytree(jina_export.directory.parent, settings.onnx_path)
    return settings.model_copy(update={"device": "cpu"})


@pytest.mark.usefixtures("small_hub")
def test_searches_go_on_while_the_model_changes_from_384_to_2560_dims_and_back(
    db: Database, serving_by_onnx: Settings, functions: Functions, minilm: Encoder, qodo_jina: Encoder
) -> None:
    chosen, settings = functions[:40], serving_by_onnx
    # Embedded by torch, searched with the frozen member by ONNX: one model version, so the same tables.
    expected = {encoder.version: scores(encoder, chosen) for encoder in (minilm, qodo_jina)}
    add_functions(db, chosen)
    become_serving(db, minilm, "minilm", settings)
    stop = threading.Event()
    answers: list[SearchAnswer] = []

    with SearchEngine(settings, db) as engine, ThreadPoolExecutor(3) as threads:

        def ask(query: str) -> None:
            while not stop.is_set():
                answers.append(engine.search(SearchRequest(query)))
                time.sleep(0.005)  # three that never rest would leave no processor to the build

        def served_by(encoder: Encoder) -> None:
            deadline = time.monotonic() + 120
            while engine.search(SearchRequest(QUERIES[0])).model_version != encoder.version:
                assert time.monotonic() < deadline, "the flip was not followed"
            seen = len(answers)
            while len(answers) < seen + 6:
                time.sleep(0.01)

        asking = [threads.submit(ask, query) for query in QUERIES]
        try:
            served_by(minilm)
            become_serving(db, qodo_jina, "qodo+jina", settings)
            served_by(qodo_jina)
            assert engine.serving().encoder.encoder.backends == ("torch", "onnx")
            become_serving(db, minilm, "minilm", settings)
            served_by(minilm)
            rollback(db)
            served_by(qodo_jina)
        finally:
            stop.set()
        for each in asking:
            each.result()  # raises what a search raised

    assert {answer.model_version for answer in answers} == set(expected)
    with db.connect() as connection:
        versions = connection.execute(
            "SELECT i.id, i.model_version, i.table_name, format_type(a.atttypid, a.atttypmod)"
            " FROM index_versions i JOIN pg_attribute a ON a.attrelid = to_regclass(i.table_name)"
            " AND a.attname = 'embedding'"
        ).fetchall()
    model_of = {index_id: version for index_id, version, _, _ in versions}
    for answer in answers:
        assert model_of[answer.index_version_id] == answer.model_version
        assert len(answer.results) == 10
        # Cosines of that model's own vectors, stored as half floats: no mixture would have them.
        for result in answer.results:
            own = expected[answer.model_version][answer.query][result.code]
            assert result.score == pytest.approx(own, abs=2e-3)
    assert {(version, kind) for _, version, _, kind in versions} == {
        (minilm.version, "halfvec(384)"),
        (qodo_jina.version, "halfvec(2560)"),
    }
