"""Filters by kind and path that do not starve a search, and parts of one definition that do not fill it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import Function
from pipeline.encoders.encoder import Encoder
from pipeline.search import filters as filters_module
from pipeline.search import nearest as nearest_module
from pipeline.search.filters import Filters
from pipeline.search.hybrid.fusion import Weights
from pipeline.search.hybrid.weights import RankingWeights, store_weights
from pipeline.search.query import search
from pipeline.search.request import SearchRequest
from pipeline.store.connections import Database

Vectors = NDArray[np.float32]
Functions = tuple[Function, ...]
QUERY = "open a file for reading"


@pytest.fixture(params=["exact", "keys", "hnsw"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every way of finding neighbours, on a corpus so small that only the first would be taken."""
    if request.param != "exact":
        monkeypatch.setattr(nearest_module, "EXACT_UP_TO", 0)
    if request.param == "hnsw":
        monkeypatch.setattr(nearest_module, "GRAPH_ROW_COST", 0.0)
    return request.param


@pytest.fixture(params=[0.0, 0.3], ids=["meaning", "hybrid"])
def weight(request: pytest.FixtureRequest) -> float:
    """Ranked by meaning alone, and by words as well."""
    return request.param


@pytest.fixture
def indexed(served_with_words: Database, minilm: Encoder, weight: float) -> Database:
    """Click's functions."""
    with served_with_words.connect() as connection:
        store_weights(
            connection, RankingWeights(minilm.version, Weights(weight, weight), {"fingerprint": ""})
        )
    return served_with_words


def change(db: Database, functions: list[Function], column: str, values: list[str]) -> None:
    assert column in ("kind", "path", "symbol")
    with db.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE snippets SET {column} = %s WHERE content_hash = %s".encode(),
            [(value, f.content_hash) for value, f in zip(values, functions, strict=True)],
        )
        cursor.execute(
            "INSERT INTO files (repository_id, path, blob_hash, extractor)"
            " SELECT DISTINCT repository_id, path, 'made', 'made' FROM snippets ON CONFLICT DO NOTHING"
        )


def farthest(minilm: Encoder, functions: Functions, vectors: Vectors, count: int) -> list[Function]:
    cosine = vectors @ minilm.embed_queries([QUERY])[0]
    return [functions[i] for i in np.argsort(cosine)[:count]]


@pytest.fixture(params=[0, 500], ids=["many-paths", "few-paths"], autouse=True)
def few_paths(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are matched as the search goes, and beforehand."""
    monkeypatch.setattr(filters_module, "FEW_PATHS", request.param)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("passing", [3, 12, 40])
def test_a_selective_kind_or_path_still_gives_k_results(
    indexed: Database, minilm: Encoder, functions: Functions, vectors: Vectors, passing: int
) -> None:
    """Only the functions farthest from the query pass."""
    far = farthest(minilm, functions, vectors, passing)
    change(indexed, far, "kind", ["class"] * passing)
    change(indexed, far, "path", [f"deep/inside/module_{i}.py" for i in range(passing)])
    wanted = {f.code for f in far}
    for request in (
        SearchRequest(QUERY, kinds=("class",)),
        SearchRequest(QUERY, path="deep/**/*.py"),
        SearchRequest(QUERY, path="module_*.py"),
        SearchRequest(QUERY, 10, ("Python",), ("click",), ("class", "method"), "deep/"),
    ):
        results = search(indexed, minilm, request, record=False).results
        assert len(results) == min(10, passing), request
        assert {r.code for r in results} <= wanted
    nothing = SearchRequest(QUERY, 10, kinds=("class",), path="click/**")
    assert search(indexed, minilm, nothing, record=False).results == ()


@pytest.mark.usefixtures("way")
def test_of_a_long_definition_only_the_best_part_is_shown(
    indexed: Database, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    """The 60 nearest are made the parts of two definitions; k others are shown all the same."""
    order = [r.code for r in search(indexed, minilm, QUERY, k=250, record=False).results]
    by_code = {f.code: f for f in functions}
    nearest = [by_code[code] for code in order[:60]]
    change(indexed, nearest, "path", ["click/long.py"] * 60)
    names = [f"{name}{'' if i == 0 else f'@{i + 1}'}" for i in range(30) for name in ("Long.one", "two")]
    # The best part need not be the first one.
    change(indexed, nearest, "symbol", names[::-1])
    results = search(indexed, minilm, QUERY, k=20, record=False).results
    expected = [order[0], order[1], *order[60:78]]
    assert [r.code for r in results] == expected
    assert [r.rank for r in results] == list(range(1, 21))
    assert {results[0].symbol, results[1].symbol} == {"two@30", "Long.one@30"}
    everything = search(indexed, minilm, QUERY, k=1000, record=False).results
    assert len(everything) == 250 - 58


def test_namesakes_are_no_parts(indexed: Database, minilm: Encoder, functions: Functions) -> None:
    """`f#2` is another definition of the name, and the same name in another file is another one, too."""
    results = search(indexed, minilm, QUERY, k=4, record=False).results
    by_code = {f.code: f for f in functions}
    best = [by_code[r.code] for r in results]
    change(indexed, best, "path", ["a.py", "a.py", "b.py", "c.py"])
    change(indexed, best, "symbol", ["f", "f#2", "f", "f@2"])
    again = search(indexed, minilm, QUERY, k=4, record=False).results
    assert {r.code for r in again} == {r.code for r in results}


@pytest.mark.parametrize("stale", [False, True], ids=["counted", "stale statistics"])
def test_what_postgres_expects_decides_the_way_and_never_the_results(
    indexed: Database, minilm: Encoder, monkeypatch: pytest.MonkeyPatch, *, stale: bool
) -> None:
    """Statistics from before two thirds were renamed: few are expected, or many, and neither is so."""
    monkeypatch.setattr(nearest_module, "EXACT_UP_TO", 0)
    with indexed.connect(autocommit=True) as connection:
        connection.execute("ANALYZE snippets")
        connection.execute("UPDATE snippets SET kind = 'class' WHERE id % 3 > 0")
        if not stale:
            connection.execute("ANALYZE snippets")
        expected = Filters(kinds=("class",)).expected(connection)
        assert (expected < 10) == stale
        passing = connection.execute("SELECT count(*) FROM snippets WHERE kind = 'class'").fetchone()
    assert passing is not None
    for kind in ("class", "function"):
        results = search(indexed, minilm, SearchRequest(QUERY, 40, kinds=(kind,)), record=False).results
        assert len(results) == 40
        assert {r.kind for r in results} == {kind}
