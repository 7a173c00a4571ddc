"""The engine of many machines: an actor for each device of a Ray cluster; this process gives and takes."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Settings
from pipeline.engines.cluster import Cluster
from pipeline.engines.engine import Chunk, FileText
from pipeline.engines.patience import Note
from pipeline.engines.pool import Job, Pool
from pipeline.engines.shipping import ship_model, ship_rules
from pipeline.engines.slots import Slot, embedding_slots, takes_gpus
from pipeline.engines.workers import Embedder, FileCutter
from pipeline.progress import Advance

if TYPE_CHECKING:
    from pipeline.corpus.digesting import Digest
    from pipeline.corpus.tokens import TokenBudget
    from pipeline.encoders.encoder import Encoder

# Chunks for each worker: with more, all end together; with fewer, texts of one length meet more often.
_CHUNKS_EACH = 4
_LEAST_CHUNK = 64
# About a second of cutting.
_MOST_FILES, _MOST_BYTES = 64, 1 << 19


class RayEngine:
    """See `Engine`.

    Args:
        settings: Where the cluster is, and what `Encoder`s and chunks are like.
        note: Told that it waits for what others have taken.

    Raises:
        HoneloopError: with the first work; see `Cluster`.
    """

    def __init__(self, settings: Settings, note: Note) -> None:
        self._settings = settings
        self._note = note

    @cached_property
    def cluster(self) -> Cluster:
        """Joined when there is work for it."""
        return Cluster(self._settings)

    def chunk_size(self, texts: int) -> int:
        """Small enough for all workers to have some, and for a lost node not to cost much."""
        nodes = self.cluster.first_nodes()
        on_gpus = takes_gpus(nodes, self._settings.device)
        workers = sum(len(embedding_slots(node, on_gpus=on_gpus)) for node in nodes)
        each = -(-texts // (max(1, workers) * _CHUNKS_EACH))
        return min(max(each, _LEAST_CHUNK), self._settings.embed_chunk_size)

    def backends(self, encoder: Encoder) -> tuple[str, ...]:
        """See `Engine.backends`. Torch, whatever was exported to ONNX here."""
        return ("torch",) * len(encoder.spec.members)

    def embed(
        self, encoder: Encoder, chunks: Iterable[Chunk], advance: Advance
    ) -> Generator[tuple[Chunk, NDArray[np.float32]]]:
        """See `Engine.embed`. The nodes that are there first decide what all of it is computed on."""
        device = self._settings.device
        on_gpus = takes_gpus(self.cluster.first_nodes(), device)
        job = Job(
            worker=Embedder,
            slots=partial(embedding_slots, on_gpus=on_gpus),
            # Said to those on the CPU: Ray does not hide a GPU from a worker that it has given none.
            open=(ship_model(encoder), device if on_gpus else "cpu", self._settings.embed_batch_size),
            method="embed",
            device=device,
        )
        pool = Pool[Chunk](self.cluster, job, lambda chunk: f"embedding {len(chunk.texts)} texts", self._note)
        with closing(pool.run(iter(chunks), lambda chunk: chunk.texts)) as results:
            for _, chunk, vectors in results:
                advance(len(chunk.texts))
                yield chunk, vectors

    def digest(self, files: Iterable[FileText], tokens: TokenBudget) -> Generator[tuple[FileText, Digest]]:
        """See `Engine.digest`. This process reads the files: it has the clones."""
        batches = _batches(files)
        first = next(batches, None)
        if first is None:  # nothing has changed: the cluster need not know
            return
        cluster = self.cluster  # joined before anything is put into it
        job = Job(
            worker=FileCutter,
            slots=lambda node: [Slot(cpus=1)] * node.cpus,
            open=(ship_rules(self._settings, tokens),),
            method="digest",
        )
        pool = Pool[list[FileText]](cluster, job, lambda batch: f"cutting {batch[0].path} and on", self._note)
        waiting: dict[int, tuple[list[FileText], list[Digest]]] = {}
        following = 0
        with closing(pool.run(chain([first], batches), lambda batch: batch)) as results:
            for number, batch, digests in results:
                waiting[number] = (batch, digests)
                while following in waiting:
                    yield from zip(*waiting.pop(following), strict=True)
                    following += 1


def _batches(files: Iterable[FileText]) -> Iterator[list[FileText]]:
    """A file alone is cut in milliseconds: less than it takes to hand it over."""
    batch: list[FileText] = []
    size = 0
    for file in files:
        batch.append(file)
        size += len(file.source)
        if len(batch) >= _MOST_FILES or size >= _MOST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
