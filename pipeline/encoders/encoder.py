"""Encoder: texts to unit vectors, by one model or by several whose vectors are concatenated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.encoders.fingerprint import fingerprint
from pipeline.encoders.member import Member, Role, prompted
from pipeline.encoders.spec import EncoderSpec
from pipeline.errors import HoneloopError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Advance = Callable[[int], None]


class Encoder:
    """An encoder with fixed weights. Vectors have unit length, so cosine similarity is their dot product.

    Args:
        spec: what it is.
        members: its models, in the order of `spec.members`.
        files: SHA-256 by name of the files it was loaded from.
        batch_size: texts per forward pass.
        source: what `load_encoder` was given to load it; empty if it was put together by other means.

    Example: `load_encoder("minilm").embed_queries(["read a csv file"])`
    """

    def __init__(
        self,
        spec: EncoderSpec,
        members: Sequence[Member],
        files: Mapping[str, str],
        batch_size: int = 16,
        source: str = "",
    ) -> None:
        self.spec = spec
        self.files = dict(files)
        self.version = fingerprint(spec, files)
        self.batch_size = batch_size
        self.source = source
        self._members = tuple(members)

    @property
    def dims(self) -> int:
        """Length of its vectors."""
        return self.spec.dims

    @property
    def max_tokens(self) -> int:
        """The longest text it sees whole, in tokens."""
        return self.spec.max_tokens

    @property
    def device(self) -> str:
        """The device that all its members compute on: `cpu`, `mps`, `cuda:0`."""
        return self._members[0].backend.device

    @property
    def dtype(self) -> str:
        """The number format it computes in: `float32` or `bfloat16`; several with `+` between them.

        Vectors are float32 always.
        """
        return "+".join(dict.fromkeys(member.backend.dtype for member in self._members))

    @property
    def backends(self) -> tuple[str, ...]:
        """What computes each of its members: `torch` or `onnx`."""
        return tuple(member.backend.name for member in self._members)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of searches, shape (n, dims), in the order of `texts`."""
        return self._embed(texts, "query", None)

    def embed_documents(self, texts: Sequence[str], advance: Advance | None = None) -> NDArray[np.float32]:
        """Unit vectors of code, shape (n, dims), in the order of `texts`.

        Equal texts are computed once. `advance` is told how many of `texts` more are done.
        """
        return self._embed(texts, "document", advance)

    def stream_documents(
        self, texts: Iterable[str], chunk_size: int, advance: Advance | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Unit vectors of any number of texts, a chunk of `chunk_size` at a time, in input order.

        No more than one chunk is held, so memory does not grow with the corpus.
        """
        if chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, not {chunk_size}")
        remaining = iter(texts)
        while chunk := list(islice(remaining, chunk_size)):
            yield self.embed_documents(chunk, advance)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, special tokens and document prompt included.

        A text with at most `max_tokens` of them is seen whole. Of several members, the largest count holds.
        """
        counts = [
            member.tokenizer.count(prompted(member.spec, texts, "document")) for member in self._members
        ]
        return [max(each) for each in zip(*counts, strict=True)]

    def sentence_transformer(self) -> SentenceTransformer:
        """The trainable member as a SentenceTransformer of its own, for fine-tuning.

        It is loaded anew: training it does not change what this encoder computes.

        Raises:
            HoneloopError: no member is trainable.
        """
        from pipeline.encoders.sentence_transformer import build_sentence_transformer

        index = self.spec.trainable_member
        if index is None:
            raise HoneloopError(
                f"The encoder {self.spec.name!r} cannot be fine-tuned: all its members are frozen.",
                hint="Fine-tune minilm or qodo, or a directory of your own.",
            )
        member = self._members[index]
        return build_sentence_transformer(member.spec, member.directory, device=self.device)

    def _embed(self, texts: Sequence[str], role: Role, advance: Advance | None) -> NDArray[np.float32]:
        if isinstance(texts, str):
            raise TypeError("texts must be a sequence of strings, not one string")
        distinct = list(dict.fromkeys(texts))
        parts: list[NDArray[np.float32]] = []
        for member in self._members:
            # A text is done when its last member has seen it.
            told = advance if member is self._members[-1] else None
            parts.append(member.embed(distinct, role, self.batch_size, told))
        vectors = _unit(np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0])
        if len(distinct) == len(texts):
            return vectors
        if advance is not None:
            advance(len(texts) - len(distinct))
        row = {text: i for i, text in enumerate(distinct)}
        return vectors[[row[text] for text in texts]]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, np.finfo(np.float32).tiny)
