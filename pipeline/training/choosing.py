"""Which weights of a training are kept: those of the last validation that is not clearly worse than the best.

A few validation queries tell two steps of one training apart by chance more than by merit, and to keep the
luckiest step is to keep one whose learning rate had not come down yet. Breiman et al., "Classification and
Regression Trees", 1984, section 3.4.3: of all that are within one standard error of the best, the best is not
what is chosen, but what there is another reason to prefer. Here that is the later step. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def is_clearly_worse(values: Sequence[float], best: Sequence[float], tolerance: float) -> bool:
    """Whether `values` are below `best` by more than chance explains.

    That is by more than `tolerance` standard errors of the mean difference, which are those of paired
    values: sd(values − best) / √n. One pair alone has no such error, and any loss counts.

    Args:
        values: a metric for each query.
        best: the same for the same queries.
        tolerance: in standard errors; with 0 any loss counts.
    """
    differences = np.asarray(values, dtype=np.float64) - np.asarray(best, dtype=np.float64)
    count = len(differences)
    error = float(differences.std(ddof=1)) / count**0.5 if count > 1 else 0.0
    return float(differences.mean()) < -tolerance * error
