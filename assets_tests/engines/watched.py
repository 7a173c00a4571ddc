"""Which node of a cluster did what, what was stored, and a node that is killed while it holds work."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from assets_tests.engines.clusters import AddedNode
from pipeline.engines.pool import Pool, Work
from pipeline.index import embeddings
from pipeline.index.tables import VectorTable
from pipeline.progress import Advance, Silent
from pipeline.store.connections import Connection


class KeptVectors:
    """Notes the vectors before they are stored, which makes half floats of them.

    Put in the place of `pipeline.index.embeddings.copy_vectors`.
    """

    def __init__(self) -> None:
        self.vectors: dict[bytes, NDArray[np.float32]] = {}  # by content hash
        self.twice = 0  # texts that came once more
        self._copy = embeddings.copy_vectors

    def __call__(
        self,
        connection: Connection,
        table: VectorTable,
        version: str,
        hashes: Sequence[bytes],
        vectors: NDArray[np.float32],
    ) -> int:
        self.twice += len(self.vectors.keys() & set(hashes))
        self.vectors.update(zip(hashes, vectors, strict=True))
        return self._copy(connection, table, version, hashes, vectors)


class WatchedPool(Pool[Work]):
    """Notes which node did what. Nothing is given out before both nodes' workers are ready: a node that is
    killed while its worker still loads torch has nothing to lose.
    """

    made: ClassVar[list[WatchedPool[Any]]] = []

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.done: list[tuple[int, str]] = []  # the piece's number, the node that did it
        self.lost: list[tuple[int, str]] = []  # the same of what was taken back
        self._given: dict[int, str] = {}
        self.made.append(self)

    def held_by(self, node: str) -> set[int]:
        return {
            number
            for worker in self._workers.values()
            if worker.node.id == node
            for number, _ in worker.holds.values()
        }

    def _give(self, argument: Callable[[Work], Any]) -> None:
        ready = {worker.node.id for worker in self._workers.values() if worker.ready}
        if not self.done and len(ready) < 2:
            return
        super()._give(argument)
        for node in ready:
            self._given |= dict.fromkeys(self.held_by(node), node)

    def _wait(self) -> Iterator[tuple[int, Work, Any]]:
        for number, piece, result in super()._wait():
            self.done.append((number, self._given[number]))
            yield number, piece, result

    def _bury(self, slot: tuple[str, int], worker: Any, error: Exception) -> None:
        self.lost += [(number, worker.node.id) for number, _ in worker.holds.values()]
        super()._bury(slot, worker, error)


class KillsMidway(Silent):
    """Kills a node as soon as it and the other one have given a result, and it holds two pieces of work."""

    def __init__(self, node: AddedNode) -> None:
        self._node = node
        self.held: set[int] = set()

    @contextmanager
    def stage(self, description: str, total: int | None = None) -> Generator[Advance]:
        del description, total

        def advance(count: int) -> None:
            del count
            (pool,) = WatchedPool.made
            held = pool.held_by(self._node.id)
            if not self.held and len({node for _, node in pool.done}) == 2 and len(held) == 2:
                self.held = held
                self._node.kill()

        yield advance
