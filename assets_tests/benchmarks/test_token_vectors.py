"""Token vectors that can be stored, against what they are made of and against a loop over tokens."""

from __future__ import annotations

import numpy as np
import pytest

from assets_tests.benchmarks.distilling import teacher_of
from assets_tests.benchmarks.judged import HeldOut, measure
from assets_tests.benchmarks.token_vectors import POOLED, Side, embedded, late, pooled, signs
from assets_tests.index.click_corpus import Function, some_functions
from assets_tests.search.conftest import functions, served_with_words, vectors
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.evaluation.ranking import RankedQuery, Vectors
from pipeline.search.hybrid.fitting import likeliest
from pipeline.search.hybrid.fusion import Weights
from pipeline.store.connections import Database
from pipeline.workbench import Workbench

__all__ = ["functions", "served_with_words", "vectors"]

QUERIES = ("open a file for reading", "print a coloured message", "show the help page")


def test_what_tokens_find_is_what_the_teacher_says(minilm: Encoder) -> None:
    texts = [each.code for each in some_functions()[:6]]
    taught = teacher_of(minilm, [*QUERIES, *texts], minilm.max_tokens).both(QUERIES, texts)[1].numpy()
    vectors, documents = embedded(minilm, texts)
    np.testing.assert_allclose(vectors, minilm.embed_documents(texts), atol=1e-5)
    for row, query in enumerate(embedded(minilm, QUERIES)[1]):
        np.testing.assert_allclose(late(query, documents), taught[row], atol=1e-5)


def test_few_vectors_stand_for_many_tokens(minilm: Encoder) -> None:
    short, long = embedded(minilm, ["x = 1", "\n".join(each.code for each in some_functions()[:4])])[1]
    assert len(short) < POOLED < len(long)
    few = pooled([short, long])
    assert few[0] is short
    assert len(few[1]) == POOLED
    np.testing.assert_allclose(np.linalg.norm(few[1], axis=1), 1, atol=1e-5)
    # Each token is near the one that stands for it: nearer than to what stands for the whole text.
    whole = long.mean(axis=0) / np.linalg.norm(long.mean(axis=0))
    assert (long @ few[1].T).max(axis=1).mean() > (long @ whole).mean() + 0.1
    signed = signs(few)
    assert np.unique(np.abs(signed[1])).tolist() == pytest.approx([384**-0.5])
    assert (signed[1] @ few[1].T).diagonal().mean() > 0.5


def test_a_text_or_a_query_without_tokens_finds_nothing() -> None:
    tokens = np.eye(3, dtype=np.float32)
    nothing = tokens[:0]
    assert late(tokens[:2], [tokens, nothing]).tolist() == [1, 0]
    assert late(nothing, [tokens, nothing]).tolist() == [0, 0]


def test_tokens_that_count_nothing_leave_the_order_of_searches(
    served_with_words: Database,
    settings: Settings,
    minilm: Encoder,
    functions: tuple[Function, ...],
    vectors: Vectors,
) -> None:
    bench = Workbench(settings, database=served_with_words)
    fourth = np.argsort(-minilm.embed_queries(QUERIES) @ vectors.T)[:, 3]
    wanted = tuple(RankedQuery(((int(position),),)) for position in fourth)
    asked = HeldOut(QUERIES, wanted, tuple(each.content_hash for each in functions))
    side = Side(bench, minilm, asked, vectors)
    documents = pooled(embedded(minilm, [each.code for each in functions])[1])
    weights = Weights(0.3, 0.2)
    searched = side.measured(documents, [*weights, 0], alone=False)
    assert searched == measure(bench, minilm, asked, vectors, weights)
    assert side.measured(documents, [0], alone=True) == measure(bench, minilm, asked, vectors)
    assert side.measured(documents, [1], alone=True) != side.measured(documents, [0], alone=True)
    # Learned, they count if what they find is what was wanted, and nothing if it is what was not.
    told = [each.judged for each in side.beside(documents, alone=True)]
    for wanted_is, counts in ((np.argmax, True), (np.argmin, False)):
        for each in told:
            each.relevant[:] = np.arange(len(each.parts)) == wanted_is(each.parts[:, 1])
        assert (likeliest(told)[0] > 0.1) == counts
