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
from pipeline.engines.pool import Slot
from pipeline.errors import UnavailableError

_NODE_ID = "ray.io/node-id"
_LOOK_SECONDS = 5.0


def slots_for(count: int, nodes: Sequence[Node], *, on_gpus: bool) -> list[Slot]:
    """Room for `count` workers, all alike, so that all are as fast; fewer if there is no more on these nodes.

    Args:
        count: at least 1.
        nodes: those that a worker may be on.
        on_gpus: a GPU for each; else as many processors for each as all of them can have.
    """
    if on_gpus:
        holders = [node for node in nodes if node.gpus]
        cpus = min([1, *(node.cpus for node in holders)])
        return [Slot(cpus, gpus=1)] * min(count, sum(node.gpus for node in holders))
    count = min(count, sum(node.cpus for node in nodes))
    each = max((node.cpus for node in nodes), default=0)
    while count and sum(node.cpus // each for node in nodes) < count:
        each -= 1
    return [Slot(cpus=each)] * count


@contextmanager
def room_for(
    cluster: Cluster, count: int, least: int, *, device: str | None
) -> Generator[tuple[Any, list[Slot]]]:
    """A placement group with a bundle for each worker; what it takes is free again after the block.

    Args:
        cluster: whose nodes.
        count: how many workers are wanted.
        least: with room for so many on all its nodes together, no more are waited for.
        device: as HONELOOP_DEVICE says; GPUs are taken where there are some, unless it is "cpu".

    Raises:
        UnavailableError: for `ray_patience_seconds` there was no room.
    """
    ray = ray_module()
    until = time.monotonic() + cluster.patience
    while True:
        nodes = cluster.nodes()
        slots = slots_for(count, nodes, on_gpus=has_gpus(nodes, device))
        group = _placed(nodes, slots) if len(slots) >= least else None
        try:
            if group is None:
                time.sleep(min(1.0, cluster.patience))
            while group is not None and ids_of(cluster.nodes()) == ids_of(nodes):
                if group.wait(min(_LOOK_SECONDS, max(0.0, until - time.monotonic()))):
                    yield group, slots
                    return
                if time.monotonic() >= until:
                    break
        finally:
            if group is not None and ray.is_initialized():
                ray.util.remove_placement_group(group)
        if time.monotonic() >= until:
            raise UnavailableError(_no_room(cluster, max(count, least), nodes, slots), hint=_HINT)


_HINT = (
    "`ray status` says which nodes are alive, and what takes their processors and GPUs. "
    "HONELOOP_TRAIN_PROCESSES says how many processes train."
)


def has_gpus(nodes: Sequence[Node], device: str | None) -> bool:
    """Whether training takes GPUs there."""
    return device != "cpu" and any(node.gpus for node in nodes)


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


def _no_room(cluster: Cluster, wanted: int, nodes: Sequence[Node], slots: Sequence[Slot]) -> str:
    processes = "a training process" if wanted == 1 else f"{wanted} training processes"
    said = f"For {cluster.patience:g} s there was no room for {processes} on the Ray cluster"
    if not nodes:
        return f"{said}: no node of it gives a processor or a GPU."
    has = f"processors: {sum(node.cpus for node in nodes)}, GPUs: {sum(node.gpus for node in nodes)}"
    taken = "; others have taken them" if len(slots) >= wanted else ""
    return f"{said}: its nodes have {has}{taken}."
