"""The weight of words: learned from judged queries, proven on others, 0 until then."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import Function, add_functions, vanish
from assets_tests.search.models import Model, load_perturbed
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.evaluation.metrics import query_metrics
from pipeline.feedback.grouping import group_key
from pipeline.index.serving import serving_index
from pipeline.progress import Silent
from pipeline.promotion.registry import ensure_registered
from pipeline.search.hybrid import learning
from pipeline.search.hybrid.candidates import Candidate
from pipeline.search.hybrid.fusion import fused
from pipeline.search.hybrid.learning import FOLDS, GRID, cross_validate, learn_weight, question_gains
from pipeline.search.hybrid.questions import judged_questions
from pipeline.search.hybrid.weights import ranking_weight
from pipeline.store.connections import Database

Vectors = NDArray[np.float32]
Functions = tuple[Function, ...]


def judge(
    db: Database,
    encoder: Encoder,
    queries: dict[str, Function],
    *,
    origin: str = "feedback",
    split: str = "test",
    same_set: bool = False,
) -> int:
    """Stores a training set in which each query has this answer; its id."""
    with db.connect() as connection:
        if same_set:
            row = connection.execute("SELECT max(id) FROM training_sets").fetchone()
        else:
            row = connection.execute(
                "INSERT INTO training_sets (fingerprint, pairs_fingerprint, model_version, counts, settings)"
                " SELECT n, n, %s, '{}', '{}' FROM (SELECT (count(*) + 1)::text AS n FROM training_sets)"
                " RETURNING id",
                [encoder.version],
            ).fetchone()
        assert row is not None
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO training_pairs (training_set_id, split, origin, query, positive_hash,"
                " positive_text, weight, language, group_key)"
                " VALUES (%s, %s, %s, %s, %s, %s, 1, 'python', %s)",
                [
                    (row[0], split, origin, query, f.content_hash, f.code, group_key(query))
                    for query, f in queries.items()
                ],
            )
    return row[0]


def names(functions: Functions, count: int) -> dict[str, Function]:
    """Queries that mean one thing and name another: the answer is the one named, which only words find."""
    found: dict[str, Function] = {}
    for function in functions:
        name = function.symbol.split(":")[0].strip("_")
        found.setdefault(f"read a file and write what it says to standard output {name}", function)
    return dict(list(found.items())[:count])


def unrelated(functions: Functions, count: int) -> dict[str, Function]:
    """Queries whose words mislead: each names one function, and another one is the answer."""
    made = names(functions, count)
    shifted = list(made.values())[1:] + list(made.values())[:1]
    return dict(zip(made, shifted, strict=True))


@pytest.fixture
def indexed(served: Database) -> Database:
    return served


def learned(db: Database, encoder: Encoder, settings: Settings):
    return learn_weight(db, encoder, settings, Silent())


def test_words_that_help_are_proven_and_count(
    indexed: Database, settings: Settings, minilm: Encoder, functions: Functions
) -> None:
    judge(indexed, minilm, names(functions, 80))
    weight = learned(indexed, minilm, settings)
    assert weight.evidence["proven"]
    assert weight.weight == weight.evidence["best_weight"] > 0
    assert weight.evidence["measured"] == 80
    assert weight.evidence["difference"]["low"] > 0
    by_weight = weight.evidence["by_weight"]
    assert by_weight[f"{weight.weight:g}"] == max(by_weight.values()) > by_weight["0"]
    assert serving_index(indexed).lexical_weight == weight.weight
    assert not [text for text in names(functions, 80) if text in str(weight.evidence)], "no query is kept"


def test_words_that_mislead_count_nothing(
    indexed: Database, settings: Settings, minilm: Encoder, functions: Functions
) -> None:
    judge(indexed, minilm, unrelated(functions, 80))
    weight = learned(indexed, minilm, settings)
    assert (weight.weight, weight.evidence["proven"]) == (0.0, False)
    assert "no proof" in weight.evidence["reason"]
    assert serving_index(indexed).lexical_weight == 0.0


def test_too_few_queries_prove_nothing(
    indexed: Database, settings: Settings, minilm: Encoder, functions: Functions
) -> None:
    judge(indexed, minilm, names(functions, settings.gate_min_queries - 1))
    weight = learned(indexed, minilm, settings)
    assert weight.weight == 0.0
    assert f"{settings.gate_min_queries - 1} judged queries" in weight.evidence["reason"]


def test_documentation_is_no_evidence(
    indexed: Database, settings: Settings, minilm: Encoder, functions: Functions
) -> None:
    judge(indexed, minilm, names(functions, 80), origin="docstring")
    assert learned(indexed, minilm, settings).evidence["questions"] == 0


def test_a_proof_does_not_outlast_its_queries(
    indexed: Database, settings: Settings, minilm: Encoder, functions: Functions
) -> None:
    judge(indexed, minilm, names(functions, 80))
    assert learned(indexed, minilm, settings).weight > 0
    judge(indexed, minilm, unrelated(functions, 80))  # a newer training set says otherwise
    assert learned(indexed, minilm, settings).weight == 0.0
    assert serving_index(indexed).lexical_weight == 0.0
    with indexed.connect() as connection:
        assert connection.execute("SELECT count(*) FROM ranking_weights").fetchone() == (2,)


def test_the_same_evidence_is_not_measured_twice(
    indexed: Database,
    settings: Settings,
    minilm: Encoder,
    functions: Functions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judge(indexed, minilm, names(functions, 60))
    first = learned(indexed, minilm, settings)

    def forbidden(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(learning, "_measured", forbidden)
    assert learned(indexed, minilm, settings) == first
    with indexed.connect() as connection:
        assert connection.execute("SELECT count(*) FROM ranking_weights").fetchone() == (1,)
        assert ranking_weight(connection, minilm.version) == first
    stricter = settings.model_copy(update={"gate_min_queries": 61})
    assert learned(indexed, minilm, stricter).weight == 0.0


def test_answers_that_vanished_are_left_out(
    indexed: Database, settings: Settings, minilm: Encoder, functions: Functions
) -> None:
    queries = names(functions, 60)
    judge(indexed, minilm, queries)
    vanish(indexed, list(queries.values())[:20])
    weight = learned(indexed, minilm, settings)
    assert (weight.evidence["questions"], weight.evidence["measured"], weight.weight) == (60, 40, 0.0)
    assert "40 judged queries" in weight.evidence["reason"]


def test_what_a_model_was_trained_on_is_no_evidence_for_it(
    db: Database, minilm: Encoder, functions: Functions, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Neither what itself nor what the model before it was trained on, whatever split it is in later."""
    tuned = load_perturbed(tmp_path_factory.mktemp("tuned") / "model", functions[:2])
    again = load_perturbed(tmp_path_factory.mktemp("again") / "model", functions[:2], seed=2)
    add_functions(db, functions)
    ensure_registered(db, minilm, "minilm")
    asked = list(names(functions, 60).items())
    early = judge(db, minilm, dict(asked[:10]), split="train")
    judge(db, minilm, dict(asked[10:20]), split="validation", same_set=True)
    register(db, tuned, minilm, early)
    later = judge(db, minilm, dict(asked[20:30]), split="train")
    judge(db, minilm, dict(asked[:15]), split="test", same_set=True)  # ten of them were trained on before
    judge(db, minilm, dict(asked[30:40]), split="validation", same_set=True)
    register(db, again, tuned.encoder, later)

    def questions(encoder: Encoder) -> set[str]:
        with db.connect() as connection:
            return {question.text for question in judged_questions(connection, encoder.version)}

    assert questions(minilm) == {query for query, _ in [*asked[20:30], *asked[:15], *asked[30:40]]}
    assert questions(tuned.encoder) == {query for query, _ in [*asked[10:15], *asked[30:40]]}
    assert questions(again.encoder) == {query for query, _ in [*asked[10:15], *asked[30:40]]}


