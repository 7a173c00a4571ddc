"""Several processes training one model together, on a GPU each, or on the processors of one machine.

Every process has every batch of the plan, and embeds its share of the batch's texts; the vectors are then
exchanged, so that each process computes the loss of the whole batch, with all its negatives. Gradients flow
into a process's own texts only, and their sum over the processes is the gradient of the whole batch. So the
number of processes changes how long a training takes, and its result by rounding only: neither the batches,
nor the negatives, nor the learning rate depend on it. (DistributedDataParallel averages gradients of separate
batches instead, each with its own negatives only.)

Accelerate starts the process group, from the variables that `processes`, `accelerate launch` and torchrun
set. Without them there is one process, and nothing here costs anything.

This module imports torch: import it inside functions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import distributed, nn

from pipeline.errors import HoneloopError


def processes() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is; the one that writes is 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_own(number: int) -> bool:
    """Whether the piece of work with this number is this process's."""
    return number % processes() == rank()


def exchanged(own: torch.Tensor) -> torch.Tensor:
    """The sum of `own` over all processes, with gradients into this one's only.

    Args:
        own: rows that this process computed, and zeros where the others did: the sum is then everyone's rows,
            and adding zeros changes no bit of them.
    """
    if processes() == 1:
        return own
    others = own.detach().clone()
    distributed.all_reduce(others)
    others -= own.detach()
    return own + others


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replaces every parameter's gradient by the sum over all processes, the same bits in each of them."""
    if processes() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        return
    # A process without a text in this batch has no gradients; a layer that nothing uses has none anywhere.
    given = torch.tensor([parameter.grad is not None for parameter in trained], device=trained[0].device)
    given = given.to(torch.int32)
    distributed.all_reduce(given, op=distributed.ReduceOp.MAX)
    used = [parameter for parameter, one in zip(trained, given.tolist(), strict=True) if one]
    for parameter in used:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        distributed.all_reduce(parameter.grad)


def check_equal(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raises HoneloopError if the processes do not hold the same bits: then they did not train one model."""
    if processes() == 1:
        return
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    device = next(iter(tensors.values())).device
    own = torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8).to(device)
    first = own.clone()
    distributed.broadcast(first, src=0)
    same = torch.tensor(int(torch.equal(own, first)), device=device)
    distributed.all_reduce(same, op=distributed.ReduceOp.MIN)
    if not int(same):
        raise HoneloopError(
            f"The {processes()} training processes ended with different weights.",
            hint="Set HONELOOP_TRAIN_PROCESSES=1; no model was written.",
        )
