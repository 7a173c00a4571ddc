"""What runs on a node: Ray makes an actor of it. It gets everything handed and speaks to no database."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.engines.shipping import ShippedModel, unpack_model

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder


class Embedder:
    """An encoder on one device."""

    def __init__(self) -> None:
        self._encoder: Encoder | None = None

    def open(self, shipped: ShippedModel, device: str | None, batch_size: int) -> str:
        """Loads it. Not done by `__init__`: Ray tells of an error there as text only. Returns the device."""
        with tempfile.TemporaryDirectory(prefix="honeloop-model-") as directory:
            self._encoder = unpack_model(shipped, Path(directory), device=device, batch_size=batch_size)
        return self._encoder.device

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder.embed_documents`."""
        assert self._encoder is not None
        return self._encoder.embed_documents(texts)
