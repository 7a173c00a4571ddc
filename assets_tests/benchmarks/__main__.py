"""The benchmarks, one after the other: a table at the end, and a file with all figures.

    python -m assets_tests.benchmarks [--size quick|full] [--only NAME …] [--root DIRECTORY …]
        [--results DIRECTORY]

Each compares in turns within one run, so what counts are the ratios. Optional peers are measured where a
variable names the interpreter they are installed for: HONELOOP_COCOINDEX_PYTHON. Settings of yours have no
effect (`environment`).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from assets_tests.benchmarks.comparing import Comparison, Found, Size
from assets_tests.benchmarks.environment import ROOTS
from assets_tests.benchmarks.installed_files import named_roots
from assets_tests.benchmarks.provenance import provenance, show, write_figures

# By what they are called on the command line, in the order of the loop; each is a module with `run(size)`.
BENCHMARKS = {
    "extraction": "extraction",
    "embedding": "embedding",
    "indexing": "indexing",
    "reindexing": "reindexing",
    "search-growth": "search_growth",
    "fine-tuning": "fine_tuning",
    "dagster": "dagster_overhead",
}


def table_of(found: Mapping[str, Found]) -> Table:
    """What is shown at the end."""
    table = Table(title="Side by side")
    table.add_column("what")
    table.add_column("Honeloop")
    table.add_column("beside it")
    for column in ("ratio", "goal", ""):
        table.add_column(column, justify="right", no_wrap=True)
    for benchmark in found.values():
        for line in benchmark.lines:
            table.add_row(*_row(line))
        table.add_section()
    return table


def _row(line: Comparison) -> tuple[str, ...]:
    met = ""
    if line.goal is not None and line.ratio is not None:
        met = "met" if line.goal.met(line.ratio) else "missed"
    return (
        line.what,
        line.ours,
        line.theirs,
        "" if line.ratio is None else f"{line.ratio:.2f}",
        "" if line.goal is None else str(line.goal),
        met,
    )


def figures(found: Mapping[str, Found], size: Size) -> dict[str, Any]:
    """What is written down: machine and versions, and of each benchmark its ratios and all behind them."""
    return {
        **provenance([], size=size, load_average=os.getloadavg()),
        "benchmarks": {name: each.to_json() for name, each in found.items()},
    }


def run(
    names: Sequence[str], size: Size, say: Callable[[str], None], keep: Callable[[dict[str, Found]], None]
) -> dict[str, Found]:
    """Runs the benchmarks of these names. One that fails is said, and takes no other along.

    Args:
        names: Of `BENCHMARKS`.
        size: Of each.
        say: Told what is under way.
        keep: Given all figures whenever there are more of them.
    """
    found: dict[str, Found] = {}
    for name in names:
        say(f"{name} …")
        started = time.perf_counter()
        try:
            module = import_module(f"assets_tests.benchmarks.{BENCHMARKS[name]}")
            found[name] = module.run(size)
        except Exception as error:
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}"
            found[name] = Found([Comparison(name, "", f"failed: {reason}")], {"failed": reason})
        seconds = found[name].details["benchmark_seconds"] = round(time.perf_counter() - started, 1)
        say(f"{name}: {seconds:.0f} s")
        keep(found)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is asked for; 1 if a benchmark failed. Missing a goal is no failure: machines differ."""
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=("quick", "full"), default="quick", help="minutes, or hours")
    parser.add_argument("--only", nargs="+", choices=tuple(BENCHMARKS), metavar="NAME", help="these alone")
    parser.add_argument(
        "--root",
        action="append",
        type=Path,
        metavar="DIRECTORY",
        help=f"code of more languages, for extraction; or in {ROOTS}, separated by {os.pathsep!r}",
    )
    parser.add_argument("--results", type=Path, default=Path("bench-results"), help="where figures go")
    given = parser.parse_args(arguments)
    if given.root:
        os.environ[ROOTS] = os.pathsep.join(map(str, given.root))
    named_roots()  # what is no directory is said now, not after an hour
    console = Console(stderr=True)
    written = given.results / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}.json"
    found = run(
        given.only or list(BENCHMARKS),
        given.size,
        lambda line: console.print(line, style="dim"),
        lambda so_far: write_figures(written, figures(so_far, given.size)),
    )
    show(table_of(found))
    print(f"Load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors. All figures: {written}")
    return int(any("failed" in each.details for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())
