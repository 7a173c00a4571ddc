"""One model of an encoder: texts in, vectors out, by whichever backend computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.encoders.spec import MemberSpec
from pipeline.encoders.tokenizing import TextTokenizer

Role = Literal["query", "document"]

# Bounds the memory of one forward pass. More tokens at once are not faster: on a CPU throughput is the same
# within 5% from 512 to 4,096, and a batch that fits the cache leaves it to others too.
_BATCH_TOKENS = {"cpu": 2048}
_BATCH_TOKENS_ELSEWHERE = 16_384
# oneDNN compiles a kernel for every shape it meets, which takes longer than a few tokens of padding.
_LENGTH_STEP = 4


class Backend(Protocol):
    """What computes a model. Safe from several threads at once."""

    @property
    def name(self) -> str:
        """`torch` or `onnx`."""
        ...

    @property
    def device(self) -> str:
        """The device it computes on: `cpu`, `mps`, `cuda:0`."""
        ...

    @property
    def dtype(self) -> str:
        """The number format of its weights: `float32`, `bfloat16` or `int8`."""
        ...

    @property
    def pad_id(self) -> int:
        """The token that shorter texts are filled up with."""
        ...

    def run(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64], role: Role
    ) -> NDArray[np.float32]:
        """Vectors of one batch, shape (batch, dims), pooled, and of unit length if the model's spec says so.

        Args:
            input_ids: shape (batch, length); padding is on the right.
            attention_mask: the same shape, 1 for a token and 0 for padding.
            role: which of its adapters is in force.
        """
        ...


class Member:
    """A transformer with its tokenizer and what computes it.

    Args:
        spec: what the model is.
        directory: where its files are; `Encoder.sentence_transformer` loads them again from there.
        tokenizer: its tokenizer.
        backend: computes it.
    """

    def __init__(self, spec: MemberSpec, directory: Path, tokenizer: TextTokenizer, backend: Backend) -> None:
        self.spec = spec
        self.directory = directory
        self.tokenizer = tokenizer
        self.backend = backend

    def embed(
        self,
        texts: Sequence[str],
        role: Role,
        batch_size: int,
        advance: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Vectors of `texts`, shape (n, dims), in their order, of unit length if the spec says so.

        Tokenises all texts once, sorts them by length so that a batch hardly needs padding, and calls the
        model itself, without the per-batch work of `SentenceTransformer.encode`.
        """
        vectors = np.empty((len(texts), self.spec.dims), dtype=np.float32)
        ids = self.tokenizer.ids(prompted(self.spec, texts, role))
        # The longest first: if memory runs out, it does so at once.
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]), reverse=True)
        most = _BATCH_TOKENS.get(self.backend.device, _BATCH_TOKENS_ELSEWHERE)
        for batch in _batches(order, ids, batch_size, most):
            vectors[batch] = self.backend.run(*self._padded([ids[i] for i in batch]), role)
            if advance is not None:
                advance(len(batch))
        return vectors

    def _padded(self, ids: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """One batch's ids and attention mask, each of shape (batch, longest)."""
        longest = self._padded_length(ids)
        padded = np.full((len(ids), longest), self.backend.pad_id, dtype=np.int64)
        mask = np.zeros((len(ids), longest), dtype=np.int64)
        for row, sequence in enumerate(ids):
            padded[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = 1
        return padded, mask

    def _padded_length(self, ids: Sequence[Sequence[int]]) -> int:
        longest = max([1, *(len(sequence) for sequence in ids)])
        # Not beyond the limit: the model may have no positions there.
        return max(longest, min(-(-longest // _LENGTH_STEP) * _LENGTH_STEP, self.spec.max_tokens))


def prompted(spec: MemberSpec, texts: Sequence[str], role: Role) -> Sequence[str]:
    """The texts as the model reads them: with its prompt for the role in front."""
    prompt = spec.query_prompt if role == "query" else spec.document_prompt
    return [prompt + text for text in texts] if prompt else texts


def _batches(
    order: Sequence[int], ids: Sequence[Sequence[int]], batch_size: int, most_tokens: int
) -> Iterator[list[int]]:
    """Cuts `order` into batches of at most `batch_size` texts and, with padding, `most_tokens` tokens."""
    batch: list[int] = []
    for index in order:
        # Sorted by length, the longest first: the first of a batch is as long as the batch.
        if batch and (len(batch) == batch_size or (len(batch) + 1) * len(ids[batch[0]]) > most_tokens):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
