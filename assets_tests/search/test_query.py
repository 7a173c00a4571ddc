"""A search: the nearest live snippets, each text once, filters that do not starve it, impressions kept."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import (
    Function,
    add_functions,
    add_repository,
    another_model,
    build,
    serve,
    store_vectors,
    twice_the_model,
    vanish,
)
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.errors import BadInputError, HoneloopError
from pipeline.index.flipping import flip
from pipeline.index.serving import WrongModelError, serving_index
from pipeline.search import nearest as nearest_module
from pipeline.search import query as query_module
from pipeline.search.filters import Filters
from pipeline.search.nearest import nearest
from pipeline.search.places import find_places
from pipeline.search.query import search
from pipeline.store.connections import Database

Vectors = NDArray[np.float32]
Functions = tuple[Function, ...]
QUERY = "open a file for reading"


@pytest.fixture(params=["exact", "hnsw"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of finding neighbours, on a corpus so small that only the first would be taken."""
    if request.param == "hnsw":
        monkeypatch.setattr(nearest_module, "EXACT_UP_TO", 0)
        monkeypatch.setattr(nearest_module, "GRAPH_ROW_COST", 0.0)
    return request.param


def count(db: Database, table: str) -> int:
    with db.connect() as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    return row[0]


def by_hand(minilm: Encoder, vectors: Vectors, query: str) -> NDArray[np.float64]:
    """Cosine of the query to each vector, all as the half floats that are stored, by numpy alone."""
    stored = vectors.astype(np.float16).astype(np.float64)
    asked = minilm.embed_queries([query])[0].astype(np.float16).astype(np.float64)
    return stored @ asked / np.linalg.norm(stored, axis=1) / np.linalg.norm(asked)


@pytest.mark.usefixtures("way")
def test_results_are_the_nearest_with_their_cosine(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions)
    store_vectors(db, minilm, functions, vectors)
    report = serve(db, minilm, settings)
    answer = search(db, minilm, QUERY, k=20)
    cosine = by_hand(minilm, vectors, QUERY)
    best = np.argsort(-cosine)[:20]
    assert [r.code for r in answer.results] == [functions[i].code for i in best]
    assert [r.score for r in answer.results] == pytest.approx(cosine[best].tolist(), abs=1e-5)
    assert [r.rank for r in answer.results] == list(range(1, 21))
    assert (answer.model_version, answer.index_version_id) == (minilm.version, report.index_version_id)
    first, shown = functions[best[0]], answer.results[0]
    assert (shown.repository, shown.path, shown.symbol) == ("click", first.path, first.symbol)
    assert (shown.kind, shown.language) == ("function", "python")
    assert (shown.start_line, shown.end_line) == (first.start_line, first.start_line + first.code.count("\n"))
    assert answer.latency_ms > 0


def test_a_functions_documentation_finds_it(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions)
    store_vectors(db, minilm, functions, vectors)
    serve(db, minilm, settings)
    documented = [f for f in functions if f.documentation][:10]
    found = 0
    for function in documented:
        assert function.documentation
        answer = search(db, minilm, function.documentation, k=10, record=False)
        found += function.code in [r.code for r in answer.results]
    assert found >= 8


@pytest.mark.usefixtures("way")
def test_equal_texts_are_shown_once_at_their_first_place(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:40], repository="zebra")
    add_functions(db, functions[:40], repository="alpha")
    add_functions(db, functions[:40], repository="middle")
    store_vectors(db, minilm, functions[:40], vectors[:40])
    serve(db, minilm, settings)
    results = search(db, minilm, QUERY, k=15).results
    assert len({r.code for r in results}) == len(results) == 15
    assert {r.repository for r in results} == {"alpha"}
    first = results[0]
    assert [(p.repository, p.path, p.start_line) for p in first.also_at] == [
        ("middle", first.path, first.start_line),
        ("zebra", first.path, first.start_line),
    ]
    assert first.places == 3
    # Filtered, only the places that pass are named.
    (only,) = search(db, minilm, QUERY, k=1, source="middle").results
    assert (only.code, only.repository, only.also_at) == (first.code, "middle", ())


