"""Batches hold every pair once, no false negatives, and texts in groups of like length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import pytest

from assets_tests.training.click_pairs import content_hash
from pipeline.encoders.encoder import Encoder
from pipeline.training.batches import PairCollator, plan_batches, token_table
from pipeline.training.pairs import Negative, Pair


def texts_of(pairs: list[Pair]) -> list[str]:
    return [
        text
        for p in pairs
        for text in (p.query, p.positive_text, *(negative.text for negative in p.negatives))
    ]


def batch_of(encoder: Encoder, pairs: list[Pair], max_tokens: int = 32) -> dict[str, Any]:
    model = encoder.sentence_transformer()
    collator = PairCollator(pairs, token_table(model, texts_of(pairs), max_tokens))
    return collator([{"row": row} for row in range(len(pairs))])


def test_each_epoch_has_every_row_once() -> None:
    batches = plan_batches(70, 32, epochs=2, seed=1)
    rows = [row for batch in batches for row in batch]
    assert Counter(rows) == dict.fromkeys(range(70), 2)
    assert sorted(rows[:70]) == list(range(70))


def test_no_batch_is_a_mere_remainder() -> None:
    assert sorted(len(batch) for batch in plan_batches(65, 32, epochs=1, seed=1)) == [21, 22, 22]


def test_the_order_depends_on_the_seed_and_the_epoch_only() -> None:
    assert plan_batches(50, 8, 2, seed=1) == plan_batches(50, 8, 2, seed=1)
    assert plan_batches(50, 8, 1, seed=1) != plan_batches(50, 8, 1, seed=2)
    batches = plan_batches(50, 8, 2, seed=1)
    assert batches[:7] != batches[7:]


def test_groups_hold_all_texts_within_their_budget(minilm: Encoder, click_pairs: list[Pair]) -> None:
    texts = list(dict.fromkeys(texts_of(click_pairs)))
    tokens = replace(token_table(minilm.sentence_transformer(), texts, 64), chunk_tokens=256)
    groups = tokens.chunks(texts)
    assert sorted(position for group in groups for position in group) == list(range(len(texts)))
    for group in groups:
        lengths = [len(tokens.ids[texts[i]]) for i in group]
        assert len(group) * max(lengths) <= 256
    padded = sum(len(group) * max(len(tokens.ids[texts[i]]) for i in group) for group in groups)
    real = sum(len(tokens.ids[text]) for text in texts)
    assert padded < 1.15 * real


def test_groups_are_the_cheapest_there_are(minilm: Encoder, click_pairs: list[Pair]) -> None:
    """Beside every other way to cut texts of falling length."""
    texts = list(dict.fromkeys(texts_of(click_pairs)))[:11]
    model = minilm.sentence_transformer()

    def cost(sizes: Sequence[Sequence[int]], each: int) -> int:
        return sum(len(group) * group[0] + each for group in sizes)

    for most, each in ((128, 0), (128, 40), (300, 64), (10_000, 200)):
        tokens = replace(token_table(model, texts, 64), chunk_tokens=most, chunk_cost=each)
        found = [[len(tokens.ids[texts[i]]) for i in group] for group in tokens.chunks(texts)]
        lengths = sorted((len(ids) for ids in tokens.ids.values()), reverse=True)
        assert [length for group in found for length in group] == lengths
        ways = [
            [lengths[start:end] for start, end in pairwise([0, *places, len(lengths)])]
            for count in range(len(lengths))
            for places in combinations(range(1, len(lengths)), count)
        ]
        allowed = [way for way in ways if all(len(group) * group[0] <= most for group in way)]
        assert cost(found, each) == min(cost(way, each) for way in allowed)
    assert tokens.chunks([]) == []
    narrow = replace(tokens, chunk_tokens=1)  # than any text is long
    assert sorted(narrow.chunks(texts[:3])) == [[0], [1], [2]]


def test_tokens_are_the_models_own_cut_off_at_the_limit(minilm: Encoder, click_pairs: list[Pair]) -> None:
    model = minilm.sentence_transformer()
    before = model.tokenizer.backend_tokenizer.to_str()
    text = click_pairs[0].positive_text
    tokens = token_table(model, [text], 16)
    assert model.tokenizer.backend_tokenizer.to_str() == before
    whole = model.tokenizer(text)["input_ids"]
    assert tokens.ids[text] == [*whole[:15], whole[-1]]


def test_text_that_is_no_unicode_is_still_tokenised(minilm: Encoder) -> None:
    odd = "open('caf\udce9')"
    assert len(token_table(minilm.sentence_transformer(), [odd], 16).ids[odd]) > 2


def test_pairs_with_and_without_a_negative_share_a_batch(minilm: Encoder, click_pairs: list[Pair]) -> None:
    pair, alone = click_pairs[1], click_pairs[0]
    assert len(pair.negatives) == 1
    assert alone.negatives == ()
    batch = batch_of(minilm, [pair, alone])
    assert batch["allowed"].tolist() == [[True, True, True], [True, True, True]]
    assert batch["positive"].tolist() == [0, 1]
    assert batch["mined"].tolist() == [[0, 2]]


def test_what_answers_a_query_is_no_negative_for_it(minilm: Encoder, click_pairs: list[Pair]) -> None:
    first, second = (replace(pair, negatives=()) for pair in click_pairs[:2])
    again = replace(second, query=f"  {first.query.upper()} ", group_key=first.group_key)
    batch = batch_of(minilm, [first, second, again])
    assert batch["allowed"].tolist() == [[True, False], [True, True], [False, True]]


def test_a_snippet_with_its_documentation_is_the_same_snippet(
    minilm: Encoder, click_pairs: list[Pair]
) -> None:
    plain = replace(click_pairs[0], negatives=())
    documented = f"# {plain.query}\n{plain.positive_text}"
    other = replace(
        click_pairs[1],
        negatives=(Negative(plain.positive_hash, documented, "mined", 0.5, 0.4),),
    )
    batch = batch_of(minilm, [plain, other])
    # Documents: the plain snippet, the other's, and the plain one again, documented.
    assert batch["allowed"].tolist() == [[True, True, False], [True, True, True]]


def test_a_negative_that_answers_the_query_is_left_out(minilm: Encoder, click_pairs: list[Pair]) -> None:
    pair = click_pairs[0]
    contradiction = Negative(pair.positive_hash, "another text", "mined", 0.5, 0.4)
    other = Negative(content_hash("pass"), "pass", "mined", 0.5, 0.4)
    batch = batch_of(minilm, [replace(pair, negatives=(contradiction, other))])
    assert batch["mined"].tolist() == [[0, 1]]
    assert batch["allowed"].tolist() == [[True, True]]


def test_what_may_be_an_answer_is_no_negative_in_the_batch_either(
    minilm: Encoder, click_pairs: list[Pair]
) -> None:
    """A near-duplicate of the answer, and what the query spares, whoever's positive or negative it is."""
    first, second, third = (replace(pair, negatives=()) for pair in click_pairs[:3])
    copies, unsure = b"c" * 32, b"u" * 32
    first = replace(first, copy_group=copies, spared=frozenset({unsure}))
    second = replace(second, copy_group=copies)
    doubtful = Negative(content_hash("pass"), "pass", "mined", 0.5, 0.4, copy_group=unsure)
    third = replace(third, negatives=(doubtful,))
    batch = batch_of(minilm, [first, second, third])
    assert batch["allowed"].tolist() == [
        [True, False, True, False],
        [False, True, True, True],
        [True, True, True, True],
    ]
    own = batch_of(minilm, [replace(first, negatives=(doubtful,)), third])
    assert own["mined"].tolist() == [[1, 2]]


