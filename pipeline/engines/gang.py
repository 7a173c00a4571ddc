"""Room on a cluster for several workers at once: all of them, or none, in a placement group of Ray's.

So two trainings never hold half of what each needs. Only nodes that fit get a worker: each bundle asks for
one of them by the label that every node has.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from pipeline.engines.cluster import Cluster, Node
from pipeline.engines.lazy_ray import ray_module
from pipeline.engines.patience import Note, Patience
from pipeline.engines.slots import Slot, takes_gpus, training_slots, what_is_given
from pipeline.errors import UnavailableError

_NODE_ID = "ray.io/node-id"
_LOOK_SECONDS = 5.0


@contextmanager
def room_for(
    cluster: Cluster, count: int, least: int, *, device: str | None, note: Note
) -> Generator[tuple[Any, list[Slot]]]:
    """A placement group with a bundle for each worker; what it takes is free again after the block.

    Args:
        cluster: whose nodes.
        count: how many workers are wanted.
        least: with room for so many on all its nodes together, no more are waited for.
        device: as HONELOOP_DEVICE says; see `takes_gpus`.
        note: told that it waits for what others have taken.

    Raises:
        UnavailableError: for `ray_patience_seconds` the nodes had too little, whatever else is done there.
    """
    ray = ray_module()
    patience = Patience(cluster.patience, note)
    while True:
        nodes = cluster.nodes()
        slots = training_slots(count, nodes, on_gpus=takes_gpus(nodes, device))
        group = _placed(nodes, slots) if len(slots) >= least else None
        try:
            if group is None:
                time.sleep(min(1.0, cluster.patience))
            while group is not None and ids_of(cluster.nodes()) == ids_of(nodes):
                if group.wait(_LOOK_SECONDS):
                    yield group, slots
                    return
                patience.taken()
        finally:
            if group is not None and ray.is_initialized():
                ray.util.remove_placement_group(group)
        if group is None and patience.over():
            raise UnavailableError(_no_room(cluster, count, nodes, device), hint=_HINT)


_HINT = (
    "`ray status` says which nodes are alive, and what they give. "
    "HONELOOP_TRAIN_PROCESSES says how many processes train."
)


def ids_of(nodes: Sequence[Node]) -> frozenset[str]:
    """Their ids."""
    return frozenset(node.id for node in nodes)


def in_bundle(group: Any, number: int) -> Any:
    """Ray's word for: in this bundle of the group."""
    strategies = ray_module().util.scheduling_strategies
    return strategies.PlacementGroupSchedulingStrategy(
        placement_group=group, placement_group_bundle_index=number
    )


def _placed(nodes: Sequence[Node], slots: Sequence[Slot]) -> Any:
    bundles = [
        {name: size for name, size in (("CPU", slot.cpus), ("GPU", slot.gpus)) if size} for slot in slots
    ]
    fit = {_NODE_ID: f"in({','.join(sorted(ids_of(nodes)))})"}
    return ray_module().util.placement_group(
        bundles, strategy="PACK", bundle_label_selector=[fit] * len(bundles)
    )


def _no_room(cluster: Cluster, wanted: int, nodes: Sequence[Node], device: str | None) -> str:
    processes = "a training process" if wanted == 1 else f"{wanted} training processes"
    said = f"For {cluster.patience:g} s there was no room for {processes} on the Ray cluster"
    return f"{said}: {what_is_given(nodes, device)}."
