"""Vectors: each text once per model version, resumable, and never another model's in the same table."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import (
    Function,
    add_functions,
    another_model,
    register,
    store_vectors,
    twice_the_model,
    vanish,
)
from pipeline.config import Settings
from pipeline.corpus.repositories import get_repository
from pipeline.encoders.encoder import Encoder
from pipeline.errors import HoneloopError
from pipeline.index import embeddings
from pipeline.index.embeddings import count_missing, embed_missing, load_vectors
from pipeline.index.tables import copy_vectors
from pipeline.progress import Silent
from pipeline.store.connections import Database

ROOT = Path(__file__).resolve().parents[2]


def stored(db: Database, encoder: Encoder) -> int:
    with db.connect() as connection:
        row = connection.execute(f"SELECT count(*) FROM vectors_{encoder.version[:16]}".encode()).fetchone()
    assert row is not None
    return row[0]


def test_equal_code_is_embedded_once_and_never_again(
    db: Database, settings: Settings, minilm: Encoder, functions: tuple[Function, ...]
) -> None:
    register(db, minilm)
    add_functions(db, functions[:12], repository="one")
    add_functions(db, functions[6:18], repository="two")
    assert count_missing(db, minilm.version) == 18
    first = embed_missing(db, minilm, settings, Silent(), get_repository(db, "one"))
    assert (first.embedded, first.reused) == (12, 0)
    second = embed_missing(db, minilm, settings, Silent(), get_repository(db, "two"))
    assert (second.embedded, second.reused) == (6, 6)
    again = embed_missing(db, minilm, settings, Silent())
    assert (again.embedded, again.reused) == (0, 18)
    assert count_missing(db, minilm.version) == 0


def test_vectors_are_the_encoders_own(
    db: Database, settings: Settings, minilm: Encoder, functions: tuple[Function, ...]
) -> None:
    register(db, minilm)
    some = functions[:8]
    add_functions(db, some)
    embed_missing(db, minilm, settings, Silent())
    hashes, vectors = load_vectors(db, minilm.version)
    assert hashes == sorted(f.content_hash for f in some)
    code = {f.content_hash: f.code for f in some}
    expected = minilm.embed_documents([code[h] for h in hashes])
    assert vectors.shape == (8, minilm.dims)
    assert np.abs(vectors - expected).max() < 1e-3  # half floats have eleven bits
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6
    order = [some[3].content_hash, some[0].content_hash, some[3].content_hash]
    asked, chosen = load_vectors(db, minilm.version, order)
    assert asked == order
    assert np.array_equal(chosen[1], vectors[hashes.index(some[0].content_hash)])
    assert np.array_equal(chosen[0], chosen[2])


def test_code_that_comes_back_has_its_vector_still(
    db: Database, settings: Settings, minilm: Encoder, functions: tuple[Function, ...]
) -> None:
    register(db, minilm)
    add_functions(db, functions[:6])
    embed_missing(db, minilm, settings, Silent())
    vanish(db, functions[:2])
    hashes, _ = load_vectors(db, minilm.version)
    assert len(hashes) == 4
    vanish(db, functions[:2], back=True)
    assert embed_missing(db, minilm, settings, Silent()).embedded == 0


def test_contents_asked_for_are_embedded_live_or_not(
    db: Database, settings: Settings, minilm: Encoder, functions: tuple[Function, ...]
) -> None:
    register(db, minilm)
    add_functions(db, functions[:6])
    vanish(db, functions[:6])
    hashes = [f.content_hash for f in functions[:3]]
    assert embed_missing(db, minilm, settings, Silent()).embedded == 0
    assert embed_missing(db, minilm, settings, Silent(), hashes=hashes).embedded == 3
    with pytest.raises(HoneloopError, match="1 of 4 contents to embed are not stored"):
        embed_missing(db, minilm, settings, Silent(), hashes=[*hashes, functions[9].content_hash])


def test_a_text_without_a_vector_is_named_not_left_out(
    db: Database, minilm: Encoder, functions: tuple[Function, ...], vectors: NDArray[np.float32]
) -> None:
    add_functions(db, functions[:10])
    register(db, minilm)
    with pytest.raises(HoneloopError, match="10 of 10 texts have no vector"):
        load_vectors(db, minilm.version)
    store_vectors(db, minilm, functions[:7], vectors[:7])
    with pytest.raises(HoneloopError, match="3 of 10 texts have no vector"):
        load_vectors(db, minilm.version)


def test_memory_holds_one_chunk(
    db: Database,
    settings: Settings,
    minilm: Encoder,
    functions: tuple[Function, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(db, minilm)
    add_functions(db, functions[:23])
    sizes: list[int] = []
    embed = minilm.embed_documents

    def watched(texts, advance=None):
        sizes.append(len(texts))
        return embed(texts, advance)

    monkeypatch.setattr(minilm, "embed_documents", watched)
    embed_missing(db, minilm, settings.model_copy(update={"embed_chunk_size": 5}), Silent())
    assert sizes == [5, 5, 5, 5, 3]
    assert stored(db, minilm) == 23


KILLED = """
import os, signal, sys
from contextlib import contextmanager
from pipeline.config import Settings
from pipeline.encoders.loading import load_encoder
from pipeline.index.embeddings import embed_missing
from pipeline.progress import Silent
from pipeline.store.connections import Database

class DiesMidway(Silent):
    @contextmanager
    def stage(self, description, total=None):
        done = 0
        def advance(n):
            nonlocal done
            done += n
            if done > 20:
                os.kill(os.getpid(), signal.SIGKILL)
        yield advance