def test_each_negative_carries_its_weight_to_its_own_query_only(
    minilm: Encoder, click_pairs: list[Pair]
) -> None:
    first, second = click_pairs[:2]
    doubted = Negative(content_hash("pass"), "pass", "passed-over", 0.5, 0.4, weight=0.25)
    refused = Negative(content_hash("raise"), "raise", "rejected", 0.5, 0.4)
    same_text = replace(doubted, content_hash=content_hash("pass, elsewhere"), weight=0.5)
    batch = batch_of(
        minilm,
        [replace(first, negatives=(doubted, refused)), replace(second, negatives=(doubted, same_text))],
    )
    assert batch["mined"].tolist() == [[0, 2], [0, 3], [1, 2], [1, 2]]
    assert batch["negative_weight"].tolist() == [0.25, 1, 0.25, 0.5]
    log = batch["log_weight"].exp().tolist()
    assert log[0] == pytest.approx([1, 1, 0.25, 1])
    assert log[1] == pytest.approx([1, 1, 0.5, 1])  # one text, twice a negative: the surer of the two


def test_a_positive_is_never_weighed_as_a_negative(minilm: Encoder, click_pairs: list[Pair]) -> None:
    pair = click_pairs[0]
    same = Negative(content_hash("another"), pair.positive_text, "passed-over", 0.5, 0.4, weight=0.1)
    batch = batch_of(minilm, [replace(pair, negatives=(same,)), replace(click_pairs[1], negatives=())])
    assert batch["log_weight"].tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("budget", [100, 10_000])
def test_each_vector_is_its_own_texts(minilm: Encoder, click_pairs: list[Pair], budget: int) -> None:
    import numpy as np
    import torch

    from pipeline.training.losses import embed_batch

    pairs = click_pairs[:4]
    model = minilm.sentence_transformer().eval()
    tokens = replace(token_table(model, texts_of(pairs), minilm.max_tokens), chunk_tokens=budget)
    batch = PairCollator(pairs, tokens)([{"row": row} for row in range(4)])
    with torch.inference_mode():
        queries, documents = embed_batch(model, batch)
    positives = documents[batch["positive"]].numpy()
    np.testing.assert_allclose(queries.numpy(), minilm.embed_queries([p.query for p in pairs]), atol=1e-5)
    np.testing.assert_allclose(positives, minilm.embed_documents([p.positive_text for p in pairs]), atol=1e-5)
