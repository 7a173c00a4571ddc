"""The losses of screened ideas by their formulas, and the teacher against one text after another."""

from __future__ import annotations

import math

import pytest
import torch

from assets_tests.benchmarks.distilling import (
    LATE_WEIGHT,
    SOFTNESS,
    divergence,
    judged_loss,
    pooled,
    teacher_of,
)
from pipeline.encoders.encoder import Encoder

QUERIES = ["read a csv file", "open a socket and listen"]
CODE = [
    "def read(path):\n    return list(csv.reader(open(path)))",
    "def listen(port):\n    server = socket.socket()\n    server.bind(port)\n    return server",
    "def add(one, other):\n    return one + other",
]


def test_the_teacher_is_the_cosine_and_the_nearest_token_of_each_of_the_querys(minilm: Encoder) -> None:
    teacher = teacher_of(minilm, [*QUERIES, *CODE], minilm.max_tokens)

    def words(text: str) -> torch.Tensor:
        with torch.no_grad():
            seen = teacher.model(teacher.tokens.padded([text]))
        return torch.nn.functional.normalize(seen["token_embeddings"][0, 1:-1], dim=-1)

    by_hand = [[(words(query) @ words(code).T).amax(dim=1).mean() for code in CODE] for query in QUERIES]
    cosines = torch.from_numpy(minilm.embed_queries(QUERIES) @ minilm.embed_documents(CODE).T)
    found, late = teacher.both(QUERIES, CODE)
    assert torch.allclose(late, torch.tensor(by_hand), atol=1e-5)
    assert torch.allclose(found, cosines, atol=1e-5)
    assert torch.allclose(teacher.scores(QUERIES, CODE), cosines + LATE_WEIGHT * late, atol=1e-5)
    assert (late.argmax(dim=1) == torch.tensor([0, 1])).all()
    vectors = pooled(teacher.model, teacher.tokens, CODE).detach()
    assert torch.allclose(vectors, torch.from_numpy(minilm.embed_documents(CODE)), atol=1e-5)


def test_a_student_that_orders_as_its_teacher_has_nothing_to_learn() -> None:
    taught = torch.tensor([[0.9, 0.1], [0.2, 0.4]])
    assert float(divergence(taught + 5, taught)) == pytest.approx(0, abs=1e-6)  # a softmax knows no level
    learned = torch.zeros(2, 2)
    wanted = (taught / SOFTNESS).softmax(dim=1)
    by_hand = (wanted * (wanted.log() - math.log(0.5))).sum() / 2
    assert float(divergence(learned, taught)) == pytest.approx(float(by_hand), rel=1e-5)


def test_rejects_lose_by_their_share_what_accepted_snippets_lose_by_the_others() -> None:
    scores = torch.tensor([[2.0, 1.0, 0.0], [0.5, 1.5, 3.0]])
    shares = scores.softmax(dim=1)
    loss = judged_loss(scores, torch.tensor([0, 2]), torch.tensor([True, False]))
    assert float(loss) == pytest.approx(float(-(shares[0, 0].log() + (1 - shares[1, 2]).log()) / 2), rel=1e-5)
