"""The real MiniLM through Encoder: the vectors of Sentence Transformers, in order, streamed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from pipeline.encoders.encoder import Encoder
from pipeline.encoders.loading import load_encoder
from pipeline.encoders.quiet import quiet
from pipeline.errors import HoneloopError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

UNUSUAL = ["", " \n", "größe = 名前  # данные 🐝", "x" * 3000, "\x00\ufeff"]


@pytest.fixture(scope="module")
def texts(functions: list[str]) -> list[str]:
    """Forty real functions of all lengths, shuffled, and what people did not think of."""
    by_length = sorted(set(functions), key=len)
    chosen = by_length[:: max(1, len(by_length) // 40)] + UNUSUAL
    random.Random(3).shuffle(chosen)
    return chosen


def test_vectors_are_those_of_sentence_transformers(
    minilm: Encoder, reference: SentenceTransformer, texts: list[str]
) -> None:
    assert max(minilm.count_tokens(texts)) > minilm.max_tokens  # some are cut off
    expected = reference.encode(texts, batch_size=7, normalize_embeddings=True, show_progress_bar=False)
    vectors = minilm.embed_documents(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(texts), minilm.dims)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(minilm.embed_queries(texts[:5]), expected[:5], rtol=0, atol=1e-5)


def test_batches_do_not_change_vectors(minilm: Encoder, texts: list[str]) -> None:
    alone = np.concatenate([minilm.embed_documents([text]) for text in texts[:12]])
    np.testing.assert_allclose(minilm.embed_documents(texts[:12]), alone, rtol=0, atol=1e-6)


def test_equal_texts_are_embedded_once_and_every_place_is_filled(minilm: Encoder) -> None:
    computed: list[int] = []
    one, other = "def one(): return 1", "def other(x): return x + 2"
    given = [one, other, one, one, other]
    vectors = minilm.embed_documents(given, computed.append)
    assert sum(computed) == len(given)
    assert (vectors[0] == vectors[2]).all()
    assert (vectors[1] == vectors[4]).all()
    np.testing.assert_allclose(vectors[:2], minilm.embed_documents([one, other]), atol=1e-6)
    # Two distinct texts make two vectors, whatever the number of copies: the model saw one batch of two.
    assert computed == [2, 3]


def test_nothing_gives_no_vectors(minilm: Encoder) -> None:
    assert minilm.embed_documents([]).shape == (0, minilm.dims)
    assert minilm.embed_queries([]).shape == (0, minilm.dims)
    assert list(minilm.stream_documents([], chunk_size=8)) == []
    assert minilm.count_tokens([]) == []


def test_one_string_is_not_taken_for_many(minilm: Encoder) -> None:
    with pytest.raises(TypeError, match="not one string"):
        minilm.embed_documents("def one(): return 1")


def test_half_a_surrogate_pair_does_not_stop_a_batch(minilm: Encoder) -> None:
    vectors = minilm.embed_documents(["name = '\udc80'", "def one(): return 1"])
    assert np.isfinite(vectors).all()


def test_streaming_reads_one_chunk_ahead_and_keeps_the_order(minilm: Encoder, texts: list[str]) -> None:
    read = 0

    def counted() -> Iterator[str]:
        nonlocal read
        for text in texts[:20]:
            read += 1
            yield text

    parts: list[np.ndarray] = []
    for number, chunk in enumerate(minilm.stream_documents(counted(), chunk_size=6), start=1):
        assert read == min(6 * number, 20)
        parts.append(chunk)
    assert [len(part) for part in parts] == [6, 6, 6, 2]
    np.testing.assert_allclose(np.concatenate(parts), minilm.embed_documents(texts[:20]), rtol=0, atol=1e-6)


def test_a_chunk_must_hold_something(minilm: Encoder) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        next(minilm.stream_documents(["x"], chunk_size=0))


def test_tokens_are_counted_whole(minilm: Encoder, reference: SentenceTransformer, texts: list[str]) -> None:
    tokenizer = reference.tokenizer
    expected = [len(ids) for ids in tokenizer(texts, truncation=False, verbose=False)["input_ids"]]
    assert minilm.count_tokens(texts) == expected


def test_threads_may_search_at_once(minilm: Encoder, texts: list[str]) -> None:
    expected = minilm.embed_queries(texts[:8])
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda text: minilm.embed_queries([text]), texts[:8]))
    np.testing.assert_allclose(np.concatenate(answers), expected, rtol=0, atol=1e-6)


def test_training_what_an_encoder_gives_leaves_the_encoder_alone(minilm: Encoder) -> None:
    text = "def one(): return 1"
    before = minilm.embed_documents([text])
    model = minilm.sentence_transformer()
    np.testing.assert_allclose(model.encode([text], show_progress_bar=False), before, rtol=0, atol=1e-5)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    features = model.preprocess([text, "class Other: pass"])
    vectors = model(features)["sentence_embedding"]
    (vectors[0] @ vectors[1]).backward()
    optimizer.step()
    model.eval()
    assert np.abs(model.encode([text], show_progress_bar=False) - before).max() > 1e-3
    assert (minilm.embed_documents([text]) == before).all()


def test_a_saved_model_is_an_encoder_again(minilm: Encoder, tmp_path: Path, texts: list[str]) -> None:
    model = minilm.sentence_transformer()
    with quiet():
        model.save_pretrained(str(tmp_path / "saved"))
    again = load_encoder(str(tmp_path / "saved"), device="cpu")
    assert (again.dims, again.max_tokens) == (minilm.dims, minilm.max_tokens)
    np.testing.assert_allclose(
        again.embed_documents(texts[:6]), minilm.embed_documents(texts[:6]), rtol=0, atol=1e-6
    )


def test_a_concatenation_is_the_unit_vector_of_its_members_side_by_side(
    minilm: Encoder, model_copy: Path, tmp_path: Path, texts: list[str]
) -> None:
    # The same weights pooled by the first token: another encoder.
    (model_copy / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 384, "pooling_mode_cls_token": true}', encoding="utf-8"
    )
    both = load_encoder(f"minilm+{model_copy}", device="cpu")
    other = load_encoder(str(model_copy), device="cpu")
    assert both.dims == 2 * minilm.dims
    assert [member.trainable for member in both.spec.members] == [True, False]
    sides = np.concatenate([minilm.embed_documents(texts[:6]), other.embed_documents(texts[:6])], axis=1)
    expected = sides / np.linalg.norm(sides, axis=1, keepdims=True)
    done: list[int] = []
    vectors = both.embed_documents(texts[:6], done.append)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-6)
    assert sum(done) == 6
    assert both.count_tokens(texts) == minilm.count_tokens(texts)
    assert len({both.version, minilm.version, other.version}) == 3


def test_a_frozen_encoder_cannot_be_fine_tuned(minilm: Encoder) -> None:
    frozen = minilm.spec.members[0].model_copy(update={"trainable": False})
    encoder = Encoder(minilm.spec.model_copy(update={"members": (frozen,)}), (), {})
    with pytest.raises(HoneloopError, match="cannot be fine-tuned"):
        encoder.sentence_transformer()


def test_prompts_stand_in_front_of_queries_and_documents(minilm: Encoder, model_copy: Path) -> None:
    (model_copy / "config_sentence_transformers.json").write_text(
        '{"prompts": {"query": "query: ", "passage": "code: "}}', encoding="utf-8"
    )
    encoder = load_encoder(str(model_copy), device="cpu")
    for role, prompt in (("embed_queries", "query: "), ("embed_documents", "code: ")):
        np.testing.assert_allclose(
            getattr(encoder, role)(["read a file"]),
            minilm.embed_documents([prompt + "read a file"]),
            rtol=0,
            atol=1e-6,
        )
    assert encoder.count_tokens(["read"])[0] == minilm.count_tokens(["code: read"])[0]
