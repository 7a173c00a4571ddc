"""A row of numbers as a line of small bars, for terminals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """One character per value, or per mean of neighbouring values if there are more than `width`.

    The lowest is the shortest bar and the highest the tallest; equal values make a line in the middle.
    """
    if len(values) > width:
        cuts = [round(i * len(values) / width) for i in range(width + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    if not values:
        return ""
    low, high = min(values), max(values)
    if low == high:
        return _BARS[3] * len(values)
    top = len(_BARS) - 1
    return "".join(_BARS[round((value - low) / (high - low) * top)] for value in values)
