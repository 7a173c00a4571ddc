"""The HNSW build: wide vectors, little shared memory, and saying what Postgres says."""

from __future__ import annotations

import os

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import Function, add_functions, store_vectors, vanish
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.presets import PRESETS
from pipeline.errors import HoneloopError
from pipeline.index import hnsw
from pipeline.index.building import build_index
from pipeline.index.embeddings import embedding_table, ensure_embedding_table
from pipeline.index.hnsw import build_hnsw, build_workers, ef_construction
from pipeline.index.serving import index_counts
from pipeline.index.tables import VectorTable, add_key, copy_vectors, create_table
from pipeline.index.verifying import measure_recall
from pipeline.progress import Silent
from pipeline.store.connections import Database

Vectors = NDArray[np.float32]
Functions = tuple[Function, ...]


class Listening(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def register_dims(db: Database, version: str, dims: int) -> None:
    with db.connect() as connection:
        connection.execute(
            "INSERT INTO model_versions (version, name, spec, dims, location, state)"
            " VALUES (%s, 'wide', '{}', %s, 'wide', 'base')",
            [version, dims],
        )


def test_the_widest_preset_is_stored_indexed_and_found(
    db: Database, settings: Settings, functions: Functions, vectors: Vectors
) -> None:
    """Two real vectors of the same text side by side, repeated to the width, are still unit vectors."""
    dims = PRESETS["qodo+jina"].dims
    wide = np.concatenate([vectors] * (dims // vectors.shape[1] + 1), axis=1)[:, :dims]
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    version = "c0de" * 16
    register_dims(db, version, dims)
    add_functions(db, functions)
    table = VectorTable("vectors_wide", version, dims)
    with db.connect() as connection:
        create_table(connection, table)
        add_key(connection, table)
        connection.execute(
            "INSERT INTO embedding_tables (model_version, table_name, dims) VALUES (%s, %s, %s)",
            [version, table.name, dims],
        )
        copy_vectors(connection, table, version, [f.content_hash for f in functions], wide)
    report = build_index(db, version, settings, Silent())
    assert (report.rows, report.action) == (len(functions), "built")
    assert report.recall_at_10 >= 0.95


def test_more_dimensions_than_hnsw_takes_are_refused_before_anything_is_embedded(
    db: Database, minilm: Encoder
) -> None:
    members = tuple(
        minilm.spec.members[0].model_copy(update={"trainable": False}) for _ in range(4000 // minilm.dims + 1)
    )
    spec = minilm.spec.model_copy(update={"members": members})
    wider = Encoder(spec, minilm._members * len(members), minilm.files)
    register_dims(db, wider.version, wider.dims)
    with db.connect() as connection, pytest.raises(HoneloopError, match="HNSW takes at most 4000"):
        ensure_embedding_table(connection, wider)


def test_without_enough_shared_memory_it_builds_alone(
    db: Database,
    settings: Settings,
    minilm: Encoder,
    vectors: Vectors,
    functions: Functions,
) -> None:
    """A real refusal: workers share the graph in /dev/shm, and this asks for more than that has."""
    shared = os.statvfs("/dev/shm")
    kilobytes = shared.f_frsize * shared.f_blocks // 1024 * 3 // 2
    store_vectors(db, minilm, functions, vectors)
    with db.connect() as connection:
        table = embedding_table(connection, minilm.version)
        assert table is not None
        # Small tables are built alone; this says that this one is not small.
        connection.execute(f"ALTER TABLE {table.name} SET (parallel_workers = 2)".encode())
    listening = Listening()
    plenty = settings.model_copy(update={"maintenance_work_mem": f"{kilobytes}kB", "index_build_workers": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hnsw, "_kilobytes_needed", lambda *_: kilobytes)
        build_hnsw(db, table, len(functions), plenty, listening)
    assert any("without parallel workers, since could not resize shared memory" in n for n in listening.notes)
    with db.connect() as connection:
        assert measure_recall(connection, table, ef_search=100, sample=20).recall_at_10 >= 0.95


@pytest.mark.parametrize(("processors", "workers"), [(1, 0), (2, 0), (3, 1), (4, 2), (64, 2)])
def test_a_build_leaves_a_processor_to_searches(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, processors: int, workers: int
) -> None:
    monkeypatch.setattr(hnsw, "usable_processors", lambda: processors)
    assert build_workers(settings) == workers
    assert build_workers(settings.model_copy(update={"index_build_workers": 7})) == 7


def test_what_postgres_says_is_passed_on(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    store_vectors(db, minilm, functions, vectors)
    # Enough copies of real vectors that their graph outgrows the least memory Postgres takes.
    with db.connect() as connection:
        source = embedding_table(connection, minilm.version)
        assert source is not None
        for copy in range(5):
            connection.execute("SELECT set_config('honeloop.model_version', %s, true)", [minilm.version])
            connection.execute(
                (
                    f"INSERT INTO {source.name} SELECT sha256(content_hash || %s), embedding"
                    f" FROM {source.name} LIMIT 1000"
                ).encode(),
                [bytes([copy])],
            )
    listening = Listening()
    build_hnsw(db, source, 2000, settings.model_copy(update={"maintenance_work_mem": "1MB"}), listening)
    assert any("no longer fits into maintenance_work_mem" in note for note in listening.notes)


@pytest.mark.parametrize(
    ("rows", "least", "expected"),
    [
        (0, 100, 100),
        (10_000, 100, 100),
        (100_000, 100, 100),
        (100_001, 100, 200),
        (1_000_000, 100, 200),
        (10_000_000, 100, 300),
        (1_000_000, 150, 300),
        (10**12, 300, 1000),  # pgvector takes no more
        (10, 8, 32),  # and no less than twice m
    ],
)
def test_neighbours_are_chosen_from_more_candidates_the_more_rows_there_are(
    rows: int, least: int, expected: int
) -> None:
    settings = Settings(hnsw_m=16, hnsw_ef_construction=least)
    assert ef_construction(rows, settings) == expected


def test_an_index_that_outgrew_its_graph_is_built_anew_once_and_never_for_having_shrunk(  # noqa: PLR0917 fixtures
    db: Database,
    settings: Settings,
    minilm: Encoder,
    functions: Functions,
    vectors: Vectors,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The threshold is put between two real numbers of texts; one more text would be added in place."""
    monkeypatch.setattr(hnsw, "ROWS_AT_THE_LEAST", 100)
    add_functions(db, functions[:100])
    store_vectors(db, minilm, functions[:101], vectors[:101])
    small = build_index(db, minilm.version, settings, Silent())
    add_functions(db, functions[100:101])
    large = build_index(db, minilm.version, settings, Silent())
    assert (small.action, large.action) == ("built", "built")
    again = build_index(db, minilm.version, settings, Silent())
    assert (again.action, again.index_version_id) == ("reused", large.index_version_id)
    vanish(db, functions[100:101])
    shrunk = build_index(db, minilm.version, settings, Silent())
    assert (shrunk.action, shrunk.index_version_id) == ("extended", large.index_version_id)
    built = {each.index_version_id: each.parameters for each in index_counts(db)}
    assert built[large.index_version_id]["ef_construction"] == 200
    with db.connect() as connection:
        row = connection.execute(
            "SELECT indexdef FROM pg_indexes WHERE indexname = %s", [f"index_{large.index_version_id}_hnsw"]
        ).fetchone()
    assert row is not None
    assert "ef_construction='200'" in row[0]
