"""Where there is room for workers, by what a cluster's nodes give. Nothing here asks Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.engines.cluster import Node


@dataclass(frozen=True)
class Slot:
    """Room for one worker: so many processors, so many GPUs."""

    cpus: float
    gpus: float = 0


def takes_gpus(nodes: Sequence[Node], device: str | None) -> bool:
    """Whether workers are given GPUs, so that nodes without get none; else all of them compute on the CPU.

    Never both: in bfloat16, in which a GPU computes, vectors are others than in a CPU's float32, and an index
    has those of one kind.

    Args:
        nodes: those that a worker may be on.
        device: as HONELOOP_DEVICE says, which is obeyed also where no node has it; None: GPUs where there are
            some.
    """
    named = (device or "").strip().lower()
    return named != "cpu" if named else any(node.gpus for node in nodes)


def embedding_slots(node: Node, *, on_gpus: bool) -> list[Slot]:
    """One for each GPU of a node; where none are taken, one with all its processors.

    Args:
        node: which one.
        on_gpus: see `takes_gpus`.
    """
    if on_gpus:
        return [Slot(cpus=min(1.0, node.cpus), gpus=1)] * node.gpus
    return [Slot(cpus=node.cpus)] if node.cpus else []


def training_slots(count: int, nodes: Sequence[Node], *, on_gpus: bool) -> list[Slot]:
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


def what_is_given(nodes: Sequence[Node], device: str | None) -> str:
    """What these nodes have, as the end of a sentence about too little of it."""
    if not nodes:
        return "no node of it gives a processor or a GPU"
    has = f"its nodes have processors: {sum(n.cpus for n in nodes)}, GPUs: {sum(n.gpus for n in nodes)}"
    if takes_gpus(nodes, device) and not any(node.gpus for node in nodes):
        return f"{has}, and HONELOOP_DEVICE={device} asks for a GPU"
    return has
