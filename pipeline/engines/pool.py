"""Workers on the nodes of a cluster, each given one piece of work after another; any of them may vanish.

Plain actors, not Ray Data. Its blocks come back after a node is lost because they can be read once more where
they were read: on a worker, which here has no database. What the one process that has it puts into blocks is
gone with the node that holds it. What is needed instead is little, and can be read here:

- Each node has as many workers as it has slots. A node that joins is given some, a node that is lost loses
  its own, and what they were doing is given to others.
- A result counts when it has reached this process. A piece of work may so be computed twice, but its result
  is given out once.
- Work that ends one worker after another is an error that says so, and so is a cluster that has no room for a
  worker; room that others have taken is waited for.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, TypeVar

from pipeline.engines.cluster import Cluster, Node, only_on
from pipeline.engines.lazy_ray import ray_module
from pipeline.engines.patience import Note, Patience
from pipeline.engines.slots import Slot, what_is_given
from pipeline.errors import HoneloopError, UnavailableError

logger = logging.getLogger(__name__)

Work = TypeVar("Work")
# Pieces of work that a worker holds: one to do, and the next, so that it never waits for this process.
_HELD = 2
# How often one piece of work may end a worker, and a node's workers end without having done anything.
MOST_DEATHS = 3
_LOOK_SECONDS = 5.0
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True)
class Job:
    """What a pool's workers are.

    Args:
        worker: Its class; its `here` does nothing, and answers once there is room for the worker; its `close`
            is called once there is no more work, unless the worker is lost.
        slots: Where on a node there is room for one.
        open: Arguments of the worker's method `open`, called before anything else.
        method: The name of its method that takes a piece of work.
        device: What HONELOOP_DEVICE asks the nodes for.
    """

    worker: type[Any]
    slots: Callable[[Node], Sequence[Slot]]
    open: Sequence[Any]
    method: str
    device: str | None = "cpu"


@dataclass(eq=False)
class _Worker(Generic[Work]):
    actor: Any
    node: Node
    arriving: Any
    opening: Any
    placed: bool = False
    ready: bool = False
    holds: dict[Any, tuple[int, Work]] = field(default_factory=dict[Any, "tuple[int, Work]"])

    def awaited(self) -> list[Any]:
        """What it has not answered yet."""
        arriving = [] if self.placed else [self.arriving]
        return [*self.holds, *arriving, *([] if self.ready else [self.opening])]


class Pool(Generic[Work]):
    """One pass of work over a cluster. Iterate `run` to its end, or close it: the workers go with it.

    Args:
        cluster: Whose nodes.
        job: What the workers are.
        describe: What a piece of work is called in an error.
        note: Told that it waits for what others have taken.
    """

    def __init__(
        self, cluster: Cluster, job: Job, describe: Callable[[Work], str], note: Note = logger.warning
    ) -> None:
        self._cluster = cluster
        self._job = job
        self._describe = describe
        self._slots: dict[tuple[str, int], tuple[Node, Slot]] = {}
        self._workers: dict[tuple[str, int], _Worker[Work]] = {}
        self._queue: deque[tuple[int, Work]] = deque()
        self._deaths: Counter[int] = Counter()  # by piece of work
        self._stillborn: Counter[str] = Counter()  # by node
        self._last_words = ""
        self._looked: float | None = None
        self._patience = Patience(cluster.patience, note)

    def run(self, work: Iterator[Work], argument: Callable[[Work], Any]) -> Generator[tuple[int, Work, Any]]:
        """Each piece of work with its number, from 0, and its result; in the order they are done.

        Args:
            work: Read when it is about to be needed: so many pieces ahead as there may be workers.
            argument: What of it the worker is given.

        Raises:
            HoneloopError: a worker raised it; a piece of work ended several workers.
            UnavailableError: for `ray_patience_seconds` no node could have had a worker, or one that had room
                did not start.
        """
        numbered = enumerate(work)
        try:
            while True:
                self._look()
                ahead = max(1, len(self._slots)) - len(self._queue)
                self._queue.extend(islice(numbered, max(0, ahead)))
                if not self._queue and not any(worker.holds for worker in self._workers.values()):
                    return
                self._start_missing()
                self._give(argument)
                yield from self._wait()
        finally:
            self._end()

    def _look(self) -> None:
        """Sees every few seconds which nodes there are now."""
        now = time.monotonic()
        if self._looked is None or now - self._looked > _LOOK_SECONDS:
            self._looked = now
            self._slots = {
                (node.id, number): (node, slot)
                for node in self._cluster.nodes()
                if self._stillborn[node.id] < MOST_DEATHS
                for number, slot in enumerate(self._job.slots(node))
            }

    def _start_missing(self) -> None:
        """Starts workers in free slots, no more than there is work for."""
        for key, (node, slot) in self._slots.items():
            if self._opening() >= len(self._queue):
                return
            if key not in self._workers:
                self._workers[key] = self._start(node, slot)

    def _give(self, argument: Callable[[Work], Any]) -> None:
        """Gives workers that are ready what they can hold, and leaves some for those about to be."""
        ready = [worker for worker in self._workers.values() if worker.ready]
        for held in range(_HELD):
            for worker in ready:
                if len(self._queue) > (self._opening() if held else 0) and len(worker.holds) <= held:
                    piece = self._queue.popleft()
                    reference = getattr(worker.actor, self._job.method).remote(argument(piece[1]))
                    worker.holds[reference] = piece

    def _opening(self) -> int:
        return sum(not worker.ready for worker in self._workers.values())

    def _start(self, node: Node, slot: Slot) -> _Worker[Work]:
        ray = ray_module()
        made: Any = ray.remote(self._job.worker)
        actor = made.options(
            num_cpus=slot.cpus,
            num_gpus=slot.gpus,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=only_on(node),
        ).remote()
        return _Worker(actor, node, actor.here.remote(), actor.open.remote(*self._job.open))

    def _wait(self) -> Iterator[tuple[int, Work, Any]]:
        ray = ray_module()
        owners = {
            reference: (slot, worker)
            for slot, worker in self._workers.items()
            for reference in worker.awaited()
        }
        if not owners:  # no node has room
            self._be_patient()
            time.sleep(min(1.0, _LOOK_SECONDS))
            return
        done, _ = ray.wait(list(owners), num_returns=1, timeout=_LOOK_SECONDS)
        for reference in done:
            slot, worker = owners[reference]
            if self._workers.get(slot) is not worker:  # it was found dead by another of these
                continue
            try:
                result = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise raised_by(error) from error
            except ray.exceptions.RayError as error:
                self._bury(slot, worker, error)
                continue
            if reference in worker.holds:
                number, piece = worker.holds.pop(reference)
                self._stillborn[worker.node.id] = 0
                yield number, piece, result
            elif reference == worker.arriving:
                worker.placed = True
            else:
                worker.ready = True
        self._be_patient()

    def _bury(self, slot: tuple[str, int], worker: _Worker[Work], error: Exception) -> None:
        """Takes back what a lost worker held."""
        del self._workers[slot]
        self._looked = None
        self._stillborn[worker.node.id] += 1
        self._last_words = " ".join(str(error).split())[:300]
        logger.warning("A worker on the Ray node %s was lost: %s", worker.node.address, self._last_words)
        kill(worker.actor)
        # Only the first of them was being done.
        for position, (number, piece) in enumerate(worker.holds.values()):
            self._deaths[number] += position == 0
            if self._deaths[number] >= MOST_DEATHS:
                raise HoneloopError(
                    f"{MOST_DEATHS} workers of the Ray cluster ended one after another at the same work, "
                    f"{self._describe(piece)}: {self._last_words}",
                    hint="If they lack memory, lower HONELOOP_EMBED_BATCH_SIZE; the nodes' logs say more.",
                )
            self._queue.append((number, piece))

    def _be_patient(self) -> None:
        workers = self._workers.values()
        if any(worker.ready for worker in workers):
            self._patience.reset()
        elif workers and not any(worker.placed for worker in workers):
            self._patience.taken()
        elif self._patience.over():
            why = "."
            if self._last_words:
                why = f". The last one was lost: {self._last_words}"
            elif not self._slots:
                why = f": {what_is_given(self._cluster.nodes(), self._job.device)}."
            raise UnavailableError(
                f"For {self._cluster.patience:g} s no worker has started on the Ray cluster{why}",
                hint="`ray status` says which nodes are alive, and what takes their processors and GPUs.",
            )

    def _end(self) -> None:
        ray = ray_module()
        workers, self._workers = self._workers, {}
        if ray.is_initialized():
            closing = [worker.actor.close.remote() for worker in workers.values() if worker.ready]
            if closing:
                ray.wait(closing, num_returns=len(closing), timeout=_CLOSE_SECONDS)
        for worker in workers.values():
            kill(worker.actor)


def kill(actor: Any) -> None:
    """Ends a worker, whether it is still there or not."""
    ray = ray_module()
    if ray.is_initialized():
        ray.kill(actor)


def raised_by(error: Any) -> Exception:
    """What a worker raised, if it is a sentence for people; else what Ray makes of it."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, HoneloopError) else error
