"""The validation metric: what a plain ranking of the same candidates gives, and the same one every time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from pipeline.encoders.encoder import Encoder
from pipeline.training.batches import token_table
from pipeline.training.pairs import Pair
from pipeline.training.validation import Validation, embed


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
    assert np.mean(enough.values(model, tokens)) == pytest.approx(decided["ndcg@10"])
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
