"""Where an encoder computes, and in which number format: asked of torch itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline.errors import BadInputError

if TYPE_CHECKING:
    import torch

VARIABLE = "HONELOOP_DEVICE"


def best_device(requested: str | None = None) -> str:
    """The device to compute on: what was requested (or `HONELOOP_DEVICE`), else CUDA, then MPS, then CPU.

    Args:
        requested: `cpu`, `mps`, `cuda` or `cuda:1`; None or empty asks the environment, then torch.

    Raises:
        BadInputError: torch does not know the device, or this machine does not have it.
    """
    wanted = (requested or os.environ.get(VARIABLE) or "").strip().lower()
    if wanted == "cpu":  # always there: torch need not be loaded to know
        return wanted
    if wanted:
        return _checked(wanted)
    return available_devices()[0]


def available_devices() -> list[str]:
    """The kinds of device that torch can use on this machine, the best first; the CPU is always there."""
    import torch

    devices: list[str] = []
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def _checked(name: str) -> str:
    import torch

    here = available_devices()
    hint = f"This machine has: {', '.join(here)}. Set {VARIABLE} to one of them, or unset it for the best."
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BadInputError(f"{name!r} is not a device.", hint=hint) from error
    if device.type not in here:
        raise BadInputError(f"The device {name!r} is not available.", hint=hint)
    count = torch.cuda.device_count()
    if device.type == "cuda" and ":" in name and device.index >= count:
        raise BadInputError(f"The device {name!r} is not available: CUDA has {count} devices.", hint=hint)
    return name


def supports_bf16(device: str) -> bool:
    """Whether the device computes in bfloat16 in hardware.

    The CPU counts as not: its vectors are the reference the others are compared with, so it stays in float32.
    """
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return False


def compute_dtype(device: str) -> torch.dtype:
    """bfloat16 where the hardware has it, else float32."""
    import torch

    return torch.bfloat16 if supports_bf16(device) else torch.float32
