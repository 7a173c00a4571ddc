"""Index versions: built from what is live, proven, reused when nothing changed, clean after a death."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import (
    Function,
    add_functions,
    another_model,
    build,
    serve,
    store_vectors,
    vanish,
)
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.errors import HoneloopError
from pipeline.index.building import build_index
from pipeline.index.flipping import flip
from pipeline.index.recall_queries import documentation_queries
from pipeline.index.serving import index_counts, serving_index
from pipeline.index.tables import VectorTable
from pipeline.index.verifying import broader, coverage, measure_recall
from pipeline.progress import Silent
from pipeline.store import migrations
from pipeline.store.connections import Database

ROOT = Path(__file__).resolve().parents[2]
Vectors = NDArray[np.float32]
Functions = tuple[Function, ...]


def indexed(db: Database, index_id: int) -> set[bytes]:
    with db.connect() as connection:
        return {h for (h,) in connection.execute(f"SELECT content_hash FROM index_{index_id}".encode())}


def states(db: Database) -> dict[int, str]:
    return {count.index_version_id: count.state for count in index_counts(db)}


def table_exists(db: Database, name: str) -> bool:
    with db.connect() as connection:
        return connection.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone() == (True,)


def test_an_index_has_every_live_text_once_and_hnsw_with_cosine(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions, repository="one")
    add_functions(db, functions[:50], repository="two")
    store_vectors(db, minilm, functions, vectors)
    vanish(db, functions[:10])
    report = build(db, minilm, settings)
    assert report.action == "built"
    assert indexed(db, report.index_version_id) == {f.content_hash for f in functions[10:]}
    assert report.rows == len(functions) - 10
    with db.connect() as connection:
        row = connection.execute(
            "SELECT indexdef FROM pg_indexes WHERE indexname = %s", [f"index_{report.index_version_id}_hnsw"]
        ).fetchone()
        assert row is not None
        table = VectorTable(f"index_{report.index_version_id}", minilm.version, minilm.dims)
        assert coverage(connection, table).equal
    assert "USING hnsw (embedding halfvec_cosine_ops) WITH (m='16', ef_construction='100')" in row[0]
    (count,) = index_counts(db)
    assert (count.state, count.rows, count.dims) == ("ready", report.rows, minilm.dims)
    assert count.recall_at_10 == report.recall_at_10 >= 0.95
    assert count.size_bytes > report.rows * 2 * minilm.dims


def brute_force(vectors: Vectors, queries: Vectors) -> NDArray[np.float64]:
    """Cosine distances of the half floats that are stored, by numpy alone: shape (queries, vectors)."""
    stored = vectors.astype(np.float16).astype(np.float64)
    asked = queries.astype(np.float16).astype(np.float64)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    return 1 - asked @ stored.T


def test_recall_is_what_numpy_says(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    # A graph so thin, searched so narrowly, that it must miss some.
    thin = settings.model_copy(
        update={
            "hnsw_m": 2,
            "hnsw_ef_construction": 4,
            "hnsw_ef_search": 10,
            "hnsw_max_ef_search": 10,
            "min_recall": 0.0,
        }
    )
    add_functions(db, functions)
    store_vectors(db, minilm, functions, vectors)
    report = build(db, minilm, thin)
    order = sorted(range(len(functions)), key=lambda i: functions[i].content_hash)[: thin.recall_sample]
    distances = brute_force(vectors, vectors[order])
    distances[np.arange(len(order)), order] = np.inf  # itself is no neighbour
    shares: list[float] = []
    with db.connect() as connection:
        connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        connection.execute("SET LOCAL hnsw.ef_search = 10; SET LOCAL hnsw.iterative_scan = relaxed_order")
        for row, own in zip(distances, order, strict=True):
            tenth = np.sort(row)[9]
            found = connection.execute(
                (
                    f"SELECT content_hash FROM index_{report.index_version_id} WHERE content_hash <> %s"
                    " ORDER BY embedding <=> %s::halfvec LIMIT 10"
                ).encode(),
                [functions[own].content_hash, str(vectors[own].tolist())],
                prepare=False,
            ).fetchall()
            place = {f.content_hash: i for i, f in enumerate(functions)}
            shares.append(sum(row[place[h]] <= tenth + 1e-5 for (h,) in found) / 10)
    assert report.recall_sample == len(order) == 200
    assert report.recall_at_10 == pytest.approx(float(np.mean(shares)), abs=1e-3)
    assert report.recall_at_10 < 0.99


def test_recall_is_measured_with_the_queries_given(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions)
    store_vectors(db, minilm, functions, vectors)
    queries = documentation_queries(db, minilm, 20)
    assert queries.shape == (20, minilm.dims)
    report = build_index(db, minilm.version, settings, Silent(), lambda: queries)
    assert report.recall_sample == 20
    assert report.recall_at_10 >= 0.95
    with db.connect() as connection:
        table = VectorTable(f"index_{report.index_version_id}", minilm.version, minilm.dims)
        with pytest.raises(HoneloopError, match="cannot be measured with vectors of shape"):
            measure_recall(connection, table, ef_search=40, sample=5, query_vectors=queries[:, :100])


def test_queries_are_asked_for_when_recall_is_measured_and_only_then(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:100])
    store_vectors(db, minilm, functions, vectors)
    asked: list[int] = []

    def built(count: int = 20, **changed: float) -> tuple[str, int, int]:
        def queries() -> Vectors:
            asked.append(count)
            return vectors[200 : 200 + count]

        asked.clear()
        report = build_index(db, minilm.version, settings.model_copy(update=changed), Silent(), queries)
        flip(db, report.index_version_id, actor="index", reasons=["test"], settings=settings)
        return report.action, report.recall_sample, len(asked)

    assert built() == ("built", 20, 1)
    assert built() == ("reused", 20, 0)
    for changed in ({"hnsw_ef_search": 150}, {"target_recall": 0.98}, {"hnsw_max_ef_search": 500}):
        assert built(20, **changed) == ("reused", 20, 1)
    assert built(hnsw_m=20) == ("built", 20, 1)
    add_functions(db, functions[100:105])
    assert built(hnsw_m=20) == ("extended", 20, 1)
    # What was found too low is built anew, and its queries are not embedded twice.
    with db.connect() as connection:
        connection.execute("UPDATE index_versions SET recall_at_10 = 0.5")
    with pytest.raises(HoneloopError, match="exact nearest 10"):
        built(hnsw_m=20, min_recall=1.01)
    assert asked == [20]
    # Where there are none, rows stand in for them.
    assert built(0, hnsw_m=24) == ("built", 105, 1)


def test_recall_without_the_hnsw_index_is_not_believed(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:60])
    store_vectors(db, minilm, functions[:60], vectors[:60])
    report = build(db, minilm, settings)
    with db.connect() as connection:
        table = VectorTable(f"index_{report.index_version_id}", minilm.version, minilm.dims)
        assert measure_recall(connection, table, ef_search=40, sample=5).recall_at_10 == 1.0
        connection.execute(f"DROP INDEX index_{report.index_version_id}_hnsw".encode())
        with pytest.raises(HoneloopError, match="does not use its HNSW index"):
            measure_recall(connection, table, ef_search=40, sample=5)


def test_an_index_below_the_least_recall_does_not_become_ready(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions)
    store_vectors(db, minilm, functions, vectors)
    served = serve(db, minilm, settings)
    thin = settings.model_copy(
        update={
            "hnsw_m": 2,
            "hnsw_ef_construction": 4,
            "hnsw_ef_search": 10,
            "hnsw_max_ef_search": 10,
            "min_recall": 1.0,
        }
    )
    with pytest.raises(HoneloopError, match=r"of the exact nearest 10, less than the 1\.0 asked for"):
        build(db, minilm, thin)
    assert states(db) == {served.index_version_id: "serving", served.index_version_id + 1: "failed"}
    assert not table_exists(db, f"index_{served.index_version_id + 1}")
    assert serving_index(db).rows == len(functions)
    failed = index_counts(db)[0]
    assert failed.recall_at_10 is not None
    assert failed.recall_at_10 < 1.0


def test_the_search_is_broadened_until_it_finds_enough(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions)
    store_vectors(db, minilm, functions, vectors)
    # Levels of an HNSW graph are random: 200 such graphs found 0.958 at most with the narrowest search.
    thin = settings.model_copy(
        update={"hnsw_m": 4, "hnsw_ef_construction": 8, "hnsw_ef_search": 10, "min_recall": 0.0}
    )
    narrow = build(db, minilm, thin.model_copy(update={"hnsw_max_ef_search": 10}))
    assert narrow.recall_at_10 < 0.97
    report = serve(db, minilm, thin.model_copy(update={"target_recall": 0.97}))
    assert report.index_version_id == narrow.index_version_id  # the graph is the same: only measured again
    assert report.recall_at_10 >= 0.97
    served = serving_index(db)
    assert 10 < served.ef_search < thin.hnsw_max_ef_search
    # Searched with the breadth tried before, it would have found less: no broader than it must be.
    before, wider = 10, broader(10)
    while wider < served.ef_search:
        before, wider = wider, broader(wider)
    assert wider == served.ef_search
    with db.connect() as connection:
        recall = measure_recall(connection, served.table, ef_search=before, sample=thin.recall_sample)
    assert recall.recall_at_10 < 0.97


def test_a_breadth_that_was_measured_by_earlier_rules_is_measured_once_more(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    """With indexed rows, and for good: nothing of the index changes, and no setting."""
    add_functions(db, functions)
    store_vectors(db, minilm, functions, vectors)
    first = serve(db, minilm, settings)
    with db.connect() as connection:
        connection.execute(
            "UPDATE index_versions SET recall_at_10 = 1, recall_sample = 7,"
            " parameters = (parameters - 'recall_rules') || '{\"ef_search\": 10}'"
        )
    assert serving_index(db).ef_search == 10
    again = build(db, minilm, settings)
    assert (again.action, again.index_version_id) == ("reused", first.index_version_id)
    assert again.recall_sample == first.recall_sample
    assert serving_index(db).ef_search == settings.hnsw_ef_search


def test_unchanged_is_reused_little_is_extended_much_is_built(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    half = len(functions) // 2
    add_functions(db, functions[:half])
    store_vectors(db, minilm, functions, vectors)
    first = serve(db, minilm, settings)
    reused = build(db, minilm, settings)
    assert (reused.action, reused.index_version_id) == ("reused", first.index_version_id)

    add_functions(db, functions[half : half + 10])
    vanish(db, functions[:5])
    extended = build(db, minilm, settings)
    assert (extended.action, extended.added, extended.removed) == ("extended", 10, 5)
    assert extended.index_version_id == first.index_version_id
    assert indexed(db, first.index_version_id) == {f.content_hash for f in functions[5 : half + 10]}
    assert serving_index(db).rows == half + 5
    assert extended.recall_at_10 >= settings.min_recall
    assert build(db, minilm, settings).action == "reused"

    add_functions(db, functions[half + 10 :])
    built = build(db, minilm, settings)
    assert built.action == "built"
    assert built.index_version_id > first.index_version_id
    assert serving_index(db).index_version_id == first.index_version_id
    assert serving_index(db).rows == half + 5
    # Ready but not flipped to: the next build takes it as it is.
    assert build(db, minilm, settings).index_version_id == built.index_version_id


def test_an_extension_whose_recall_is_too_low_changes_nothing_and_builds_anew(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:200])
    store_vectors(db, minilm, functions, vectors)
    thin = settings.model_copy(
        update={"hnsw_m": 2, "hnsw_ef_construction": 4, "hnsw_max_ef_search": 10, "min_recall": 0.0}
    )
    first = serve(db, minilm, thin)
    add_functions(db, functions[200:210])
    strict = thin.model_copy(update={"min_recall": 1.0, "hnsw_ef_search": 10})
    with pytest.raises(HoneloopError, match="exact nearest 10"):
        build(db, minilm, strict)
    assert indexed(db, first.index_version_id) == {f.content_hash for f in functions[:200]}
    serving = serving_index(db)
    assert (serving.rows, serving.ef_search) == (200, thin.hnsw_ef_search)


def test_other_parameters_build_anew_and_a_wider_search_only_measures_again(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:100])
    store_vectors(db, minilm, functions[:100], vectors[:100])
    first = serve(db, minilm, settings)
    wider = build(db, minilm, settings.model_copy(update={"hnsw_ef_search": 200}))
    assert (wider.action, wider.index_version_id) == ("reused", first.index_version_id)
    assert serving_index(db).ef_search == 200
    thicker = build(db, minilm, settings.model_copy(update={"hnsw_m": 24}))
    assert thicker.action == "built"


def test_a_live_text_without_a_vector_stops_the_build(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:40])
    with pytest.raises(HoneloopError, match="has embedded nothing yet"):
        build(db, minilm, settings)
    store_vectors(db, minilm, functions[:37], vectors[:37])
    with pytest.raises(HoneloopError, match="3 of 40 live texts have no vector"):
        build(db, minilm, settings)
    assert list(states(db).values()) == ["failed"]
    store_vectors(db, minilm, functions[:40], vectors[:40])
    first = serve(db, minilm, settings)
    add_functions(db, functions[40:44])
    with pytest.raises(HoneloopError, match="4 of 44 live texts have no vector"):
        build(db, minilm, settings)
    assert serving_index(db).rows == first.rows == 40


def test_nothing_live_is_an_error_not_an_empty_index(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:5])
    store_vectors(db, minilm, functions[:5], vectors[:5])
    vanish(db, functions[:5])
    with pytest.raises(HoneloopError, match="no live snippet"):
        build(db, minilm, settings)


def test_one_text_alone_can_be_indexed(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:1])
    store_vectors(db, minilm, functions[:1], vectors[:1])
    assert serve(db, minilm, settings).rows == 1


def test_a_setting_that_postgres_does_not_take_is_said(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:5])
    store_vectors(db, minilm, functions[:5], vectors[:5])
    with pytest.raises(HoneloopError, match="maintenance_work_mem") as refused:
        build(db, minilm, settings.model_copy(update={"maintenance_work_mem": "plenty"}))
    assert "HONELOOP_MAINTENANCE_WORK_MEM" in refused.value.hint


KILLED = """
import os, signal, sys
from contextlib import contextmanager
from pipeline.config import Settings
from pipeline.index.building import build_index
from pipeline.progress import Silent
from pipeline.store import migrations
from pipeline.store.connections import Database

