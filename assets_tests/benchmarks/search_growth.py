"""How a search grows with the rows: ten times as many, the database's part alone, each index with its recall.

The two databases are asked in turns, so that the growth is not what else the machine did meanwhile. A million
rows, encoding, filters and many clients: `search_latency`.
"""

from __future__ import annotations

import numpy as np

from assets_tests.benchmarks.comparing import Comparison, Found, Size
from assets_tests.benchmarks.indexed_rows import many_rows

ROWS: dict[Size, int] = {"quick": 2_000, "full": 10_000}
EMBEDDED: dict[Size, int] = {"quick": 200, "full": 5_000}
SEARCHES: dict[Size, int] = {"quick": 200, "full": 1_000}


def run(size: Size) -> Found:
    """Two indexes, one with ten times the rows of the other."""
    return measure(ROWS[size], EMBEDDED[size], SEARCHES[size])


def measure(count: int, embedded: int, searches: int) -> Found:
    """See the module."""
    with many_rows(count, embedded) as few, many_rows(10 * count, embedded) as many:
        built = few.build(), many.build()
        with few.searching() as one, many.searching() as other:
            for number in range(searches // 2):
                one.ask(number)
                other.ask(number)
            seconds = np.array([(one.ask(number), other.ask(number)) for number in range(searches)])
    lines = [
        Comparison(
            f"{name} of a search of {built[1].rows:,} texts over one of {built[0].rows:,}",
            f"{1000 * large:.1f} ms, recall@10 {built[1].recall_at_10:.3f}",
            f"{1000 * small:.1f} ms, recall@10 {built[0].recall_at_10:.3f}",
            float(large / small),
        )
        for name, (small, large) in (
            ("p50", np.percentile(seconds, 50, axis=0)),
            ("p95", np.percentile(seconds, 95, axis=0)),
        )
    ]
    return Found(lines, {"milliseconds": (1000 * seconds).round(3).tolist()})
