"""Ranking a whole corpus in memory as searches rank: the same order, and who comes after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.evaluation.test_evaluating import feedback_pair, training_set
from assets_tests.index.click_corpus import Function
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.evaluation.evaluating import freeze_test_set
from pipeline.evaluation.frozen_sets import general_set
from pipeline.progress import Silent
from pipeline.search.hybrid import candidates as candidates_module
from pipeline.search.hybrid import exactly
from pipeline.search.hybrid.exactly import SearchOrder
from pipeline.search.hybrid.fusion import LATE, MEANING_ALONE, Weights
from pipeline.search.hybrid.line import learn_serving_ranking
from pipeline.search.hybrid.weights import (
    RankingWeights,
    store_weights,
    weights_in_force,
    weights_to_serve,
)
from pipeline.search.hybrid.words import query_words
from pipeline.search.query import search
from pipeline.store.connections import Connection, Database
from pipeline.workbench import Workbench

Vectors = NDArray[np.float32]
Functions = tuple[Function, ...]
QUERIES = ("make_pass_decorator for a context", "open a file for reading", "progress bar", "the of and")
WEIGHTS = Weights(0.2, 0.3)


def rescored(
    connection: Connection, encoder: Encoder, functions: Functions, vectors: Vectors, query: str
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Cosines, and what searches would order by."""
    order = SearchOrder(connection, [f.content_hash for f in functions], vectors, WEIGHTS)
    cosines = vectors @ encoder.embed_queries([query])[0]
    return cosines, order.rescored(query_words(connection, query), cosines)


def weigh(connection: Connection, model_version: str, weights: Weights) -> None:
    store_weights(connection, RankingWeights(model_version, weights, {"fingerprint": "test"}))


@pytest.mark.parametrize("query", QUERIES)
def test_the_order_is_that_of_searches(
    served_with_words: Database, minilm: Encoder, functions: Functions, vectors: Vectors, query: str
) -> None:
    with served_with_words.connect() as connection:
        weigh(connection, minilm.version, WEIGHTS)
        _, scores = rescored(connection, minilm, functions, vectors, query)
    shown = search(served_with_words, minilm, query, k=50, record=False).results
    position = {f.code: number for number, f in enumerate(functions)}
    best = np.sort(scores)[::-1][:50]
    # What the index stores is rounded to half precision, so that near ties may stand the other way round.
    np.testing.assert_allclose([scores[position[each.code]] for each in shown], best, atol=2e-3)
    assert [position[each.code] for each in shown[:3]] == np.argsort(-scores)[:3].tolist()


def test_who_is_no_candidate_comes_after_all_who_are_in_the_order_of_the_cosine(
    served_with_words: Database,
    minilm: Encoder,
    functions: Functions,
    vectors: Vectors,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exactly, "POOL", 20)
    monkeypatch.setattr(candidates_module, "POOL", 20)
    with served_with_words.connect() as connection:
        cosines, scores = rescored(connection, minilm, functions, vectors, QUERIES[0])
    candidates = scores > -LATE / 2
    # The nearest twenty, and those with a rare word.
    assert 20 < candidates.sum() < len(functions)
    assert set(np.argsort(-cosines)[:20]) <= set(np.flatnonzero(candidates))
    assert (scores[candidates] != cosines[candidates]).any()
    np.testing.assert_allclose(scores[~candidates], cosines[~candidates] - LATE, atol=1e-6)
    assert scores[candidates].min() > scores[~candidates].max()


def test_texts_that_are_not_in_the_corpus_are_no_candidates(
    served_with_words: Database, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    with served_with_words.connect() as connection:
        _, scores = rescored(connection, minilm, functions[:7], vectors[:7], QUERIES[0])
    assert scores.shape == (7,)
    assert (scores > -LATE / 2).all()


def test_what_counts_is_what_was_learned_for_the_model_else_for_its_base(
    served_with_words: Database, minilm: Encoder
) -> None:
    with served_with_words.connect() as connection:
        connection.execute(
            "INSERT INTO model_versions (version, name, dims, spec, location, state, base_version)"
            " SELECT repeat('a', 64), 'tuned', dims, spec, 'nowhere', 'candidate', version"
            " FROM model_versions WHERE version = %s",
            [minilm.version],
        )
        assert weights_to_serve(connection, "a" * 64) == MEANING_ALONE
        weigh(connection, minilm.version, WEIGHTS)
        assert weights_to_serve(connection, minilm.version) == WEIGHTS
        assert weights_to_serve(connection, "a" * 64) == WEIGHTS
        weigh(connection, "a" * 64, MEANING_ALONE)
        assert weights_to_serve(connection, "a" * 64) == MEANING_ALONE
        assert weights_to_serve(connection, "unknown") == MEANING_ALONE


def test_tonights_test_set_is_ranked_as_searches_rank_now(
    served_with_words: Database, minilm: Encoder, functions: Functions, settings: Settings
) -> None:
    pairs = training_set([feedback_pair(f"query {i}", functions[i].content_hash, "") for i in range(3)])
    alone = freeze_test_set(served_with_words, pairs)
    assert alone.ranking == MEANING_ALONE
    with served_with_words.connect() as connection:
        weigh(connection, minilm.version, WEIGHTS)
    searched = freeze_test_set(served_with_words, pairs)
    assert searched.ranking == WEIGHTS
    assert [replace(each, counted=None) for each in searched.queries] == list(alone.queries)
    assert all(each.counted is not None for each in searched.queries)
    assert searched.corpus == alone.corpus
    # What is held constant does not follow what is learned.
    documented = replace(searched, queries=tuple(replace(q, origin="docstring") for q in searched.queries))
    general = general_set(served_with_words, documented, pairs, settings)
    assert general is not None
    assert general.ranking == MEANING_ALONE


def test_where_nothing_serves_there_is_no_ranking_to_learn(db: Database, settings: Settings) -> None:
    learn_serving_ranking(Workbench(settings), Silent())
    with db.connect() as connection:
        assert weights_in_force(connection) == MEANING_ALONE
        assert connection.execute("SELECT FROM ranking_weights").fetchone() is None
