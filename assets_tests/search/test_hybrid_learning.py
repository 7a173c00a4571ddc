"""What words and crowds count: learned from judged queries, proven on others, 0 until then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import Function, add_functions, vanish
from assets_tests.search.judging import drawn
from assets_tests.search.models import Model, index_of, load_perturbed
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.feedback.grouping import group_key
from pipeline.index.flipping import flip
from pipeline.index.serving import serving_index, verified_index
from pipeline.progress import Silent
from pipeline.promotion.registry import ensure_registered
from pipeline.search.hybrid import learning
from pipeline.search.hybrid.fusion import MEANING_ALONE, Weights
from pipeline.search.hybrid.learning import learn_weights, verdict
from pipeline.search.hybrid.line import learn_ranking
from pipeline.search.hybrid.questions import judged_questions
from pipeline.search.hybrid.weights import (
    RankingWeights,
    ranking_weights,
    store_weights,
    weights_in_force,
    weights_to_serve,
)
from pipeline.store.connections import Database
from pipeline.workbench import Workbench

Vectors = NDArray[np.float32]
Functions = tuple[Function, ...]


def judge(
    db: Database,
    encoder: Encoder,
    queries: dict[str, Function],
    *,
    origin: str = "feedback",
    split: str = "validation",
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
    return learn_weights(db, encoder, settings, Silent())


def test_words_that_help_are_proven_and_count(
    indexed: Database, settings: Settings, minilm: Encoder, functions: Functions
) -> None:
    judge(indexed, minilm, names(functions, 80))
    weight = learned(indexed, minilm, settings)
    assert weight.evidence["proven"]
    assert weight.weights._asdict() == weight.evidence["fitted"]
    assert weight.weights.words > 0.1
    assert weight.evidence["measured"] == 80
    assert weight.evidence["difference"]["low"] > 0
    assert weight.evidence["ndcg@10"]["held_out"] > weight.evidence["ndcg@10"]["alone"]
    serving = serving_index(indexed)
    assert (serving.lexical_weight, serving.crowding_weight) == weight.weights
    assert not [text for text in names(functions, 80) if text in str(weight.evidence)], "no query is kept"


def test_words_that_mislead_count_nothing(
    indexed: Database, settings: Settings, minilm: Encoder, functions: Functions
) -> None:
    judge(indexed, minilm, unrelated(functions, 80))
    weight = learned(indexed, minilm, settings)
    assert (weight.weights, weight.evidence["proven"]) == (MEANING_ALONE, False)
    assert "no proof" in weight.evidence["reason"]
    assert serving_index(indexed).by_meaning_alone


def test_too_few_queries_prove_nothing(
    indexed: Database, settings: Settings, minilm: Encoder, functions: Functions
) -> None:
    judge(indexed, minilm, names(functions, settings.gate_min_queries - 1))
    weight = learned(indexed, minilm, settings)
    assert weight.weights == MEANING_ALONE
    assert f"{settings.gate_min_queries - 1} judged queries" in weight.evidence["reason"]


def test_documentation_is_no_evidence(
    indexed: Database, settings: Settings, minilm: Encoder, functions: Functions
) -> None:
    judge(indexed, minilm, names(functions, 80), origin="docstring")
    assert learned(indexed, minilm, settings).evidence["questions"] == 0


def test_the_gates_test_queries_are_no_evidence(
    indexed: Database, settings: Settings, minilm: Encoder, functions: Functions
) -> None:
    judge(indexed, minilm, names(functions, 80), split="test")
    assert learned(indexed, minilm, settings).evidence["questions"] == 0


def test_a_proof_does_not_outlast_its_queries(
    indexed: Database, settings: Settings, minilm: Encoder, functions: Functions
) -> None:
    judge(indexed, minilm, names(functions, 80))
    assert learned(indexed, minilm, settings).weights.words > 0
    judge(indexed, minilm, unrelated(functions, 80))  # a newer training set says otherwise
    assert learned(indexed, minilm, settings).weights == MEANING_ALONE
    assert serving_index(indexed).by_meaning_alone
    with indexed.connect() as connection:
        assert connection.execute("SELECT count(*) FROM ranking_weights").fetchone() == (2,)


def test_what_was_proven_stands_until_it_does_harm(
    indexed: Database, settings: Settings, minilm: Encoder, functions: Functions
) -> None:
    """Else the ranking would change with each night that is just short of a proof."""
    half = list(names(functions, 40).items())[:22] + list(unrelated(functions, 80).items())[40:80]
    judge(indexed, minilm, dict(half))
    short = learned(indexed, minilm, settings)
    assert short.weights == MEANING_ALONE
    assert short.evidence["difference"]["mean"] > 0 >= short.evidence["difference"]["low"]
    judge(indexed, minilm, names(functions, 80))
    assert learned(indexed, minilm, settings).evidence["proven"]
    for _ in range(2):
        judge(indexed, minilm, dict(half[::-1]))
        stands = learned(indexed, minilm, settings)
        assert not stands.evidence["proven"]
        assert stands.weights._asdict() == stands.evidence["fitted"] != MEANING_ALONE._asdict()
        assert "no reason either to give up" in stands.evidence["reason"]
        half = half[1:]
    judge(indexed, minilm, unrelated(functions, 80))
    assert learned(indexed, minilm, settings).weights == MEANING_ALONE


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

    monkeypatch.setattr(learning, "_judged", forbidden)
    assert learned(indexed, minilm, settings) == first
    with indexed.connect() as connection:
        assert connection.execute("SELECT count(*) FROM ranking_weights").fetchone() == (1,)
        assert ranking_weights(connection, minilm.version) == first
    stricter = settings.model_copy(update={"gate_min_queries": 61})
    assert learned(indexed, minilm, stricter).weights == MEANING_ALONE


def test_a_question_weighs_what_the_caps_on_people_left_of_it(
    indexed: Database, settings: Settings, minilm: Encoder, functions: Functions
) -> None:
    capped, believed = names(functions, 2)
    judge(indexed, minilm, names(functions, 2))
    first = learned(indexed, minilm, settings)
    with indexed.connect() as connection:
        connection.execute("UPDATE training_pairs SET weight = 0.25 WHERE query = %s", [capped])
        questions = judged_questions(connection, minilm.version)
    assert {each.text: each.weight for each in questions} == {capped: 0.25, believed: 1.0}
    # Other weights are other evidence.
    again = learned(indexed, minilm, settings)
    assert again.evidence["fingerprint"] != first.evidence["fingerprint"]


def test_answers_that_vanished_are_left_out(
    indexed: Database, settings: Settings, minilm: Encoder, functions: Functions
) -> None:
    queries = names(functions, 60)
    judge(indexed, minilm, queries)
    vanish(indexed, list(queries.values())[:20])
    weight = learned(indexed, minilm, settings)
    assert (weight.evidence["questions"], weight.evidence["measured"], weight.weights) == (
        60,
        40,
        MEANING_ALONE,
    )
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
    # Ten of these were trained on before.
    judge(db, minilm, dict([*asked[:15], *asked[30:40]]), split="validation", same_set=True)
    judge(db, minilm, dict(asked[40:]), split="test", same_set=True)
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


@pytest.fixture
def tuned(
    indexed: Database,
    settings: Settings,
    minilm: Encoder,
    functions: Functions,
    tmp_path_factory: pytest.TempPathFactory,
) -> Model:
    """A model that was trained from the base, on half of eighty queries, and serves in its place."""
    model = load_perturbed(tmp_path_factory.mktemp("tuned") / "model", functions)
    asked = list(names(functions, 80).items())
    seen = judge(indexed, minilm, dict(asked[:40]), split="train")
    judge(indexed, minilm, dict(asked[40:]), split="validation", same_set=True)
    register(indexed, model, minilm, seen)
    with indexed.connect() as connection:
        connection.execute(
            "UPDATE model_versions SET state = 'approved' WHERE version = %s", [model.encoder.version]
        )
    flip(indexed, index_of(indexed, model, settings), actor="index", reasons=["test"], settings=settings)
    return model


def test_a_model_takes_over_what_was_proven_for_its_base(
    indexed: Database, settings: Settings, minilm: Encoder, tuned: Model
) -> None:
    """The base saw none of the eighty queries; forty are too few to prove anything for the tuned model."""
    bench = Workbench(settings)
    learned = learn_ranking(bench, serving_index(indexed), Silent(), changed=True)
    with indexed.connect() as connection:
        base = ranking_weights(connection, minilm.version)
    assert base is not None
    assert base.evidence["proven"]
    assert base.evidence["questions"] == 80
    assert (learned.model_version, learned.weights) == (tuned.encoder.version, base.weights)
    assert learned.evidence["inherited_from"] == minilm.version
    assert "40 judged queries" in learned.evidence["reason"]
    assert "taken over" in learned.evidence["reason"]
    assert learn_ranking(bench, serving_index(indexed), Silent(), changed=False) == learned


def test_from_its_first_search_on_it_ranks_by_what_it_takes_over(
    indexed: Database, minilm: Encoder, tuned: Model
) -> None:
    """The gate has measured it in this order; by meaning alone nobody has."""
    assert serving_index(indexed).model_version == tuned.version
    assert serving_index(indexed).by_meaning_alone  # as long as nothing was learned for either

    def counting() -> Weights:
        with indexed.connect() as connection:
            serving, before = serving_index(connection), verified_index(connection, minilm.version)
            assert before is not None
            assert (before.lexical_weight, before.crowding_weight) == Weights(0.2, 0.3)
            assert weights_in_force(connection) == weights_to_serve(connection, tuned.version)
            assert weights_in_force(connection) == (serving.lexical_weight, serving.crowding_weight)
            return weights_in_force(connection)

    def learn(model_version: str, weights: Weights) -> None:
        with indexed.connect() as connection:
            store_weights(connection, RankingWeights(model_version, weights, {"fingerprint": "test"}))

    learn(minilm.version, MEANING_ALONE)
    learn(minilm.version, Weights(0.2, 0.3))
    assert counting() == Weights(0.2, 0.3)
    learn(tuned.version, Weights(0.1, 0.0))
    assert counting() == Weights(0.1, 0.0)
    learn(tuned.version, MEANING_ALONE)  # its own queries have said that those make them worse
    learn(minilm.version, Weights(0.2, 0.3))
    assert counting() == MEANING_ALONE


def test_weights_of_its_own_have_to_beat_what_it_would_take_over(settings: Settings) -> None:
    """Fewer queries know less, unless they know otherwise beyond chance."""
    true = Weights(0.25, 0.5)
    queries = drawn(400, true)
    near, far = (RankingWeights("base", each, {}) for each in (Weights(0.3, 0.4), Weights(0.9, 0.0)))
    own, evidence = verdict(queries, 400, None, settings)
    assert evidence["proven"]
    weights, evidence = verdict(queries, 400, near, settings)
    assert weights == near.weights
    assert (evidence["proven"], evidence["inherited_from"]) == (False, "base")
    weights, evidence = verdict(queries, 400, far, settings)
    assert weights == own
    assert evidence["proven"]
    assert "over those of the model it was trained from" in evidence["reason"]
    assert evidence["ndcg@10"]["held_out"] > evidence["ndcg@10"]["before"]


def test_what_makes_its_own_queries_worse_is_not_taken_over(settings: Settings) -> None:
    """Where meaning alone decides, a little of something else does no harm, and much of it does."""
    queries = drawn(200, MEANING_ALONE)
    little, much = (RankingWeights("base", Weights(0.0, each), {}) for each in (0.01, 1.0))
    weights, evidence = verdict(queries, 200, little, settings)
    assert weights == little.weights
    assert (evidence["proven"], evidence["inherited_from"]) == (False, "base")
    weights, evidence = verdict(queries, 200, much, settings)
    assert weights == MEANING_ALONE
    assert "make them worse" in evidence["reason"]
    assert evidence["difference_inherited"]["high"] < 0
    assert "inherited_from" not in evidence


def test_whom_the_caps_silence_proves_nothing_and_stops_no_proof(settings: Settings) -> None:
    """A script's many questions weigh next to nothing in the fit, and so they do in the proof."""
    honest = drawn(150, Weights(0.25, 0.5))
    own, alone = verdict(honest, 150, None, settings)
    assert alone["proven"]
    against = [replace(each, weight=1e-6) for each in drawn(600, Weights(-1.0, -1.0), seed=9)]
    weights, evidence = verdict([*honest, *against], 750, None, settings)
    assert evidence["proven"]
    assert weights == pytest.approx(own, abs=0.01)
    assert evidence["difference"]["mean"] == pytest.approx(alone["difference"]["mean"], abs=0.01)
    assert evidence["ndcg@10"]["alone"] == pytest.approx(alone["ndcg@10"]["alone"], abs=1e-3)
    few = drawn(20, MEANING_ALONE, seed=3)
    many = [replace(each, weight=1e-6) for each in drawn(600, Weights(0.25, 0.5), seed=9)]
    assert not verdict([*few, *many], 620, None, settings)[1]["proven"]


def test_questions_that_all_weigh_the_same_prove_what_they_did(settings: Settings) -> None:
    queries = drawn(100, Weights(0.25, 0.5))
    halved = [replace(each, weight=0.5) for each in queries]
    assert verdict(halved, 100, None, settings) == verdict(queries, 100, None, settings)
