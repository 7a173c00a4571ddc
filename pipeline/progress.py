"""How long work says where it is: one protocol, so that the terminal and Dagster's log show the same."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Told what is going on. Implementations must be cheap to call."""

    def stage(self, description: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Enters a stage of `total` units; the value yielded is called with how many more are done."""
        ...

    def note(self, message: str) -> None:
        """One line worth keeping: a metric, something reused, something skipped."""
        ...


class Silent:
    """Says nothing: for tests and `--json`."""

    @contextmanager
    def stage(self, description: str, total: int | None = None) -> Generator[Advance]:
        """Ignores everything."""
        del description, total
        yield lambda _: None

    def note(self, message: str) -> None:
        """Ignores everything."""
        del message
