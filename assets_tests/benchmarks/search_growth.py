"""How a search grows with the rows: percentiles, parts, throughput, and each index with its recall.

    python -m assets_tests.benchmarks.search_growth --rows 10000 100000 1000000 --embedded 20000
        [--cache V.npz] [--json F.json]

The databases are asked in turns, so that the growth is not what else the machine did meanwhile. All are
filled from the same real vectors; what is beyond these are copies that differ as near-duplicates do
(`big_corpus`).
Filters and words beside meaning: `search_latency`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from assets_tests.benchmarks.comparing import Comparison, Found, Size
from assets_tests.benchmarks.indexed_rows import CLIENTS, EmbeddedCode, Searching
from assets_tests.benchmarks.provenance import provenance, show, write_figures
from pipeline.index.serving import serving_index

ROWS: dict[Size, int] = {"quick": 2_000, "full": 10_000}
TIMES = 10
EMBEDDED: dict[Size, int] = {"quick": 200, "full": 5_000}
SEARCHES: dict[Size, int] = {"quick": 200, "full": 1_000}
PERCENTILES = (50, 95, 99)
PARTS = ("encode", "search", "fetch")
DATABASE = "search and fetch"
THROUGHPUT_ROUNDS = 3


@dataclass(frozen=True)
class Growth:
    """What was measured with so many rows.

    Args:
        rows: Texts in the index.
        recall_at_10: Of HNSW against exact search.
        ef_search: The breadth it has that recall at.
        build_seconds: Loading and HNSW.
        milliseconds: Percentiles of each part, of the database's two parts together, and of all.
        shares: Of the time that all searches took together, by part.
        per_second: Of one client, of several, and of several that ask the database alone.
    """

    rows: int
    recall_at_10: float
    ef_search: int
    build_seconds: float
    milliseconds: dict[str, dict[str, float]]
    shares: dict[str, float]
    per_second: dict[str, float]


def run(size: Size) -> Found:
    """Two indexes, one with ten times the rows of the other."""
    return measure((ROWS[size], TIMES * ROWS[size]), EMBEDDED[size], SEARCHES[size])


def measure(counts: Sequence[int], embedded: int, searches: int, cache: Path | None = None) -> Found:
    """See the module."""
    code = EmbeddedCode.made(embedded, cache=cache)
    with ExitStack() as open_until_the_end:
        databases = [open_until_the_end.enter_context(code.rows(count)) for count in counts]
        built = [rows.build() for rows in databases]
        asked = [open_until_the_end.enter_context(rows.searching()) for rows in databases]
        seconds = _in_turns(asked, searches)
        per_second = _throughput(asked, searches)
        found = [
            Growth(
                report.rows,
                report.recall_at_10,
                serving_index(rows.db).ef_search,
                report.build_seconds,
                *_of_parts(seconds[number]),
                {"1 client": searches / float(seconds[number].sum()), **per_second[number]},
            )
            for number, (rows, report) in enumerate(zip(databases, built, strict=True))
        ]
    details = {
        "real vectors": len(code.vectors),
        "queries": len(code.queries),
        "growth": [asdict(each) for each in found],
    }
    return Found([line for each in found[1:] for line in _lines(found[0], each)], details)


def _in_turns(asked: Sequence[Searching], searches: int) -> NDArray[np.float64]:
    """Seconds, shape (databases, searches, parts), after half as many searches that only warm up."""
    for number in range(searches // 2):
        for each in asked:
            each.parts(number)
    laps = [[each.parts(number) for each in asked] for number in range(searches)]
    return np.array(laps).transpose(1, 0, 2)


def _throughput(asked: Sequence[Searching], searches: int) -> list[dict[str, float]]:
    names = {f"{CLIENTS} clients": True, f"{CLIENTS} clients, the database alone": False}
    rounds = [
        [
            {name: each.per_second(searches, encoding=encoding) for name, encoding in names.items()}
            for each in asked
        ]
        for _ in range(THROUGHPUT_ROUNDS)
    ]
    return [
        {name: float(np.median([turn[number][name] for turn in rounds])) for name in names}
        for number in range(len(asked))
    ]


def _of_parts(seconds: NDArray[np.float64]) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Percentiles in milliseconds, and shares."""
    by_name: dict[str, NDArray[np.float64]] = dict(zip(PARTS, seconds.T, strict=True))
    shares = {name: float(each.sum() / seconds.sum()) for name, each in by_name.items()}
    by_name[DATABASE] = by_name["search"] + by_name["fetch"]
    by_name["whole"] = seconds.sum(axis=1)
    return {
        name: {f"p{percent}": float(np.percentile(1000 * each, percent)) for percent in PERCENTILES}
        for name, each in by_name.items()
    }, shares


def _lines(few: Growth, many: Growth) -> list[Comparison]:
    lines = [
        Comparison(
            f"p{percent} of a search of {many.rows:,} texts over one of {few.rows:,}, without encoding",
            f"{many.milliseconds[DATABASE][f'p{percent}']:.1f} ms, recall@10 {many.recall_at_10:.3f}",
            f"{few.milliseconds[DATABASE][f'p{percent}']:.1f} ms, recall@10 {few.recall_at_10:.3f}",
            many.milliseconds[DATABASE][f"p{percent}"] / few.milliseconds[DATABASE][f"p{percent}"],
        )
        for percent in PERCENTILES
    ]
    lines += [
        Comparison(
            f"searches a second at {many.rows:,} over {few.rows:,}: {name}",
            f"{many.per_second[name]:.0f}",
            f"{few.per_second[name]:.0f}",
            many.per_second[name] / few.per_second[name],
        )
        for name in many.per_second
    ]
    lines.append(
        Comparison(
            f"{' / '.join(PARTS)} at {many.rows:,} and at {few.rows:,}: shares of a search's time",
            _shares(many),
            _shares(few),
        )
    )
    return lines


def _shares(growth: Growth) -> str:
    return " / ".join(f"{growth.shares[name]:.0%}" for name in PARTS)


def table_of(found: Found) -> Table:
    """All sizes side by side."""
    table = Table(title=f"Searches; {found.details['real vectors']:,} real vectors")
    growth = [Growth(**each) for each in found.details["growth"]]
    table.add_column("rows")
    for each in growth:
        table.add_column(f"{each.rows:,}", justify="right")
    table.add_row("recall@10 (breadth)", *(f"{each.recall_at_10:.3f} ({each.ef_search})" for each in growth))
    for name in growth[0].milliseconds:
        table.add_row(
            f"{name}: p50 / p95 / p99, ms",
            *(" / ".join(f"{value:.1f}" for value in each.milliseconds[name].values()) for each in growth),
        )
    table.add_row(
        f"{' / '.join(PARTS)}, shares",
        *map(_shares, growth),
    )
    for name in growth[0].per_second:
        table.add_row(f"a second: {name}", *(f"{each.per_second[name]:.0f}" for each in growth))
    table.add_row("built in", *(f"{each.build_seconds:.0f} s" for each in growth))
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table, and writes the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000], help="of each database")
    parser.add_argument("--embedded", type=int, default=5_000, help="really; the other vectors repeat them")
    parser.add_argument("--searches", type=int, default=1_000, help="of each database")
    parser.add_argument("--cache", type=Path, help="a .npz file to keep vectors in between runs")
    parser.add_argument("--json", type=Path, help="where the figures go, too")
    given = parser.parse_args(arguments)
    found = measure(sorted(given.rows), given.embedded, given.searches, given.cache)
    show(table_of(found))
    write_figures(given.json, {**provenance([17], rows=given.rows), **found.to_json()})


if __name__ == "__main__":
    main()
