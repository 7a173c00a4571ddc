"""Ranking by words and crowds beside meaning: both by hand, fusion, and what a search shows of it."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import Function, add_functions, serve, store_vectors
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.index.serving import serving_index
from pipeline.search import nearest as nearest_module
from pipeline.search import query as query_module
from pipeline.search.engine import SearchEngine
from pipeline.search.filters import Filters
from pipeline.search.hybrid import candidates as candidates_module
from pipeline.search.hybrid.candidates import Candidate, find_candidates
from pipeline.search.hybrid.crowding import NEIGHBOURS
from pipeline.search.hybrid.fusion import MEANING_ALONE, Weights, fused, parts
from pipeline.search.hybrid.matching import K1, B
from pipeline.search.hybrid.weights import RankingWeights, store_weights
from pipeline.search.query import search
from pipeline.search.request import SearchRequest
from pipeline.store.connections import Database

Vectors = NDArray[np.float32]
Functions = tuple[Function, ...]
QUERY = "make_pass_decorator for a context"


@pytest.fixture
def indexed(served_with_words: Database) -> Database:
    return served_with_words


def weigh(db: Database, encoder: Encoder, words: float, crowding: float = 0.0) -> None:
    with db.connect() as connection:
        weights = Weights(words, crowding)
        store_weights(connection, RankingWeights(encoder.version, weights, {"fingerprint": "test"}))


def all_words(db: Database, texts: list[str]) -> list[Counter[str]]:
    with db.connect() as connection:
        return [
            Counter(
                dict(
                    connection.execute(
                        "SELECT lexeme, cardinality(positions) FROM unnest(code_words(%s))", [text]
                    ).fetchall()
                )
            )
            for text in texts
        ]


def bm25_by_hand(db: Database, functions: Functions, query: str) -> dict[bytes, float]:
    """Robertson & Zaragoza's formula over every text, as a share of the most it can be, in plain Python."""
    texts = all_words(db, [f.code for f in functions])
    (asked,) = all_words(db, [query])
    mean = sum(text.total() for text in texts) / len(texts)
    scores: dict[bytes, float] = {}
    for function, text in zip(functions, texts, strict=True):
        score, most = 0.0, 0.0
        for word in asked:
            having = max(sum(word in other for other in texts), 1)
            weight = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
            most += weight * (K1 + 1)
            score += weight * text[word] * (K1 + 1) / (text[word] + K1 * (1 - B + B * text.total() / mean))
        scores[function.content_hash] = score / most
    return scores


def cosines(minilm: Encoder, functions: Functions, vectors: Vectors, query: str) -> dict[bytes, float]:
    stored = vectors.astype(np.float16).astype(np.float64)
    asked = minilm.embed_queries([query])[0].astype(np.float16).astype(np.float64)
    values = stored @ asked / np.linalg.norm(stored, axis=1) / np.linalg.norm(asked)
    return {f.content_hash: float(value) for f, value in zip(functions, values, strict=True)}


def crowding_by_hand(functions: Functions, vectors: Vectors, content_hash: bytes, near: list[bytes]) -> float:
    """The mean of a text's cosines to those ten others of the near ones that are nearest to it."""
    row = {f.content_hash: vectors[number] for number, f in enumerate(functions)}
    others = [float(row[content_hash] @ row[other]) for other in near if other != content_hash]
    return sum(sorted(others, reverse=True)[:NEIGHBOURS]) / NEIGHBOURS


def found(db: Database, minilm: Encoder, query: str, filters: Filters | None = None) -> list[Candidate]:
    with db.connect() as connection:
        return find_candidates(
            connection,
            serving_index(connection),
            minilm.embed_queries([query])[0],
            query,
            k=10,
            filters=filters or Filters(),
            ef_search=100,
        )


