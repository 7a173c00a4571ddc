"""Progress on a terminal: a bar for whatever takes longer than a moment, and lines worth keeping above it.

Everything goes to standard error: standard output belongs to the result.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pipeline.progress import Advance


class TerminalProgress:
    """Rich bars and notes on `console`; where that is no terminal, only the notes. Implements `Progress`.

    Use it as a context manager, so that the terminal is given back whatever happens:

        with TerminalProgress(console) as progress:
            with progress.stage("Embedding", 200) as advance: ...
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()

    @contextmanager
    def stage(self, description: str, total: int | None = None) -> Generator[Advance]:
        """Shows a bar of `total` units, or a pulsing one if None, until the block ends."""
        task = self._bars.add_task(description, total=total)
        try:
            yield lambda done: self._bars.advance(task, done)
        finally:
            self._bars.remove_task(task)

    def note(self, message: str) -> None:
        """Prints one line above the bars."""
        self.console.print(message, markup=False, highlight=False, soft_wrap=True)
