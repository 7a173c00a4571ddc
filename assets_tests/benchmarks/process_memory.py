"""The most memory that a process had, and that it had together with those that it started."""

from __future__ import annotations

import threading
from typing import Self

import psutil

SECONDS_BETWEEN = 0.2


class TreeWatch:
    """Looks, five times a second, at how much memory a process and its descendants have.

    What several of them share counts once (PSS), where the system tells (Linux); elsewhere not at all (USS).
    A peak between two looks is missed. Files that are mapped count as they do in the peak of one process.

    Args:
        pid: Of the process; it may end meanwhile.
    """

    def __init__(self, pid: int) -> None:
        self.peak_mb = 0.0
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN):
            try:
                tree = [self._process, *self._process.children(recursive=True)]
            except psutil.Error:
                return
            self.peak_mb = max(self.peak_mb, sum(map(_megabytes, tree)))


def _megabytes(process: psutil.Process) -> float:
    try:
        held = process.memory_full_info()
    except psutil.Error:  # it ended
        return 0.0
    return getattr(held, "pss", held.uss) / 1e6