def test_candidates_have_the_scores_of_the_books_formulas(
    indexed: Database, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    candidates = found(indexed, minilm, QUERY)
    bm25 = bm25_by_hand(indexed, functions, QUERY)
    cosine = cosines(minilm, functions, vectors, QUERY)
    assert len({each.content_hash for each in candidates}) == len(candidates) >= 100
    assert [each.words for each in candidates] == pytest.approx(
        [bm25[each.content_hash] for each in candidates]
    )
    assert all(0 <= each.words < 1 for each in candidates)
    assert [each.cosine for each in candidates] == pytest.approx(
        [cosine[each.content_hash] for each in candidates], abs=1e-5
    )
    assert sum(each.words > 0 for each in candidates) > 5
    near = [each.content_hash for each in candidates[:100]]
    assert set(near) == set(sorted(cosine, key=lambda key: -cosine[key])[:100])
    assert [each.crowding for each in candidates] == pytest.approx(
        [crowding_by_hand(functions, vectors, each.content_hash, near) for each in candidates], abs=1e-3
    )
    assert np.std([each.crowding for each in candidates]) > 0.01
    assert all(each.always for each in candidates)


def test_a_rare_word_brings_a_text_that_meaning_would_not(
    indexed: Database,
    minilm: Encoder,
    functions: Functions,
    vectors: Vectors,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hundred texts are nearer to the query than the one that has its rarest word."""
    monkeypatch.setattr(candidates_module, "POOL", 20)
    texts = all_words(indexed, [f.code for f in functions])
    often = Counter(word for text in texts for word in text)
    brought: list[Candidate] = []
    query = ""
    for far, text in zip(functions, texts, strict=True):
        word = next((word for word in sorted(text) if often[word] == 1 and word.isalpha()), None)
        query = f"read a file and write what it says to standard output {word}"
        cosine = cosines(minilm, functions, vectors, query)
        if word and sum(value > cosine[far.content_hash] for value in cosine.values()) > 100:
            brought = found(indexed, minilm, query)[30:]  # after the nearest 20 and the margin
            assert far.content_hash in {each.content_hash for each in brought}
            break
    assert brought, "some function must be far by meaning"
    assert all(each.words > 0 for each in brought)
    # It must pass the filters as well.
    nowhere = found(indexed, minilm, query, Filters(path_regex="^nowhere$"))
    assert nowhere == []


def test_fusion_is_the_weighted_sum() -> None:
    candidates = [Candidate(b"a", 0.75, 0.0, 0.5), Candidate(b"b", 0.5, 0.5, 0.25)]
    assert parts(candidates).tolist() == [[0.75, 0.0, -0.5], [0.5, 0.5, -0.25]]
    assert fused(candidates, MEANING_ALONE).tolist() == [0.75, 0.5]
    assert fused(candidates, Weights(0.5, 0.0)).tolist() == [0.75, 0.75]
    assert fused(candidates, Weights(0.5, 1.0)).tolist() == [0.25, 0.5]
    assert fused([], Weights(0.5, 1.0)).shape == (0,)


def test_who_is_a_candidate_only_because_many_are_asked_for_comes_last() -> None:
    candidates = [Candidate(b"a", -1.0, 0.0, 1.0), Candidate(b"b", 1.0, 1.0, -1.0, always=False)]
    first, second = fused(candidates, Weights(1.0, 1.0))
    assert first > second


def test_the_order_follows_both_and_the_score_stays_the_cosine(
    indexed: Database, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    weights = Weights(0.2, 0.3)
    alone = search(indexed, minilm, QUERY, k=20, record=False)
    weigh(indexed, minilm, *weights)
    answer = search(indexed, minilm, QUERY, k=20, record=False)
    cosine = cosines(minilm, functions, vectors, QUERY)
    code = {f.content_hash: f.code for f in functions}
    candidates = found(indexed, minilm, QUERY)
    order = np.argsort(-fused(candidates, weights), kind="stable")[:20]
    assert [r.code for r in answer.results] == [code[candidates[i].content_hash] for i in order]
    assert [r.code for r in answer.results] != [r.code for r in alone.results]
    of = {text: cosine[key] for key, text in code.items()}
    assert [r.score for r in answer.results] == pytest.approx([of[r.code] for r in answer.results], abs=1e-5)
    assert [r.rank for r in answer.results] == list(range(1, 21))
    weigh(indexed, minilm, 0.0)
    assert search(indexed, minilm, QUERY, k=20, record=False).results == alone.results


def test_with_weights_of_0_no_word_is_asked_for(
    indexed: Database, minilm: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(query_module, "find_candidates", forbidden)
    assert len(search(indexed, minilm, QUERY, record=False).results) == 10
    for weights in (Weights(0.1, 0.0), Weights(0.0, 0.1)):
        weigh(indexed, minilm, *weights)
        with pytest.raises(AssertionError):
            search(indexed, minilm, QUERY, record=False)


@pytest.mark.parametrize("way", ["exact", "hnsw"])
@pytest.mark.parametrize("k", [1, 10, 60, 150, 250, 1000])
def test_k_results_on_both_ways(
    indexed: Database, minilm: Encoder, monkeypatch: pytest.MonkeyPatch, way: str, k: int
) -> None:
    if way == "hnsw":
        monkeypatch.setattr(nearest_module, "EXACT_UP_TO", 0)
        monkeypatch.setattr(nearest_module, "GRAPH_ROW_COST", 0.0)
    weigh(indexed, minilm, 0.3, 0.2)
    results = search(indexed, minilm, QUERY, k=k, record=False).results
    assert len(results) == min(k, 250)
    assert len({r.code for r in results}) == len(results)


@pytest.mark.parametrize(
    "query",
    ["the of and", "数据", "'; DROP TABLE x; --", "a\\'b & c | !d <-> e:*", "x" * 10_000, "word " * 2000],
)
def test_any_query_is_answered(indexed: Database, minilm: Encoder, query: str) -> None:
    weigh(indexed, minilm, 0.3, 0.2)
    assert len(search(indexed, minilm, query, record=False).results) == 10


def test_a_running_engine_follows_the_weight(indexed: Database, settings: Settings, minilm: Encoder) -> None:
    with SearchEngine(settings, indexed) as engine:
        alone = engine.search(SearchRequest(QUERY))
        weigh(indexed, minilm, 0.5, 0.25)
        index = engine.serving().index
        assert (index.lexical_weight, index.crowding_weight) == (0.5, 0.25)
        both = engine.search(SearchRequest(QUERY))
        assert [r.code for r in both.results] != [r.code for r in alone.results]
        assert both.results == search(indexed, minilm, QUERY, record=False).results
        weigh(indexed, minilm, 0.0)
        assert engine.search(SearchRequest(QUERY)).results == alone.results


def test_words_never_counted_leave_the_order_to_meaning(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    add_functions(db, functions[:50])
    store_vectors(db, minilm, functions[:50], vectors[:50])
    serve(db, minilm, settings)
    alone = search(db, minilm, QUERY, record=False)
    weigh(db, minilm, 0.5)
    assert search(db, minilm, QUERY, record=False).results == alone.results


def test_asking_for_more_does_not_change_the_order(indexed: Database, minilm: Encoder) -> None:
    weigh(indexed, minilm, 0.3, 0.6)
    for query in (QUERY, "open a file for reading", "progress bar"):
        few = search(indexed, minilm, query, k=10, record=False).results
        assert search(indexed, minilm, query, k=250, record=False).results[:10] == few
