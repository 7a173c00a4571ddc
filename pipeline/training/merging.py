"""Model merging: one base trained in several ways, and the average of what they came to.

θ = (θ₁ + … + θₙ) / n, weight by weight. What each training learned by chance differs and mostly cancels, what
they agree on stays: Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves
accuracy without increasing inference time" (2022). It holds for models that were trained from one base and
did not go far from it.

This module imports torch: import it inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from pipeline.training.history import Row
from pipeline.training.validation import EACH

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


def merge(
    model: nn.Module, ended: Sequence[Weights], names: Sequence[str], measure: Callable[[], Row] | None
) -> list[dict[str, Any]]:
    """Gives the model the average of its own weights and of those of the parts that ended before it.

    Args:
        model: has the weights of the last part; has the average afterwards.
        ended: the weights of the others, in their order.
        names: what each part is called, the last among them.
        measure: the validation of the model as it is; None: nothing is measured.

    Returns:
        A row for each "part", and last that of "merged", with the validation of each.
    """
    parts = [*ended, weights_in_memory(model)]
    rows: list[dict[str, Any]] = []
    for name, weights in zip([*names, "merged"], [*parts, merged(parts)], strict=True):
        model.load_state_dict(weights)
        measured = {} if measure is None else measure()
        rows.append({"part": name, **{key: each for key, each in measured.items() if key != EACH}})
    return rows


def weights_in_memory(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of a model's weights, not on its device, which has less memory."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}