@pytest.mark.usefixtures("way")
def test_selective_filters_still_give_k_results(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    """The twelve functions *farthest* from the query are of another language, and of another repository."""
    cosine = by_hand(minilm, vectors, QUERY)
    far = {functions[i].content_hash for i in np.argsort(cosine)[:12]}
    near = [f for f in functions if f.content_hash not in far]
    rest = [f for f in functions if f.content_hash in far]
    add_functions(db, near)
    add_functions(db, rest, repository="far", language=lambda _: "rust")
    add_functions(db, near[:3], repository="far")
    store_vectors(db, minilm, functions, vectors)
    serve(db, minilm, settings)
    order = [functions[i].code for i in np.argsort(-cosine)]
    by_language = search(db, minilm, QUERY, k=10, language="Rust", ef_search=10)
    assert [r.code for r in by_language.results] == [c for c in order if c in {f.code for f in rest}][:10]
    by_source = search(db, minilm, QUERY, k=15, source="far", ef_search=10)
    in_far = {f.code for f in rest} | {f.code for f in near[:3]}
    assert [r.code for r in by_source.results] == [c for c in order if c in in_far]
    both = search(db, minilm, QUERY, k=10, source="far", language="python")
    assert {r.code for r in both.results} == {f.code for f in near[:3]}
    assert search(db, minilm, QUERY, source="click", language="rust").results == ()


@pytest.mark.usefixtures("way")
def test_code_that_vanished_since_is_not_shown_and_k_is_still_met(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:100])
    store_vectors(db, minilm, functions[:100], vectors[:100])
    serve(db, minilm, settings)
    order = np.argsort(-by_hand(minilm, vectors[:100], QUERY))
    gone = [functions[i] for i in order[:70]]
    vanish(db, gone)
    results = search(db, minilm, QUERY, k=20, ef_search=10).results
    assert [r.code for r in results] == [functions[i].code for i in order[70:90]]


@pytest.mark.usefixtures("way")
def test_more_than_there_is_gives_all_there_is(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:30])
    store_vectors(db, minilm, functions[:30], vectors[:30])
    serve(db, minilm, settings)
    assert len(search(db, minilm, QUERY, k=1000).results) == 30
    assert len(search(db, minilm, QUERY, k=1).results) == 1


@pytest.mark.usefixtures("way")
def test_equal_scores_are_in_order_of_place_wherever_they_are_cut(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    """Texts that differ beyond the token limit have one vector: so have these."""
    same = np.repeat(vectors[:1], 6, axis=0)
    add_functions(db, functions[:30])
    store_vectors(db, minilm, functions[:30], np.concatenate([same, vectors[6:30]]))
    serve(db, minilm, settings)
    query = functions[0].code
    order = sorted((f.path, f.start_line) for f in functions[:6])
    for k in (2, 4, 6):
        shown = search(db, minilm, query, k=k, record=False).results
        assert [(r.path, r.start_line) for r in shown] == order[:k]
        assert len({r.score for r in shown}) == 1


def test_the_hnsw_index_answers_when_many_come_into_question(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions)
    store_vectors(db, minilm, functions, vectors)
    serve(db, minilm, settings)
    serving = serving_index(db)
    vector = minilm.embed_queries([QUERY])[0]

    def hnsw_scans() -> int:
        with db.connect() as connection:
            nearest(connection, serving, minilm.version, vector, k=10, filters=Filters(), ef_search=100)
            row = connection.execute(
                "SELECT pg_stat_get_xact_numscans(to_regclass(%s))", [f"{serving.table_name}_hnsw"]
            ).fetchone()
        assert row is not None
        return row[0]

    assert hnsw_scans() == 0  # few: compared one by one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest_module, "EXACT_UP_TO", 0)
        patch.setattr(nearest_module, "GRAPH_ROW_COST", 0.0)
        assert hnsw_scans() == 1


def test_what_was_shown_is_remembered(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:40])
    store_vectors(db, minilm, functions[:40], vectors[:40])
    report = serve(db, minilm, settings)
    answer = search(db, minilm, QUERY, k=5, language="python", user="ada")
    with db.connect() as connection:
        asked = connection.execute(
            "SELECT id::text, query, source, user_name, filters, model_version, index_version_id, latency_ms"
            " FROM searches"
        ).fetchall()
        shown = connection.execute(
            "SELECT search_id::text, snippet_id, rank, score FROM impressions ORDER BY rank"
        ).fetchall()
    assert asked == [
        (
            answer.search_id,
            QUERY,
            "search",
            "ada",
            {"k": 5, "languages": ["python"]},
            minilm.version,
            report.index_version_id,
            answer.latency_ms,
        )
    ]
    assert shown == [(answer.search_id, r.snippet_id, r.rank, r.score) for r in answer.results]
    assert len(shown) == 5
    unrecorded = search(db, minilm, QUERY, record=False)
    assert unrecorded.search_id is None
    assert (count(db, "searches"), count(db, "impressions")) == (1, 5)


