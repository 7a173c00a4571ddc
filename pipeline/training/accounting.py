"""What is stored and shown of how a training set came about: counts, thresholds, margins. Figures only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.training.mining import Tally
from pipeline.training.pairs import Origin, Pair
from pipeline.training.splits import ORIGINS

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Width of a bar of the histogram of margins, in cosine.
BAR = 0.05
# What mining calls the two ways of being the same code.
_COPIES = ("near-duplicate of an answer", "same code as the positive")
_NAMESAKES = "same name as the positive"


def counts_of(
    pairs: Sequence[Pair],
    *,
    dropped: Mapping[Origin, Counter[str]],
    commits: Mapping[str, Mapping[str, int]],
    unfair: Mapping[str, int],
    tally: Tally,
    max_ratio: float,
) -> dict[str, Any]:
    """The counts of a training set, JSON.

    Args:
        pairs: Its pairs with their negatives.
        dropped: What did not become a pair, by origin and reason.
        commits: Commits looked at, by repository: how many are used, and how many left out by reason.
        unfair: People's negatives that were left out, by reason.
        tally: What mining did.
        max_ratio: The threshold it had.
    """
    return {
        "pairs": by_split(pairs),
        "dropped": {origin: dict(sorted(reasons.items())) for origin, reasons in dropped.items()},
        "commits": {repository: dict(reasons) for repository, reasons in commits.items()},
        "negatives": dict(Counter(negative.reason for pair in pairs for negative in pair.negatives)),
        "judged_negatives_dropped": dict(unfair),
        "mining": _mining(tally, pairs, max_ratio),
        "margins": margins(pairs),
    }


def by_split(pairs: Sequence[Pair]) -> dict[str, dict[str, int]]:
    """How many pairs of each origin stand on each side."""
    counted = Counter((pair.split, pair.origin) for pair in pairs)
    return {
        split: {origin: counted[split, origin] for origin in ORIGINS if counted[split, origin]}
        for split in ("train", "validation", "test")
    }


def _mining(tally: Tally, pairs: Sequence[Pair], max_ratio: float) -> dict[str, Any]:
    passed = dict(sorted(tally.passed.items()))
    return {
        "max_ratio": max_ratio,
        "candidates": tally.candidates,
        "over_threshold": tally.over_threshold,
        "near_duplicates": sum(passed.get(reason, 0) for reason in _COPIES),
        "same_name": passed.get(_NAMESAKES, 0),
        "passed": passed,
        "taken": tally.taken,
        "asking": dict(tally.asking),
        "nothing_found": tally.without.total(),
        "nothing_found_by_origin": {origin: count for origin, count in tally.without.items() if count},
        "at_thresholds": {
            origin: {
                "candidates": at.candidates,
                "rejected": {f"{ratio:g}": count for ratio, count in at.rejected.items()},
                "pairs_without": {f"{ratio:g}": count for ratio, count in at.pairs_without.items()},
            }
            for origin, at in tally.at_thresholds.items()
        },
        "margin": _quantiles([margin for reason, margin in _margins(pairs) if reason == "mined"]),
    }


def margins(pairs: Sequence[Pair]) -> dict[str, Any]:
    """How far, in cosine under the mining model, negatives stay below their positives, before any training.

    Returns:
        Per reason of the negative: how many, how many of them above their positive, and quantiles; and a
        histogram of all: [lower end, upper end, count].
    """
    found = _margins(pairs)
    by_reason: dict[str, list[float]] = {}
    for reason, margin in found:
        by_reason.setdefault(reason, []).append(margin)
    return {
        "by_reason": {
            reason: {
                "triplets": len(values),
                "negative_above_positive": sum(value < 0 for value in values),
                "quantiles": _quantiles(values),
            }
            for reason, values in sorted(by_reason.items())
        },
        "histogram": _histogram([margin for _, margin in found]),
    }


def _margins(pairs: Sequence[Pair]) -> list[tuple[str, float]]:
    return [
        (negative.reason, negative.positive_score - negative.negative_score)
        for pair in pairs
        for negative in pair.negatives
        if negative.positive_score is not None and negative.negative_score is not None
    ]


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    return {
        f"p{quantile * 100:g}": round(float(value), 4)
        for quantile, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)
    }


def _histogram(values: Sequence[float]) -> list[list[float]]:
    if not values:
        return []
    bars = np.floor(np.array(values) / BAR).astype(int)
    return [
        [round(bar * BAR, 2), round((bar + 1) * BAR, 2), int((bars == bar).sum())]
        for bar in range(int(bars.min()), int(bars.max()) + 1)
    ]
