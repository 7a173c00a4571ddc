"""Threads for what blocks, so that the event loop never does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

Result = TypeVar("Result")
# Enough to fill the encoder's batches twice; more would only wait for it.
WORK_THREADS = 32
# Health and metrics have threads of their own: they answer while every other is stuck.
WATCH_THREADS = 4


class Threads:
    """So many calls at once; others wait their turn, in order."""

    def __init__(self) -> None:
        self._work = anyio.CapacityLimiter(WORK_THREADS)
        self._watch = anyio.CapacityLimiter(WATCH_THREADS)

    async def run(self, call: Callable[[], Result]) -> Result:
        """What `call` gives."""
        return await anyio.to_thread.run_sync(call, limiter=self._work)

    async def watch(self, call: Callable[[], Result], within: float) -> Result:
        """What `call` gives, in a thread that no search can take.

        Raises:
            TimeoutError: it took longer than `within` seconds; it is left to itself.
        """
        with anyio.fail_after(within):
            return await anyio.to_thread.run_sync(call, limiter=self._watch, abandon_on_cancel=True)
