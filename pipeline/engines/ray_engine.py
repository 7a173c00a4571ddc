"""The engine of many machines: an actor for each device of a Ray cluster; this process gives and takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Settings
from pipeline.engines.cluster import Cluster, Node
from pipeline.engines.engine import Chunk
from pipeline.engines.pool import Job, Pool, Slot
from pipeline.engines.shipping import ship_model
from pipeline.engines.workers import Embedder
from pipeline.progress import Advance

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

# Chunks for each worker: with more, all end together; with fewer, texts of one length meet more often.
_CHUNKS_EACH = 4
_LEAST_CHUNK = 64


class RayEngine:
    """See `Engine`.

    Args:
        settings: Where the cluster is, and what `Encoder`s and chunks are like.

    Raises:
        HoneloopError: see `Cluster`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cluster = Cluster(settings)

    def chunk_size(self, texts: int) -> int:
        """Small enough for all workers to have some, and for a lost node not to cost much."""
        workers = sum(len(self._devices(node)) for node in self._cluster.nodes())
        each = -(-texts // (max(1, workers) * _CHUNKS_EACH))
        return min(max(each, _LEAST_CHUNK), self._settings.embed_chunk_size)

    def embed(
        self, encoder: Encoder, chunks: Iterable[Chunk], advance: Advance
    ) -> Iterator[tuple[Chunk, NDArray[np.float32]]]:
        """See `Engine.embed`. Torch computes, whatever was exported to ONNX here."""
        job = Job(
            worker=Embedder,
            slots=self._devices,
            open=(ship_model(encoder), self._settings.device, self._settings.embed_batch_size),
            method="embed",
        )
        pool = Pool[Chunk](self._cluster, job, lambda chunk: f"embedding {len(chunk.texts)} texts")
        for _, chunk, vectors in pool.run(iter(chunks), lambda chunk: chunk.texts):
            advance(len(chunk.texts))
            yield chunk, vectors

    def _devices(self, node: Node) -> Sequence[Slot]:
        """One for each GPU of a node; without one, or where the CPU is asked for, all its processors."""
        if node.gpus and self._settings.device != "cpu":
            return [Slot(cpus=min(1.0, node.cpus), gpus=1)] * node.gpus
        return [Slot(cpus=node.cpus)] if node.cpus else []
