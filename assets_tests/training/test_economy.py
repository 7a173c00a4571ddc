"""What a training saves, by the size of the encoder and the device: decided without having either."""

from __future__ import annotations

from typing import Literal

import pytest

from pipeline.config import Settings
from pipeline.training.economy import Economy, economy_of


@pytest.mark.parametrize(
    ("device", "bf16_hardware", "large", "expected"),
    [
        ("cuda", True, True, Economy(bf16=True, checkpointing=True, rank=16)),
        ("cuda:1", True, True, Economy(bf16=True, checkpointing=True, rank=16)),
        # An older GPU, and a small encoder
        ("cuda", False, True, Economy(bf16=False, checkpointing=True, rank=16)),
        ("cuda", True, False, Economy(bf16=True, checkpointing=False, rank=0)),
        ("cpu", False, True, Economy(bf16=False, checkpointing=False, rank=16)),
        ("mps", False, True, Economy(bf16=False, checkpointing=False, rank=16)),
        ("cpu", False, False, Economy(bf16=False, checkpointing=False, rank=0)),
    ],
)
def test_what_is_left_to_size_and_device(
    device: str, *, bf16_hardware: bool, large: bool, expected: Economy
) -> None:
    untouched = Settings()
    assert untouched.gradient_checkpointing == "auto"
    assert untouched.lora_rank is None
    assert (
        economy_of(
            large=large,
            device=device,
            bf16_hardware=bf16_hardware,
            checkpointing=untouched.gradient_checkpointing,
            rank=untouched.lora_rank,
        )
        == expected
    )


@pytest.mark.parametrize(("checkpointing", "expected"), [("on", True), ("off", False)])
@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("large", [True, False])
@pytest.mark.parametrize("rank", [0, 4])
def test_what_is_set_is_done(
    checkpointing: Literal["on", "off"], *, expected: bool, device: str, large: bool, rank: int
) -> None:
    found = economy_of(
        large=large, device=device, bf16_hardware=False, checkpointing=checkpointing, rank=rank
    )
    assert found == Economy(bf16=False, checkpointing=expected, rank=rank)
