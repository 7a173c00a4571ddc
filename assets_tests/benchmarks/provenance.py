"""What figures of a benchmark were measured with, and the file that keeps both."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from assets_tests.benchmarks.machine import machine

WIDE = 200  # characters, where nobody's terminal says how many there are


def provenance(seeds: Sequence[int], **said: Any) -> dict[str, Any]:
    """The machine and its libraries, the seeds, and whatever else decides the figures."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "seeds": list(seeds),
        **said,
    }


def write_figures(file: Path | None, figures: Mapping[str, Any]) -> None:
    """Writes the figures as JSON; nowhere if `file` is None."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def show(table: Table) -> None:
    """Prints a table, in a file or a pipe as wide as it needs to be."""
    console = Console()
    (console if console.is_terminal else Console(width=WIDE)).print(table)
