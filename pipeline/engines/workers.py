"""What runs on a node: Ray makes an actor of it. It gets everything handed and speaks to no database."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.digesting import Digest, Digester
from pipeline.corpus.languages import get_language
from pipeline.engines.engine import FileText
from pipeline.engines.lazy_ray import ray_module
from pipeline.engines.shipping import ShippedModel, ShippedRules, unpack_model, unpack_rules
from pipeline.errors import HoneloopError

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder


class Embedder:
    """An encoder on one device."""

    def __init__(self) -> None:
        self._encoder: Encoder | None = None

    def here(self) -> None:
        """That it answers says that it has room."""

    def open(self, shipped: ShippedModel, device: str | None, batch_size: int) -> str:
        """Loads it. Not done by `__init__`: Ray tells of an error there as text only.

        Args:
            shipped: Which one.
            device: "cpu"; else the worker has a GPU: a kind of them, or None for whatever kind it is.
            batch_size: Texts per forward pass.

        Returns:
            The device.

        Raises:
            HoneloopError: it is the CPU, and should not be: its vectors are no GPU's.
            BadInputError, DamagedModelError: see `unpack_model`.
        """
        with tempfile.TemporaryDirectory(prefix="honeloop-model-") as directory:
            encoder = unpack_model(shipped, Path(directory), device=device, batch_size=batch_size)
        if encoder.device == "cpu" and device != "cpu":
            address = ray_module().util.get_node_ip_address()
            raise HoneloopError(
                f"The Ray node {address} gives a GPU, and torch there computes on the CPU.",
                hint="Look at the GPU's driver and torch there, or start that node with --num-gpus=0.",
            )
        self._encoder = encoder
        return encoder.device

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder.embed_documents`."""
        assert self._encoder is not None
        return self._encoder.embed_documents(texts)

    def close(self) -> None:
        """Nothing is left behind."""


class FileCutter:
    """Cuts files on one processor."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._digester: Digester | None = None

    def here(self) -> None:
        """That it answers says that it has room."""

    def open(self, shipped: ShippedRules) -> None:
        """Gets the rules. What it writes to disk, `close` takes away."""
        directory = self._open.enter_context(tempfile.TemporaryDirectory(prefix="honeloop-rules-"))
        settings, tokens = unpack_rules(shipped, Path(directory))
        self._digester = self._open.enter_context(Digester(settings, tokens))

    def digest(self, files: Sequence[FileText]) -> list[Digest]:
        """What becomes of each of the files; see `Digester`."""
        assert self._digester is not None
        digester = self._digester
        return [digester.begin(file.path, file.source, get_language(file.language))() for file in files]

    def close(self) -> None:
        """Ends the process that parses."""
        self._open.close()
