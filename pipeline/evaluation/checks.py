"""Whether a measured model is fit to be decided about, read from its stored evaluation and its weights.

What does not belong here: whether it is worse than another, which is for the gate to say (promotion/).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.checking import Outcome
from pipeline.config import Settings
from pipeline.evaluation.results import Evaluation

if TYPE_CHECKING:
    from pipeline.encoders.sanity import SanityResult


def sanity_holds(results: Sequence[SanityResult]) -> Outcome:
    """Every sanity check of the encoder passed, and there was at least one."""
    failed = [f"{result.name}: {result.message}" for result in results if not result.passed]
    return Outcome(
        bool(results) and not failed,
        "; ".join(failed) if failed else f"All {len(results)} sanity checks passed.",
        {result.name: result.value for result in results},
        hint="Such a model must not serve; train again with a lower HONELOOP_LEARNING_RATE."
        if failed
        else "",
    )


def metrics_reach_thresholds(evaluation: Evaluation, settings: Settings) -> Outcome:
    """Every metric is a share, each query has one, and the gate's metric reaches `min_metric`.

    Below it, a model ranks next to nothing right: something is broken that no comparison would show.
    """
    means = {name: interval.mean for name, interval in evaluation.overall.items()}
    absurd = [name for name, mean in means.items() if not (math.isfinite(mean) and 0 <= mean <= 1)]
    reached = means.get(settings.gate_metric, 0.0)
    return Outcome(
        not absurd and reached >= settings.min_metric,
        f"{settings.gate_metric} is {reached:.3f} over {evaluation.queries} queries; at least "
        f"{settings.min_metric} is asked for."
        + (f" These are no shares: {', '.join(absurd)}." if absurd else ""),
        {name: round(mean, 4) for name, mean in means.items()},
        hint="HONELOOP_MIN_METRIC is the limit.",
    )
