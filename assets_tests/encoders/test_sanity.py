"""The sanity checks: the real model passes them all, and each fault fails the check that is for it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.encoders.encoder import Advance, Encoder
from pipeline.encoders.sanity import check_sanity

Vectors = NDArray[np.float32]
Fault = Callable[[Vectors, Sequence[str]], Vectors]
NAMES = [
    "same text twice",
    "repeated runs",
    "different code",
    "documentation and code",
    "shape",
    "unit length",
    "finite",
    "unusual text",
    "order and count",
]


class Faulty(Encoder):
    """The real encoder's vectors, each text computed once for all faults, with one fault put into them."""

    known: ClassVar[dict[str, Vectors]] = {}

    def __init__(self, sound: Encoder, fault: Fault) -> None:
        super().__init__(sound.spec, (), {})
        self._sound = sound
        self._fault = fault

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.embed_documents(texts)

    def embed_documents(self, texts: Sequence[str], advance: Advance | None = None) -> Vectors:
        del advance
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        self.known.update(zip(new, self._sound.embed_documents(new), strict=True))
        vectors = np.array([self.known[text] for text in texts], dtype=np.float32)
        return self._fault(vectors.reshape(len(texts), self.dims), texts)


def noisy(vectors: Vectors, texts: Sequence[str]) -> Vectors:
    del texts
    noise = np.random.default_rng().normal(scale=1e-3, size=vectors.shape)
    return (vectors + noise).astype(np.float32)


def constant(vectors: Vectors, texts: Sequence[str]) -> Vectors:
    del texts
    return np.full_like(vectors, 1 / math.sqrt(vectors.shape[1]))


def reversed_rows(vectors: Vectors, texts: Sequence[str]) -> Vectors:
    del texts
    return vectors[::-1]


def one_short(vectors: Vectors, texts: Sequence[str]) -> Vectors:
    return vectors[:-1] if len(texts) > 2 else vectors


def too_wide(vectors: Vectors, texts: Sequence[str]) -> Vectors:
    del texts
    return np.concatenate([vectors, vectors], axis=1)


def too_long(vectors: Vectors, texts: Sequence[str]) -> Vectors:
    del texts
    return vectors * np.float32(1.01)


def not_a_number(vectors: Vectors, texts: Sequence[str]) -> Vectors:
    del texts
    changed = vectors.copy()
    changed[:1, :1] = np.nan
    return changed


def fails_on_nothing(vectors: Vectors, texts: Sequence[str]) -> Vectors:
    if "" in texts:
        raise IndexError("no tokens")
    return vectors


def opposite(vectors: Vectors, texts: Sequence[str]) -> Vectors:
    # Queries are sentences and end with a full stop; code does not.
    return -vectors if texts and texts[0].endswith(".") else vectors


def test_the_real_model_is_sound(minilm: Encoder) -> None:
    results = check_sanity(minilm)
    assert [result.name for result in results] == NAMES
    assert [result.message for result in results if not result.passed] == []


@pytest.mark.parametrize(
    ("fault", "failing"),
    [
        (noisy, {"repeated runs"}),
        (constant, {"different code", "documentation and code"}),
        (reversed_rows, {"same text twice", "order and count"}),
        (one_short, {"shape", "order and count"}),
        (too_wide, {"shape", "unit length", "unusual text"}),
        (too_long, {"unit length", "unusual text"}),
        (not_a_number, {"finite", "unusual text", "same text twice", "unit length"}),
        (fails_on_nothing, {"unusual text"}),
        (opposite, {"documentation and code"}),
    ],
)
def test_each_fault_is_found(minilm: Encoder, fault: Fault, failing: set[str]) -> None:
    results = check_sanity(Faulty(minilm, fault))
    assert [result.name for result in results] == NAMES
    failed = {result.name: result.message for result in results if not result.passed}
    assert failing <= set(failed)
    assert all(failed.values())
    # What is stored in the registry must be JSON, which has no NaN.
    json.dumps([asdict(result) for result in results], allow_nan=False)
