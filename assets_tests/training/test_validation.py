"""The validation metric: what a plain ranking of the same candidates gives, and the same one every time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from pipeline.encoders.encoder import Encoder
from pipeline.training import losses
from pipeline.training.batches import PairCollator, token_table
from pipeline.training.losses import embed_batch
from pipeline.training.pairs import Negative, Pair
from pipeline.training.validation import EACH, VALIDATION_LOSS, Validation, embed

ranking_loss = partial(losses.ranking_loss, temperature=0.05)
triplet_loss = partial(losses.triplet_loss, margin=0.5)


def test_the_metrics_are_those_of_a_plain_ranking(minilm: Encoder, click_pairs: list[Pair]) -> None:
    pairs = [pair for pair in click_pairs if pair.split == "validation"]
    model = minilm.sentence_transformer()
    validation = Validation(pairs, 100)
    measured = validation.measure(model, token_table(model, validation.texts, minilm.max_tokens))

    documents = list(
        dict.fromkeys(text for p in pairs for text in (p.positive_text, *(n.text for n in p.negatives)))
    )
    scores = minilm.embed_queries([p.query for p in pairs]) @ minilm.embed_documents(documents).T
    relevance = np.array([[text == pair.positive_text for text in documents] for pair in pairs])
    assert measured["ndcg@10"] == pytest.approx(ndcg_score(relevance, scores, k=10), abs=1e-6)
    own = scores[relevance]
    ranks = 1 + np.sum(scores > own[:, None], axis=1)
    assert measured["mrr@10"] == pytest.approx(np.mean(np.where(ranks <= 10, 1 / ranks, 0)), abs=1e-6)
    assert 0.5 < measured["mrr@10"] < 1


def test_the_same_pairs_are_chosen_in_whatever_order_they_come(click_pairs: list[Pair]) -> None:
    forwards, backwards = Validation(click_pairs, 10), Validation(click_pairs[::-1], 10)
    assert len(forwards.queries) == 10
    assert forwards.texts == backwards.texts


def test_a_query_with_two_answers_is_asked_once(minilm: Encoder, click_pairs: list[Pair]) -> None:
    first, second = click_pairs[:2]
    both = [first, replace(second, query=first.query, group_key=first.group_key), click_pairs[2]]
    model = minilm.sentence_transformer()
    validation = Validation(both, 10)
    assert sorted(validation.queries) == sorted({first.query, click_pairs[2].query})
    tokens = token_table(model, validation.texts, 64)
    assert validation.measure(model, tokens)["mrr@10"] == 1.0


def test_two_contents_of_one_text_are_found_by_either(minilm: Encoder, click_pairs: list[Pair]) -> None:
    first, second, third = (replace(pair, negatives=()) for pair in click_pairs[:3])
    # The same function with another docstring: another content, and the same text without documentation.
    twin = replace(second, positive_text=first.positive_text)
    negative = Negative(second.positive_hash, first.positive_text, "mined", None, None)
    other = replace(third, negatives=(negative,))
    model = minilm.sentence_transformer()
    validation = Validation([first, twin, other], 10)
    assert len(validation.documents) == len({first.positive_text, third.positive_text})
    measured = validation.measure(model, token_table(model, validation.texts, 64))
    assert 0 < measured["mrr@10"] <= 1


def test_the_validation_loss_is_the_training_loss_of_the_validation_pairs(
    minilm: Encoder, click_pairs: list[Pair]
) -> None:
    pairs = [pair for pair in click_pairs if pair.split == "validation"]
    model = minilm.sentence_transformer().eval()  # without dropout, as in validation
    validation = Validation(pairs, 100)
    tokens = token_table(model, validation.texts, 64)
    plain = validation.measure(model, tokens)
    assert VALIDATION_LOSS not in plain
    for size in (16, 5):
        measured = validation.measure(model, tokens, ranking_loss, size)
        assert {name: measured[name] for name in plain} == plain
        collator = PairCollator(validation._pairs, tokens)
        parts = np.array_split(np.arange(16), -(-16 // size))
        with torch.no_grad():
            batches = [collator([{"row": int(row)} for row in rows]) for rows in parts]
            found = [float(ranking_loss(*embed_batch(model, batch), batch)) for batch in batches]
        expected = np.average(found, weights=[len(rows) for rows in parts])
        assert measured[VALIDATION_LOSS] == pytest.approx(expected, abs=1e-5)


def test_pairs_without_negatives_have_no_triplet_loss(minilm: Encoder, click_pairs: list[Pair]) -> None:
    model = minilm.sentence_transformer()
    alone = [replace(pair, negatives=()) for pair in click_pairs[:4]]
    validation = Validation(alone, 10)
    tokens = token_table(model, validation.texts, 32)
    assert VALIDATION_LOSS not in validation.measure(model, tokens, triplet_loss, 2)
    some = Validation([*alone, click_pairs[5]], 10)
    tokens = token_table(model, some.texts, 32)
    assert 0 <= some.measure(model, tokens, triplet_loss, 2)[VALIDATION_LOSS] < 1


def test_the_queries_of_feedback_alone_decide_where_there_are_enough(
    minilm: Encoder, click_pairs: list[Pair]
) -> None:
    pairs = [
        replace(pair, origin="feedback") if number < 5 else pair
        for number, pair in enumerate(click_pairs[48:])
    ]
    model = minilm.sentence_transformer()
    tokens = token_table(model, Validation(pairs, 100).texts, 64)
    everything, too_few, enough = (Validation(pairs, 100, min_feedback=least) for least in (None, 6, 5))
    assert [each.decides for each in (everything, too_few, enough)] == ["all", "all", "feedback"]
    assert enough.counts == everything.counts == {"feedback": 5, "docstring": 11}
    whole, decided = everything.measure(model, tokens), enough.measure(model, tokens)
    assert decided["by_origin"] == whole["by_origin"]
    assert decided["ndcg@10"] == whole["by_origin"]["feedback"]["ndcg@10"] != whole["ndcg@10"]
    both = whole["by_origin"]
    mean = (5 * both["feedback"]["ndcg@10"] + 11 * both["docstring"]["ndcg@10"]) / 16
    assert whole["ndcg@10"] == pytest.approx(mean)
    assert np.mean(decided[EACH]) == pytest.approx(decided["ndcg@10"])
    # The limit is for each of them, so that neither crowds the other out.
    assert Validation(pairs, 3, min_feedback=2).counts == {"feedback": 3, "docstring": 3}


def test_prompts_stand_before_what_they_are_for(click_pairs: list[Pair]) -> None:
    validation = Validation(click_pairs[:3], 10, "query: ", "code: ")
    assert all(text.startswith("query: ") for text in validation.queries)
    assert all(text.startswith("code: ") for text in validation.documents)


@pytest.mark.parametrize("training", [True, False])
def test_measuring_leaves_the_models_mode_alone(
    minilm: Encoder, click_pairs: list[Pair], training: bool
) -> None:
    model = minilm.sentence_transformer().train(training)
    texts = [click_pairs[0].query]
    once = embed(model, texts, token_table(model, texts, 32))
    assert model.training is training
    # Dropout is off while measuring, so it is repeatable.
    np.testing.assert_array_equal(once, embed(model, texts, token_table(model, texts, 32)))
