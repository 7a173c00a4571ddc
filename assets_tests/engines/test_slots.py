"""Where workers get room, on made-up nodes as Ray lists them; without a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pipeline.config import Settings
from pipeline.engines.cluster import Node, nodes_in
from pipeline.engines.ray_training import worker_count
from pipeline.engines.slots import Slot, embedding_slots, takes_gpus, training_slots, what_is_given


def listed(name: str, resources: Mapping[str, float], *, alive: bool = True) -> dict[str, Any]:
    """A node as `ray.nodes()` lists it."""
    return {
        "NodeID": name,
        "Alive": alive,
        "NodeManagerAddress": "10.0.0.1",
        "NodeManagerPort": 6380,
        "NodeManagerHostname": name,
        "Resources": {"memory": 8e9, "object_store_memory": 2e9, "node:10.0.0.1": 1.0, **resources},
        "Labels": {"ray.io/node-id": name},
    }


def nodes(*sizes: tuple[int, int]) -> list[Node]:
    """Nodes of so many processors and GPUs."""
    return nodes_in(
        listed(str(number), {name: size for name, size in (("CPU", cpus), ("GPU", gpus)) if size})
        for number, (cpus, gpus) in enumerate(sizes)
    )


def embedding(there: Sequence[Node], device: str | None) -> dict[str, list[Slot]]:
    """Where on these nodes a model would embed."""
    on_gpus = takes_gpus(there, device)
    slots = {node.id: embedding_slots(node, on_gpus=on_gpus) for node in there}
    return {name: found for name, found in slots.items() if found}


def test_nodes_are_those_that_live_and_give_something() -> None:
    found = nodes_in(
        [
            listed("head", {}),  # --num-cpus=0 --num-gpus=0
            listed("plain", {"CPU": 4.0}),
            listed("lost", {"CPU": 4.0}, alive=False),
            listed("fast", {"CPU": 8.0, "GPU": 2.0, "accelerator_type:A100": 1.0}),
        ]
    )
    assert [(node.id, node.address, node.cpus, node.gpus) for node in found] == [
        ("plain", "10.0.0.1:6380", 4, 0),
        ("fast", "10.0.0.1:6380", 8, 2),
    ]


GPU = Slot(cpus=1, gpus=1)


@pytest.mark.parametrize(
    ("device", "sizes", "slots"),
    [
        # Where there are GPUs, a head that has none computes nothing, whether they are asked for or not.
        (None, [(4, 0), (16, 2)], {"1": [GPU] * 2}),
        ("", [(4, 0), (16, 2)], {"1": [GPU] * 2}),
        ("cuda", [(4, 0), (16, 2)], {"1": [GPU] * 2}),
        ("cuda", [(4, 1), (0, 1)], {"0": [GPU], "1": [Slot(cpus=0, gpus=1)]}),
        ("mps", [(4, 0), (8, 1)], {"1": [GPU]}),
        # The CPU is asked for, or there is nothing else.
        ("cpu", [(4, 0), (16, 2), (0, 1)], {"0": [Slot(4)], "1": [Slot(16)]}),
        (" CPU ", [(16, 2)], {"0": [Slot(16)]}),
        (None, [(4, 0), (8, 0)], {"0": [Slot(4)], "1": [Slot(8)]}),
        # A GPU is asked for, and nobody has one.
        ("cuda", [(4, 0), (8, 0)], {}),
        (None, [], {}),
    ],
)
def test_vectors_are_computed_on_gpus_alone_or_on_processors_alone(
    device: str | None, sizes: Sequence[tuple[int, int]], slots: dict[str, list[Slot]]
) -> None:
    assert embedding(nodes(*sizes), device) == slots


@pytest.mark.parametrize(
    ("device", "sizes", "said"),
    [
        (None, [], "no node of it gives a processor or a GPU"),
        ("cuda", [], "no node of it gives a processor or a GPU"),
        (None, [(4, 0)], "its nodes have processors: 4, GPUs: 0"),
        ("cpu", [(4, 0), (8, 2)], "its nodes have processors: 12, GPUs: 2"),
        ("cuda", [(4, 1)], "its nodes have processors: 4, GPUs: 1"),
        ("cuda", [(4, 0)], "its nodes have processors: 4, GPUs: 0, and HONELOOP_DEVICE=cuda asks for a GPU"),
    ],
)
def test_what_there_is_too_little_of_is_said(
    device: str | None, sizes: Sequence[tuple[int, int]], said: str
) -> None:
    assert what_is_given(nodes(*sizes), device) == said


@pytest.mark.parametrize(
    ("count", "sizes", "slots"),
    [
        (2, [(1, 0), (1, 0)], [Slot(1)] * 2),
        (1, [(4, 0), (8, 0)], [Slot(8)]),
        (2, [(8, 0), (8, 0)], [Slot(8)] * 2),
        (3, [(8, 0), (8, 0)], [Slot(4)] * 3),
        (3, [(2, 0), (7, 0)], [Slot(2)] * 3),
        (5, [(1, 0), (2, 0)], [Slot(1)] * 3),  # fewer, if there is no more
        (2, [], []),
        (3, [(16, 2), (0, 2), (32, 0)], [Slot(0, gpus=1)] * 3),
        (9, [(16, 2), (4, 1)], [Slot(1, gpus=1)] * 3),
    ],
)
def test_workers_are_alike_and_have_all_that_there_is_for_them(
    count: int, sizes: Sequence[tuple[int, int]], slots: list[Slot]
) -> None:
    there = nodes(*sizes)
    assert training_slots(count, there, on_gpus=takes_gpus(there, None)) == slots


@pytest.mark.parametrize("count", [1, 3])
def test_a_gpu_that_is_asked_for_is_no_processor(count: int) -> None:
    there = nodes((8, 0), (8, 0))
    assert training_slots(count, there, on_gpus=takes_gpus(there, "cuda")) == []
    assert worker_count(Settings(device="cuda", train_processes=0), there) == 1


def test_how_many_workers_is_a_setting() -> None:
    gpus, none = nodes((8, 4), (8, 2), (8, 0)), nodes((8, 0), (8, 0))
    assert worker_count(Settings(), gpus) == worker_count(Settings(), none) == 1
    each_gpu = Settings(train_processes=0)
    assert worker_count(each_gpu, gpus) == 6
    assert worker_count(each_gpu, none) == worker_count(each_gpu, []) == 1
    assert worker_count(each_gpu.model_copy(update={"device": "cpu"}), gpus) == 1
    assert worker_count(Settings(train_processes=3), gpus) == 3
