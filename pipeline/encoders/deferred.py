"""An encoder known by its registered spec and version, whose weights are read when a text needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.encoders.encoder import Advance, Encoder
from pipeline.encoders.spec import EncoderSpec
from pipeline.errors import HoneloopError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class DeferredEncoder(Encoder):
    """Behaves as the encoder that `load` gives; a run with nothing to embed never loads torch.

    Args:
        spec: what it is, as registered; `dims` and `max_tokens` come from it.
        version: its registered fingerprint, which the loaded weights must have.
        location: where it is loaded from.
        load: reads and verifies it.

    Raises:
        HoneloopError: on first use, when it cannot be loaded, or when another version lies there now.
    """

    def __init__(self, spec: EncoderSpec, version: str, location: str, load: Callable[[], Encoder]) -> None:
        # Not super().__init__: what else it would set is read from the weights, see __getattr__.
        self.spec = spec
        self.version = version
        self.source = location
        self._load = load
        self._encoder: Encoder | None = None

    def __getattr__(self, name: str) -> Any:
        """`files` and `batch_size`, as those of the loaded encoder."""
        if name not in ("files", "batch_size"):
            raise AttributeError(name)
        return getattr(self._loaded(), name)

    @property
    def device(self) -> str:
        """The device it computes on."""
        return self._loaded().device

    @property
    def dtype(self) -> str:
        """The number format it computes in."""
        return self._loaded().dtype

    @property
    def backends(self) -> tuple[str, ...]:
        """See `Encoder.backends`."""
        return self._loaded().backends

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder.embed_queries`."""
        return self._loaded().embed_queries(texts)

    def embed_documents(self, texts: Sequence[str], advance: Advance | None = None) -> NDArray[np.float32]:
        """See `Encoder.embed_documents`."""
        return self._loaded().embed_documents(texts, advance)

    def stream_documents(
        self, texts: Iterable[str], chunk_size: int, advance: Advance | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """See `Encoder.stream_documents`."""
        return self._loaded().stream_documents(texts, chunk_size, advance)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See `Encoder.count_tokens`."""
        return self._loaded().count_tokens(texts)

    def sentence_transformer(self) -> SentenceTransformer:
        """See `Encoder.sentence_transformer`."""
        return self._loaded().sentence_transformer()

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            encoder = self._load()
            if encoder.version != self.version:
                raise HoneloopError(
                    f"{self.source} no longer holds the model version {self.version[:12]} "
                    f"({self.spec.name}) but {encoder.version[:12]}.",
                    hint="Put the model's files back, or let another version serve with `honeloop promote`.",
                )
            self._encoder = encoder
        return self._encoder
