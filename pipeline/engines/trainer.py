"""What trains on a node: Ray makes an actor of it. It gets everything handed, and keeps nothing."""

from __future__ import annotations

import os
import queue
import socket
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import Settings
from pipeline.engines.lazy_ray import ray_module
from pipeline.engines.shipping import Files, unpack_model
from pipeline.engines.state_shipping import Kept, StateSender
from pipeline.engines.training_shipping import MODEL, ShippedTraining, send_files, unpack_pairs, unpack_state
from pipeline.progress import Silent
from pipeline.training.following import Message, Telling, failure
from pipeline.training.rank import Rank, take_part
from pipeline.training.training_state import StateStore

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

_HEAR_SECONDS = 5.0


class Trainer:
    """One of the processes that train together. It trains in a thread, and answers meanwhile."""

    def __init__(self) -> None:
        self._told: queue.Queue[Message] = queue.Queue()
        self._kept: queue.Queue[Kept] = queue.Queue()
        self._held: socket.socket | None = None

    def meet(self) -> tuple[str, int]:
        """The address of this machine, and a port on it that is free until `begin`."""
        address: str = ray_module().util.get_node_ip_address()
        self._held = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self._held.bind(("", 0))
        return address, self._held.getsockname()[1]

    def begin(self, shipped: ShippedTraining, identity: str, state: Files, rank: Mapping[str, Any]) -> None:
        """Begins to train, and returns at once.

        Args:
            shipped: what is trained.
            identity: the training's recipe key.
            state: of the state that it goes on from; empty if it begins.
            rank: the fields of a `Rank`.
        """
        if self._held is not None:
            self._held.close()
        part = (shipped, identity, state, Rank(**rank))
        threading.Thread(target=self._train, args=part, name="honeloop-train", daemon=True).start()

    def hear(self, kept: Kept | None = None) -> list[Message]:
        """What there is to tell; waits some seconds for it.

        See `following`; beside that, pieces of files (`send_files`), `("saved", content of STATE)` after
        those of a state, and `("done",)` after all. A piece, and a state, is the last in its list.

        Args:
            kept: what home has, once it has dealt with a state.
        """
        if kept is not None:
            self._kept.put(kept)
        try:
            messages = [self._told.get(timeout=_HEAR_SECONDS)]
        except queue.Empty:
            return []
        while messages[-1][0] not in ("piece", "saved") and not self._told.empty():
            messages.append(self._told.get())
        for _ in messages:
            self._told.task_done()
        return messages

    def _train(self, shipped: ShippedTraining, identity: str, state: Files, rank: Rank) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="honeloop-training-") as directory:
                self._train_in(Path(directory), shipped, identity, state, rank)
            self._told.put(("done",))
        except Exception as error:
            self._told.put(failure(error))

    def _train_in(
        self, place: Path, shipped: ShippedTraining, identity: str, state: Files, rank: Rank
    ) -> None:
        work_dir, directory = place / "state", place / MODEL
        unpack_state(state, work_dir)
        sender = StateSender(work_dir, self._told.put, self._told.join, self._kept.get)
        # Only the first process saves.
        store = StateStore(work_dir, identity, sender.send_saved)
        # Given here, they outrank the node's own environment.
        settings = Settings(**shipped.settings)
        training_set, earlier = unpack_pairs(shipped)

        def load(device: str) -> tuple[Encoder, Encoder | None]:
            models = [
                None
                if model is None
                else unpack_model(model, place / name, device=device, batch_size=settings.embed_batch_size)
                for name, model in (("base", shipped.base), ("guide", shipped.guide))
            ]
            assert models[0] is not None
            return models[0], models[1]

        _use_interface_of(ray_module().util.get_node_ip_address())
        take_part(
            rank,
            load,
            training_set,
            earlier=earlier,
            settings=settings,
            progress=Telling(self._told.put) if rank.number == 0 else Silent(),
            work_dir=work_dir,
            directory=directory,
            store=store,
        )
        if rank.number == 0:
            files = sorted(path for path in directory.rglob("*") if path.is_file())
            names = [path.relative_to(place).as_posix() for path in files]
            send_files(place, names, self._told.put, self._told.join)


def _use_interface_of(address: str) -> None:
    """Has processes meet at the address by which Ray's nodes do: gloo would take the one of the host's name,
    which on many machines is its own loopback.
    """
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
            return