def register(db: Database, model: Model, base: Encoder, training_set: int) -> None:
    ensure_registered(
        db,
        model.encoder,
        model.location,
        "candidate",
        base_version=base.version,
        training_set_id=training_set,
    )


def test_held_out_gains_come_from_weights_chosen_without_them() -> None:
    """One question per fold gains hugely from a weight that no other gains from: it must not choose it."""
    gains = np.zeros((FOLDS, len(GRID)))
    gains[:, 0] = 0.5
    gains[3, 4] = 10.0  # the mean over all prefers weight 4 of the grid
    choice = cross_validate(gains)
    assert choice.weight == GRID[4]
    assert choice.chosen[3] == 0.0
    assert choice.held_out[3] == 0.5
    # The others are measured under the weight that the one question made look best, and lose by it.
    assert choice.held_out[[0, 1, 2]].tolist() == [0.0, 0.0, 0.0]


def test_of_equal_weights_the_smallest_is_chosen() -> None:
    assert cross_validate(np.full((30, len(GRID)), 0.7)).weight == 0.0


def test_gains_are_those_of_the_evaluations_metric() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        candidates = [
            Candidate(
                hashlib.sha256(bytes([i])).digest(),
                float(cosine),
                float(bm25),
                is_near=i < 25,
                has_rare=i > 20,
            )
            for i, (cosine, bm25) in enumerate(zip(rng.random(30), rng.random(30) * 9, strict=True))
        ]
        relevant = [candidates[i].content_hash for i in rng.choice(30, 3, replace=False)]
        missing = hashlib.sha256(b"not found").digest()
        gains = question_gains(candidates, [*relevant, missing])
        for weight, gain in zip(GRID, gains, strict=True):
            order = np.argsort(-fused(candidates, weight))
            ranks = [i + 1 for i, j in enumerate(order) if candidates[j].content_hash in relevant]
            assert gain == pytest.approx(query_metrics(ranks, 4)["ndcg@10"])
