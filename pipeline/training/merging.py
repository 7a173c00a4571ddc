"""Model merging: one base trained in several ways, and the average of what they came to.

θ = (θ₁ + … + θₙ) / n, weight by weight. What each training learned by chance differs and mostly cancels, what
they agree on stays: Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves
accuracy without increasing inference time" (2022). It holds for models that were trained from one base and
did not go far from it.

This module imports torch: import it inside functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pipeline.training.validation import METRICS

Weights = Mapping[str, torch.Tensor]


def merged(parts: Sequence[Weights]) -> dict[str, torch.Tensor]:
    """The average of all parts, tensor by tensor; what is not a floating-point number is the last part's.

    Args:
        parts: at least one; the weights of one architecture each, by name.
    """
    return {
        name: torch.stack([part[name] for part in parts]).mean(dim=0) if last.is_floating_point() else last
        for name, last in parts[-1].items()
    }


def told(row: Mapping[str, Any]) -> str:
    """How one part, or the average, validates; see `Account.merging`."""
    return f"{row['part']}: " + ", ".join(f"{name} {row[name]:.4f}" for name in METRICS)
