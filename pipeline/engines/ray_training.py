"""Training on the nodes of a cluster: the same processes as on one machine, each a worker of Ray's.

Not Ray Train: on several nodes its TorchTrainer saves to a disk or bucket that all of them share, and fails
without; here there need be none. What else it does, starting a process for each device and torch's process
group, is what `rank` does for one machine already.

Each state that is saved there comes here while the training goes on, and is in place before the next one is
sent. If a worker is lost, the others are ended, and what is left of the cluster goes on from the last state
that is here; a killed Honeloop, with its next run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline.config import Settings
from pipeline.engines.cluster import Cluster, Node
from pipeline.engines.gang import in_bundle, room_for
from pipeline.engines.lazy_ray import ray_module
from pipeline.engines.pool import MOST_DEATHS, kill, raised_by
from pipeline.engines.slots import Slot, takes_gpus
from pipeline.engines.state_shipping import StateReceiver
from pipeline.engines.trainer import Trainer
from pipeline.engines.training_shipping import (
    MODEL,
    Arrivals,
    ShippedTraining,
    ship_state,
    ship_training,
)
from pipeline.errors import HoneloopError, UnavailableError
from pipeline.progress import Progress
from pipeline.training.disk import disk_errors
from pipeline.training.following import RESUME_HINT, Following, Message, crashed
from pipeline.training.handover import bring
from pipeline.training.launching import Job
from pipeline.training.rank import Rank
from pipeline.training.recipe import recipe_of
from pipeline.training.recipe_key import recipe_key
from pipeline.training.training_state import StateStore

logger = logging.getLogger(__name__)

_ARRIVING = "arriving"
_LOOK_SECONDS = 5.0
# When a worker is lost, another may be the first to fail for it. The cluster takes up to half a minute to say
# that a node is gone.
_CAUSE_SECONDS = 60.0


class _LostError(Exception):
    """A worker is gone."""


def train_on_cluster(job: Job, progress: Progress) -> None:
    """Fine-tunes on the cluster that the settings name, and hands the model over here.

    Args:
        job: what is to be done.
        progress: told how far it is.

    Raises:
        HoneloopError, BadInputError: as `fine_tune`; or the cluster cannot be joined, a node does not fit, or
            workers were lost one after another.
        UnavailableError: for `ray_patience_seconds` the nodes had too little for the workers, or one that had
            room did not start.
    """
    cluster = Cluster(job.settings)
    shipped = ship_training(job)
    guide = shipped.guide if recipe_of(job.settings).guided else None
    identity = recipe_key(
        job.training_set,
        shipped.base.version,
        job.settings,
        guide_version=None if guide is None else guide.version,
        earlier=job.earlier,
    )
    store = StateStore(job.work_dir, identity)
    with store.alone():
        _Training(cluster, job, shipped, store, progress).run()


def worker_count(settings: Settings, nodes: Sequence[Node]) -> int:
    """How many workers the settings ask for on these nodes."""
    if settings.train_processes > 0:
        return settings.train_processes
    return max(1, sum(node.gpus for node in nodes)) if takes_gpus(nodes, settings.device) else 1


class _Training:
    def __init__(
        self, cluster: Cluster, job: Job, shipped: ShippedTraining, store: StateStore, progress: Progress
    ) -> None:
        self._cluster = cluster
        self._job = job
        self._shipped = shipped
        self._store = store
        self._progress = progress
        self._saved = False  # since a worker was lost

    def run(self) -> None:
        """Trains until it is done, however many workers are lost in between."""
        count = worker_count(self._job.settings, self._cluster.nodes())
        lost = 0
        while True:
            try:
                self._train(count, least=1 if lost else count)
                return
            except _LostError as error:
                lost = 1 if self._saved else lost + 1
                self._saved = False
                if lost >= MOST_DEATHS:
                    raise HoneloopError(
                        f"{MOST_DEATHS} times one after another a training process on the Ray cluster was "
                        f"lost before more was saved: {error}",
                        hint=f"{RESUME_HINT} If memory ran out, set a smaller HONELOOP_TRAIN_BATCH_SIZE; the "
                        "nodes' logs say more.",
                    ) from error
                logger.warning("A training process on the Ray cluster was lost: %s", error)
                self._progress.note(
                    "A training process on the Ray cluster was lost; what is left of the cluster goes on "
                    "from the last saved step."
                )
            except UnavailableError as error:
                if not lost:
                    raise
                raise UnavailableError(error.message, hint=f"{error.hint} {RESUME_HINT}") from error

    def _train(self, count: int, *, least: int) -> None:
        device = self._job.settings.device
        with (
            room_for(self._cluster, count, least, device=device, note=self._progress.note) as (group, slots),
            Following(self._progress) as following,
        ):
            processes = "one process" if len(slots) == 1 else f"{len(slots)} processes"
            self._progress.note(f"Training on the Ray cluster in {processes}.")
            actors: list[Any] = []
            try:
                actors += [_start(group, number, slot) for number, slot in enumerate(slots)]
                address, port = self._answers([actors[0].meet.remote()])[0]
                state = ship_state(self._store.files())
                self._answers(
                    [
                        actor.begin.remote(
                            self._shipped,
                            self._store.identity,
                            state,
                            # Ray shows each worker its own GPU and no other.
                            asdict(Rank(number, len(actors), 0, 1, address, port)),
                        )
                        for number, actor in enumerate(actors)
                    ]
                )
                self._listen(actors, following)
            finally:
                for actor in actors:
                    kill(actor)

    def _answers(self, references: list[Any]) -> list[Any]:
        """What workers answer that have just been started."""
        ray = ray_module()
        patience = self._cluster.patience
        try:
            return ray.get(references, timeout=patience)
        except ray.exceptions.GetTimeoutError as error:
            raise UnavailableError(
                f"For {patience:g} s a training process has not started on the Ray cluster.",
                hint="The nodes' logs say more.",
            ) from error
        except ray.exceptions.RayTaskError as error:
            raise raised_by(error) from error
        except ray.exceptions.RayError as error:
            raise _lost(error) from error

    def _listen(self, actors: Sequence[Any], following: Following) -> None:
        """Takes what the workers tell, until the first has brought the model."""
        ray = ray_module()
        arrivals = Arrivals(self._job.work_dir / _ARRIVING)
        receiver = StateReceiver(self._store, arrivals, self._progress.note)
        hearing: dict[Any, int] = {actor.hear.remote(): number for number, actor in enumerate(actors)}
        failed: HoneloopError | None = None
        until = 0.0
        while True:
            done, _ = ray.wait(list(hearing), num_returns=1, timeout=_LOOK_SECONDS)
            for reference in done:
                number = hearing.pop(reference)
                try:
                    messages: list[Message] = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise raised_by(error) from error
                except ray.exceptions.RayError as error:
                    raise _lost(error) from error
                # The next piece may come while this one is written; a state is answered with what is kept.
                saved = bool(messages) and messages[-1][0] == "saved"
                if not saved:
                    hearing[actors[number].hear.remote()] = number
                for message in messages:
                    if message[0] == "crashed":
                        # Maybe as another was lost.
                        failed = failed or crashed(number, message)
                        until = until or time.monotonic() + (_CAUSE_SECONDS if len(actors) > 1 else 0)
                    elif message[0] == "done" and number == 0:
                        bring(arrivals.directory / MODEL, self._job.directory)
                        return
                    else:
                        self._take(message, arrivals, receiver, following)
                if saved:
                    hearing[actors[number].hear.remote(self._store.held())] = number
            if failed is not None and time.monotonic() >= until:
                raise failed

    def _take(
        self, message: Message, arrivals: Arrivals, receiver: StateReceiver, following: Following
    ) -> None:
        if message[0] == "piece":
            _, name, piece, digest = message
            if name.startswith(f"{MODEL}/"):
                with disk_errors(self._job.work_dir, "The fine-tuned model"):
                    arrivals.take(name, piece, digest)
            else:
                receiver.take(name, piece, digest)
        elif message[0] == "saved":
            self._saved |= receiver.keep(message[1])
        elif message[0] != "done":
            following.take(message)


def _start(group: Any, number: int, slot: Slot) -> Any:
    made: Any = ray_module().remote(Trainer)
    return made.options(
        num_cpus=slot.cpus,
        num_gpus=slot.gpus,
        max_restarts=0,
        max_task_retries=0,
        scheduling_strategy=in_bundle(group, number),
    ).remote()


def _lost(error: Exception) -> _LostError:
    return _LostError(" ".join(str(error).split())[:300])
