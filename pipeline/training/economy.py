"""What is saved in training a model, by its size and where it is trained: a pure decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Of LoRA, for a large encoder.
_RANK = 16


@dataclass(frozen=True)
class Economy:
    """What a training saves.

    Attributes:
        bf16: Matrix products in bfloat16; the weights stay in float32.
        checkpointing: Activations are computed again instead of kept.
        rank: Of the LoRA adapters that are trained in the place of all weights; 0 without.
    """

    bf16: bool
    checkpointing: bool
    rank: int


def economy_of(
    *,
    large: bool,
    device: str,
    bf16_hardware: bool,
    checkpointing: Literal["auto", "on", "off"],
    rank: int | None,
) -> Economy:
    """What to save.

    Of a large encoder on a GPU, memory for activations is what there is least of; on a CPU there is more of
    it than time.

    Args:
        large: Whether the encoder has `large_encoder_parameters` or more.
        device: Where it is trained, as torch names it.
        bf16_hardware: Whether that device computes in bfloat16 in hardware, by `devices.supports_bf16`.
        checkpointing: `HONELOOP_GRADIENT_CHECKPOINTING`.
        rank: `HONELOOP_LORA_RANK`; None leaves it to the size.
    """
    cuda = device.partition(":")[0] == "cuda"
    return Economy(
        bf16=bf16_hardware,
        checkpointing=checkpointing == "on" or (checkpointing == "auto" and large and cuda),
        rank=rank if rank is not None else _RANK if large else 0,
    )