class DiesBuilding(Silent):
    @contextmanager
    def stage(self, description, total=None):
        if "recall" in description:
            os.kill(os.getpid(), signal.SIGKILL)
        yield lambda _: None

build_index(Database(sys.argv[1]), sys.argv[2], Settings(database_url=sys.argv[1]), DiesBuilding())
"""


def test_what_a_killed_build_left_is_cleaned_up(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:50])
    store_vectors(db, minilm, functions[:50], vectors[:50])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, db.url, minilm.version],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert states(db) == {1: "building"}
    assert table_exists(db, "index_1")
    report = build(db, minilm, settings)
    assert states(db) == {1: "failed", report.index_version_id: "ready"}
    assert not table_exists(db, "index_1")


def test_an_index_another_models_dead_run_never_flipped_to_is_dropped_in_time(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    other = another_model(minilm)
    add_functions(db, functions[:20])
    store_vectors(db, minilm, functions[:20], vectors[:20])
    store_vectors(db, other, functions[:20], vectors[:20])
    left = build(db, other, settings)
    build(db, minilm, settings)
    assert states(db)[left.index_version_id] == "ready"  # its run may be about to flip
    with db.connect() as connection:
        connection.execute(
            "UPDATE index_versions SET created_at = now() - interval '2 hours' WHERE id = %s",
            [left.index_version_id],
        )
    build(db, minilm, settings)
    assert states(db)[left.index_version_id] == "failed"
    assert not table_exists(db, f"index_{left.index_version_id}")


def test_of_two_builds_at_once_the_second_waits_and_uses_the_firsts(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:80])
    store_vectors(db, minilm, functions[:80], vectors[:80])
    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(lambda _: build(db, minilm, settings), range(3)))
    assert sorted(report.action for report in reports) == ["built", "reused", "reused"]
    assert len({report.index_version_id for report in reports}) == 1


def test_vectors_of_old_candidates_do_not_pile_up(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:5])
    store_vectors(db, minilm, functions[:5], vectors[:5])
    nights = [another_model(minilm, f"night-{night}") for night in range(4)]
    for encoder in nights:
        store_vectors(db, encoder, functions[:5], vectors[:5])
        with db.connect() as connection:
            connection.execute(
                "UPDATE model_versions SET state = 'rejected', base_version = %s WHERE version = %s",
                [minilm.version, encoder.version],
            )
    everyone = [minilm, *nights]
    with db.connect() as connection:
        for encoder in everyone:
            connection.execute("INSERT INTO recall_queries VALUES (%s, 'query', 'vector')", [encoder.version])
    build(db, minilm, settings.model_copy(update={"keep_retired_indexes": 2}))
    kept = [table_exists(db, f"vectors_{encoder.version[:16]}") for encoder in everyone]
    assert kept == [True, False, False, True, True]
    with db.connect() as connection:
        rows = connection.execute("SELECT model_version FROM recall_queries").fetchall()
    assert [(encoder.version,) in rows for encoder in everyone] == kept


def test_the_way_back_takes_the_tables_of_vectors_along(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:5])
    store_vectors(db, minilm, functions[:5], vectors[:5])
    serve(db, minilm, settings)
    count = len(migrations.apply(db.url, settings.sql_path).applied)
    down = migrations.revert(db.url, settings.sql_path, count - 1)  # what stays: the registered sources
    assert len(down.applied) == 1
    with db.connect() as connection:
        left = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^(vectors|index)_'"
        ).fetchall()
    assert left == []
    assert len(migrations.apply(db.url, settings.sql_path).applied) == count