settings = Settings(database_url=sys.argv[1], embed_chunk_size=8, embed_batch_size=4)
encoder = load_encoder("minilm", device="cpu", batch_size=4)
embed_missing(Database(sys.argv[1]), encoder, settings, DiesMidway())
"""


def test_a_killed_run_goes_on_where_it_was(
    db: Database, settings: Settings, minilm: Encoder, functions: tuple[Function, ...]
) -> None:
    register(db, minilm)
    add_functions(db, functions[:30])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, db.url], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert stored(db, minilm) == 16  # two chunks of eight were committed, the third was being embedded
    report = embed_missing(db, minilm, settings, Silent())
    assert (report.embedded, report.reused) == (14, 16)
    assert len(load_vectors(db, minilm.version)[0]) == 30


def test_runs_side_by_side_do_no_harm(
    db: Database, settings: Settings, minilm: Encoder, functions: tuple[Function, ...]
) -> None:
    register(db, minilm)
    add_functions(db, functions[:16])
    small = settings.model_copy(update={"embed_chunk_size": 3})
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda _: embed_missing(db, minilm, small, Silent()), range(2)))
    assert sum(report.embedded for report in reports) == 16
    assert stored(db, minilm) == 16


def test_an_unregistered_encoder_is_refused(db: Database, settings: Settings, minilm: Encoder) -> None:
    with pytest.raises(HoneloopError, match="is not registered"):
        embed_missing(db, minilm, settings, Silent())


def test_an_encoder_that_is_not_what_is_registered_is_refused(
    db: Database, settings: Settings, minilm: Encoder
) -> None:
    register(db, minilm)
    with db.connect() as connection:
        connection.execute("UPDATE model_versions SET dims = dims + 1")
    with pytest.raises(HoneloopError, match="is registered with 385"):
        embed_missing(db, minilm, settings, Silent())


def test_another_models_vectors_are_refused_even_with_equal_dimensions(
    db: Database, minilm: Encoder, functions: tuple[Function, ...], vectors: NDArray[np.float32]
) -> None:
    other = another_model(minilm)
    assert other.dims == minilm.dims
    assert other.version != minilm.version
    add_functions(db, functions[:4])
    store_vectors(db, minilm, functions[:4], vectors[:4])
    hashes = [f.content_hash for f in functions[4:8]]
    with db.connect() as connection:
        table = embeddings.embedding_table(connection, minilm.version)
        assert table is not None
        with pytest.raises(HoneloopError, match=f"of model version {other.version[:12]} cannot be loaded"):
            copy_vectors(connection, table, other.version, hashes, vectors[4:8])
    assert stored(db, minilm) == 4


def test_the_database_itself_refuses_vectors_whose_model_is_not_stated_or_another(
    db: Database, minilm: Encoder, functions: tuple[Function, ...], vectors: NDArray[np.float32]
) -> None:
    store_vectors(db, minilm, functions[:4], vectors[:4])
    table = f"vectors_{minilm.version[:16]}"
    row = (functions[5].content_hash, str(vectors[5].tolist()))
    with (
        db.connect() as connection,
        pytest.raises(psycopg.Error, match="a model version not stated") as refused,
    ):
        connection.execute(f"INSERT INTO {table} VALUES (%s, %s)".encode(), row)
    assert refused.value.sqlstate == "HL001"
    with db.connect() as connection, pytest.raises(psycopg.Error, match="these are of abc"):
        connection.execute("SET LOCAL honeloop.model_version = 'abc'")
        connection.execute(f"UPDATE {table} SET embedding = %s".encode(), row[1:])
    with (
        db.connect() as connection,
        pytest.raises(psycopg.Error, match=f"holds vectors of model version {minilm.version} only"),
        connection.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy,
    ):
        copy.write_row((b"\\x" + row[0].hex().encode(), row[1]))
    assert stored(db, minilm) == 4


def test_vectors_of_other_dimensions_are_refused(
    db: Database, minilm: Encoder, functions: tuple[Function, ...], vectors: NDArray[np.float32]
) -> None:
    double = twice_the_model(minilm)
    store_vectors(db, minilm, functions[:4], vectors[:4])
    register(db, double)
    wide = double.embed_documents([functions[0].code])
    with db.connect() as connection:
        own = embeddings.embedding_table(connection, minilm.version)
        assert own is not None
        with pytest.raises(HoneloopError, match="makes 384 dimensions"):
            copy_vectors(connection, own, minilm.version, [functions[9].content_hash], wide)
        with pytest.raises(psycopg.errors.DataException, match="expected 384 dimensions, not 768"):
            connection.execute("SELECT set_config('honeloop.model_version', %s, true)", [minilm.version])
            connection.execute(
                f"INSERT INTO {own.name} VALUES (%s, %s)".encode(),
                [functions[9].content_hash, str(wide[0].tolist())],
            )
    store_vectors(db, double, functions[:1], wide)
    assert stored(db, double) == 1  # in a table of its own, of its own width
    assert load_vectors(db, double.version, [functions[0].content_hash])[1].shape == (1, 768)


@pytest.mark.parametrize("flaw", [0.0, 1.1, float("nan"), float("inf")])
def test_a_vector_without_unit_length_is_refused(
    db: Database, minilm: Encoder, functions: tuple[Function, ...], vectors: NDArray[np.float32], flaw: float
) -> None:
    broken = vectors[:4].copy()
    with np.errstate(invalid="ignore"):
        broken[2] *= flaw
    with pytest.raises(HoneloopError, match="1 of 4 vectors that are not of unit length"):
        store_vectors(db, minilm, functions[:4], broken)
    assert stored(db, minilm) == 0