def test_a_connection_serves_as_well_as_a_database(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:20])
    store_vectors(db, minilm, functions[:20], vectors[:20])
    serve(db, minilm, settings)
    with db.connect() as connection:
        first = search(connection, minilm, QUERY)
        assert count(db, "searches") == 1  # committed, though the connection stays open
        second = search(connection, minilm, QUERY)
    assert [r.snippet_id for r in first.results] == [r.snippet_id for r in second.results]
    assert count(db, "searches") == 2


def test_a_repository_removed_while_a_search_runs_is_not_shown(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    """What was found must still be there when it is recorded; else the search is made again."""
    add_functions(db, functions[:20])
    add_functions(db, functions[20:40], repository="leaving")
    store_vectors(db, minilm, functions[:40], vectors[:40])
    serve(db, minilm, settings)
    removals = 0

    def remove_then_find(*arguments):
        nonlocal removals
        with db.connect() as connection:
            removals += connection.execute("DELETE FROM repositories WHERE name = 'leaving'").rowcount
        return find_places(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query_module, "find_places", remove_then_find)
        answer = search(db, minilm, QUERY, k=30)
    assert removals == 1
    assert {r.repository for r in answer.results} == {"click"}
    assert (count(db, "searches"), count(db, "impressions")) == (1, 20)


def test_another_models_query_is_refused(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:20])
    store_vectors(db, minilm, functions[:20], vectors[:20])
    with pytest.raises(HoneloopError, match="Nothing is indexed yet"):
        search(db, minilm, QUERY)
    serve(db, minilm, settings)
    for other in (another_model(minilm), twice_the_model(minilm)):
        with pytest.raises(
            WrongModelError, match=f"holds vectors of model version {minilm.version[:12]}"
        ) as no:
            search(db, other, QUERY)
        assert no.value.serving.location == "minilm"
    assert count(db, "searches") == 0


def test_the_database_refuses_a_query_of_another_model(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:20])
    store_vectors(db, minilm, functions[:20], vectors[:20])
    serve(db, minilm, settings)
    other = another_model(minilm)
    vector = other.embed_queries([QUERY])[0]
    with (
        db.connect() as connection,
        pytest.raises(HoneloopError, match=f"the query's vector is of {other.version}"),
    ):
        nearest(
            connection,
            serving_index(connection),
            other.version,
            vector,
            k=3,
            filters=Filters(),
            ef_search=40,
        )
    wide = twice_the_model(minilm).embed_queries([QUERY])[0]
    with (
        db.connect() as connection,
        pytest.raises(HoneloopError, match="different halfvec dimensions 384 and 768"),
    ):
        nearest(
            connection,
            serving_index(connection),
            minilm.version,
            wide,
            k=3,
            filters=Filters(),
            ef_search=40,
        )


def test_after_a_flip_the_old_encoder_is_refused(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:20])
    store_vectors(db, minilm, functions[:20], vectors[:20])
    serve(db, minilm, settings)
    other = another_model(minilm)
    store_vectors(db, other, functions[:20], other.embed_documents([f.code for f in functions[:20]]))
    flip(db, build(db, other, settings).index_version_id, actor="gate", reasons=[], settings=settings)
    with pytest.raises(WrongModelError):
        search(db, minilm, QUERY)
    assert search(db, other, QUERY).model_version == other.version


@pytest.mark.parametrize(
    ("query", "k", "message"),
    [
        ("", 10, "The query is empty"),
        (" \n\t", 10, "The query is empty"),
        ("x" * 10_001, 10, "The query has 10,001 characters"),
        ("nul \x00", 10, "characters that are no text"),
        ("half \ud83d", 10, "characters that are no text"),
        ("fine", 0, "k is 0"),
        ("fine", 1001, "k is 1001"),
    ],
)
def test_what_cannot_be_asked_is_bad_input(
    db: Database, minilm: Encoder, query: str, k: int, message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        search(db, minilm, query, k=k)


def test_unknown_filters_name_the_known_ones(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:10])
    add_functions(db, functions[10:20], repository="other", language=lambda _: "go")
    add_repository(db, "empty")
    store_vectors(db, minilm, functions[:20], vectors[:20])
    serve(db, minilm, settings)
    with pytest.raises(BadInputError, match="no source 'clack'") as no_source:
        search(db, minilm, QUERY, source="clack")
    assert no_source.value.hint == "Known: click, empty, other."
    with pytest.raises(BadInputError, match="language 'cobol'") as no_language:
        search(db, minilm, QUERY, language="cobol")
    assert no_language.value.hint == "There are: go, python."
    assert search(db, minilm, QUERY, source="empty").results == ()
    longest = search(db, minilm, "x" * 10_000, k=3)
    assert len(longest.results) == 3
    assert len(search(db, minilm, "データを読む 🙂", k=3).results) == 3
