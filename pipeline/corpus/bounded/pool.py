"""Several processes that parse side by side: files go out as they come, and are taken back in any order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from math import ceil
from queue import LifoQueue
from threading import Lock
from types import TracebackType
from typing import Self, TypeVar

from pipeline.config import Settings
from pipeline.corpus.bounded.cutter import Cutter, SourceFile
from pipeline.corpus.bounded.limits import BeyondLimitsError
from pipeline.corpus.cutting import CutFile
from pipeline.corpus.languages import Language
from pipeline.corpus.tokens import TokenBudget
from pipeline.processors import usable_processors

T = TypeVar("T")
Asked = tuple[SourceFile, Future[CutFile]]

# Files on their way for each process: so many that none waits while another has a long one, and that short
# ones can share a message.
_AHEAD = 16
# Bytes of short files that are cut for one message.
_TOGETHER = 65_536


class CutterPool:
    """Cutters, each asked by a thread of its own, which does nothing but wait. A context manager.

    A process is started when all others are busy, so a single file starts one. The threads live as long as
    the pool: the system ends a process with the thread that started it.

    Args:
        settings: `parse_processes`, and what `Cutter` needs.
        tokens: How long a snippet may be.
    """

    def __init__(self, settings: Settings, tokens: TokenBudget) -> None:
        self._count = settings.parse_processes or usable_processors()
        self._cutters = [Cutter(settings, tokens) for _ in range(self._count)]
        self._free = LifoQueue[Cutter]()  # the one that was used last is used first
        for cutter in reversed(self._cutters):
            self._free.put(cutter)
        self._waiting = deque[Asked]()
        self._working = 0  # threads
        self._lock = Lock()  # of the two
        self._threads = ThreadPoolExecutor(self._count, "cutting")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            for _, future in self._waiting:
                future.cancel()
            self._waiting.clear()
        self._threads.shutdown()
        for cutter in self._cutters:
            cutter.__exit__(kind, error, trace)

    @property
    def limits(self) -> str:
        """See `Cutter.limits`."""
        return self._cutters[0].limits

    def cut(self, path: str, source: bytes, language: Language) -> Future[CutFile]:
        """The snippets of a file, once they are there; see `Cutter.cut`."""
        future = Future[CutFile]()
        with self._lock:
            self._waiting.append((SourceFile(path, source, language), future))
            idle = self._working < self._count
            self._working += idle
        if idle:
            self._threads.submit(self._work)
        return future

    def ahead(self, asked: Iterable[T]) -> Iterator[T]:
        """The same, in the same order, asked for before their turn: so many that no process waits.

        And no more, for each may hold a file.
        """
        waiting = deque[T]()
        for each in asked:
            waiting.append(each)
            if len(waiting) > self._count * _AHEAD:
                yield waiting.popleft()
        yield from waiting

    def _work(self) -> None:
        """What a thread does: it cuts until nothing waits."""
        cutter = self._free.get()
        while share := self._share():
            _cut(cutter, share)
        self._free.put(cutter)

    def _share(self) -> list[Asked]:
        """The next file, and with it others that are short: no more than leaves as many for each process.

        With none, the thread that asks for it works no longer.
        """
        share: list[Asked] = []
        with self._lock:
            most = ceil(len(self._waiting) / self._count)
            size = 0
            while self._waiting and len(share) < most:
                file, future = self._waiting[0]
                size += len(file.source)
                if share and size > _TOGETHER:
                    break
                self._waiting.popleft()
                if future.set_running_or_notify_cancel():
                    share.append((file, future))
            if not share:
                self._working -= 1
        return share


def _cut(cutter: Cutter, share: list[Asked]) -> None:
    try:
        outcomes = cutter.cut_several([file for file, _ in share])
    except BaseException as error:  # whatever it is, those who wait have to hear of it
        for _, future in share:
            future.set_exception(error)
        return
    for (_, future), outcome in zip(share, outcomes, strict=True):
        if isinstance(outcome, BeyondLimitsError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
