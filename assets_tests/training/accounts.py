"""Accounts of trainings that nothing made, for what reads accounts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.training.account import Account
from pipeline.training.history import Row


def account(history: Sequence[Row], **others: Any) -> Account:
    """An account with this history; what else it says is given by name, or next to nothing."""
    values: dict[str, Any] = {
        "recipe_key": "0" * 64,
        "base_version": "0",
        "recipe": {},
        "stages": [],
        "validation": {},
        "history": list(history),
        "best_step": max((row["step"] for row in history), default=0),
        "merging": [],
        "averaging": {},
        "convergence": {"overfitting": []},
        "lora_rank": 0,
        "processes": 1,
        "resumed_at": [],
        "device": "cpu",
        "seconds": 1.0,
        "peak_memory_bytes": 1,
    }
    return Account(**{**values, **others})
