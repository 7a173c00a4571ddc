"""A progress that remembers what it was told."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from pipeline.progress import Advance


class Notes:
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.totals: dict[str, int | None] = {}
        self.done = 0

    @contextmanager
    def stage(self, description: str, total: int | None = None) -> Generator[Advance]:
        self.totals[description] = total

        def advance(steps: int) -> None:
            self.done += steps

        yield advance

    def note(self, message: str) -> None:
        self.notes.append(message)
