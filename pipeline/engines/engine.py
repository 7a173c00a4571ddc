"""The one thing that work is handed to, and the setting that says which one it is."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Settings
from pipeline.progress import Advance

if TYPE_CHECKING:
    from pipeline.corpus.digesting import Digest
    from pipeline.corpus.tokens import TokenBudget
    from pipeline.encoders.encoder import Encoder


@dataclass(frozen=True)
class Chunk:
    """Texts to embed, and the hash of each."""

    hashes: Sequence[bytes]
    texts: Sequence[str]


@dataclass(frozen=True)
class FileText:
    """A file to cut: its path in its repository, its bytes, its language, and the hash of its bytes."""

    path: str
    source: bytes
    language: str
    blob_hash: str


class Engine(Protocol):
    """Computes. Whatever the engine, the results are the same: vectors to 1e-5, snippets to the byte."""

    def chunk_size(self, texts: int) -> int:
        """How many of `texts` to put into one chunk."""
        ...

    def backends(self, encoder: Encoder) -> tuple[str, ...]:
        """What computes each member of `encoder` in `embed`: `torch` or `onnx`."""
        ...

    def embed(
        self, encoder: Encoder, chunks: Iterable[Chunk], advance: Advance
    ) -> Generator[tuple[Chunk, NDArray[np.float32]]]:
        """The vectors of each chunk, each once, in whatever order they are done.

        Args:
            encoder: Whose vectors.
            chunks: Read as they are needed, a few ahead at the most; always between two results.
            advance: Told how many texts more are done.
        """
        ...

    def digest(self, files: Iterable[FileText], tokens: TokenBudget) -> Generator[tuple[FileText, Digest]]:
        """What becomes of each file, in their order.

        Args:
            files: Read as they are needed, some ahead at the most; always between two results.
            tokens: How long a snippet may be.
        """
        ...


def engine_for(settings: Settings, note: Callable[[str], None]) -> Engine:
    """The engine that the settings name.

    Args:
        settings: Also say what it is like.
        note: Told, a line at a time, what keeps it waiting.

    Raises:
        HoneloopError: Ray is not installed, its cluster cannot be reached, or a node of it does not fit.
    """
    if settings.engine == "ray":
        from pipeline.engines.ray_engine import RayEngine

        return RayEngine(settings, note)
    from pipeline.engines.local import LocalEngine

    return LocalEngine(settings)
