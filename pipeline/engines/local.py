"""The engine of one machine: this process embeds, one chunk after another, and a few others cut files."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Settings
from pipeline.corpus.languages import get_language
from pipeline.engines.engine import Chunk, FileText
from pipeline.progress import Advance

if TYPE_CHECKING:
    from pipeline.corpus.digesting import Digest
    from pipeline.corpus.tokens import TokenBudget
    from pipeline.encoders.encoder import Encoder


class LocalEngine:
    """See `Engine`.

    Args:
        settings: `embed_chunk_size`, and what a `Digester` asks for.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def chunk_size(self, texts: int) -> int:
        """What the settings say: a chunk bounds memory, and here nobody waits for another."""
        del texts
        return self._settings.embed_chunk_size

    def backends(self, encoder: Encoder) -> tuple[str, ...]:
        """See `Engine.backends`."""
        return encoder.backends

    def embed(
        self, encoder: Encoder, chunks: Iterable[Chunk], advance: Advance
    ) -> Generator[tuple[Chunk, NDArray[np.float32]]]:
        """See `Engine.embed`; in their order."""
        for chunk in chunks:
            yield chunk, encoder.embed_documents(chunk.texts, advance)

    def digest(self, files: Iterable[FileText], tokens: TokenBudget) -> Generator[tuple[FileText, Digest]]:
        """See `Engine.digest`."""
        from pipeline.corpus.digesting import Digester

        with Digester(self._settings, tokens) as digester:
            begun = (
                (file, digester.begin(file.path, file.source, get_language(file.language))) for file in files
            )
            for file, ended in digester.ahead(begun):
                yield file, ended()
