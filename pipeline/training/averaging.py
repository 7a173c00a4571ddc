"""Weight averaging: a model between the base and what was trained from it, the share chosen on validation.

θ = share · trained + (1 − share) · base, weight by weight. What the base could do is forgotten less than in
proportion, and what was learned is kept more than in proportion: Wortsman et al., "Robust fine-tuning of
zero-shot models" (WiSE-FT), 2022; Xiao et al., "LM-Cocktail: Resilient Tuning of Language Models via Model
Merging", 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.training.validation import BY_ORIGIN, EACH, METRIC, shown_metrics

if TYPE_CHECKING:
    import torch
    from torch import nn

Measured = Mapping[str, Any]
# What the base already does well for feedback and for documentation must not be lost for the other's sake.
_HELD = ("feedback", "docstring")


def averaged_weights(
    base: Mapping[str, torch.Tensor], trained: Mapping[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """The weights at `share` of the way from base to trained; what is not a floating-point number is kept."""
    return {
        name: base[name].lerp(tensor, share) if tensor.is_floating_point() else tensor
        for name, tensor in trained.items()
    }


def average(
    model: nn.Module,
    base: Mapping[str, torch.Tensor],
    shares: Sequence[float],
    max_loss: float,
    measure: Callable[[], Measured],
) -> tuple[float, list[dict[str, Any]]]:
    """Gives the trained model the average that validates best. Returns its share and the curve of all.

    Args:
        model: trained; has the chosen weights afterwards.
        base: the weights it was trained from, on its device.
        shares: those that are tried, over 0 and at most 1; 0 is measured too, to compare with.
        max_loss: see `best_share`.
        measure: the validation of the model as it is.
    """
    trained = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    curve: list[dict[str, Any]] = []
    for share in (0.0, *sorted(set(shares))):
        model.load_state_dict(averaged_weights(base, trained, share))
        measured = {name: value for name, value in measure().items() if name != EACH}
        curve.append({"share": share, **measured})
    chosen = best_share(curve, max_loss)
    # The ends are exact: no rounding stands between what was trained and what is kept.
    model.load_state_dict(trained if chosen == 1 else averaged_weights(base, trained, chosen))
    return chosen, curve


def best_share(curve: Sequence[Measured], max_loss: float) -> float:
    """The share of the best validation among those that lose nothing; of equals the smallest change.

    Args:
        curve: a validation per share; the first is that of share 0, the base itself, which is no choice.
        max_loss: how far a share may be below the base on the validation pairs of feedback, and on those of
            documentation. If each share is, the smallest is chosen.
    """
    base, *others = sorted(curve, key=lambda row: row["share"])
    held = [row for row in others if _kept(base, row, max_loss)]
    if not held:
        return others[0]["share"]
    return max(held, key=lambda row: (row[METRIC], -row["share"]))["share"]


def shown(row: Measured) -> str:
    """One point of the curve."""
    return f"{row['share']:g}: {shown_metrics(row)}"


def _kept(base: Measured, row: Measured, max_loss: float) -> bool:
    return all(
        row[BY_ORIGIN][origin][METRIC] >= base[BY_ORIGIN][origin][METRIC] - max_loss
        for origin in _HELD
        if origin in base[BY_ORIGIN]
    )
