"""Progress as lines of a run's log, and back: who follows a run from another process sees the same bars."""

import re
from contextlib import AbstractContextManager

from pipeline.progress import Advance, Progress

_STARTED = re.compile(r"(?P<what>.+): started(?:, (?P<total>[\d,]+) to do)?")
_SO_FAR = re.compile(r"(?P<what>.+): (?P<done>[\d,]+)(?: of [\d,]+)?")
_ENDED = re.compile(r"(?P<what>.+): done in [\d.]+ s")


def started_line(description: str, total: int | None) -> str:
    """A stage begins."""
    return f"{description}: started" + (f", {total:,} to do" if total else "")


def so_far_line(description: str, done: int, total: int | None) -> str:
    """So far it is."""
    return f"{description}: {done:,}" + (f" of {total:,}" if total else "")


def ended_line(description: str, seconds: float) -> str:
    """It ended well."""
    return f"{description}: done in {seconds:.1f} s"


class ProgressReader:
    """Tells `progress` what the lines of a run's log say."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._open: dict[str, tuple[AbstractContextManager[Advance], Advance, int]] = {}

    def read(self, line: str) -> None:
        """One line: a stage that begins, goes on or ends; anything else is a note."""
        if (found := _STARTED.fullmatch(line)) is not None:
            self._close(found["what"])
            total = found["total"]
            stage = self._progress.stage(found["what"], None if total is None else _number(total))
            self._open[found["what"]] = stage, stage.__enter__(), 0
        elif (found := _SO_FAR.fullmatch(line)) is not None and found["what"] in self._open:
            stage, advance, before = self._open[found["what"]]
            done = _number(found["done"])
            advance(done - before)
            self._open[found["what"]] = stage, advance, done
        elif (found := _ENDED.fullmatch(line)) is not None and found["what"] in self._open:
            self._close(found["what"])
        else:
            self._progress.note(line)

    def close(self) -> None:
        """Ends the stages that a run left open when it failed."""
        for what in reversed(list(self._open)):
            self._close(what)

    def _close(self, what: str) -> None:
        if what in self._open:
            stage, _, _ = self._open.pop(what)
            stage.__exit__(None, None, None)


def _number(text: str) -> int:
    return int(text.replace(",", ""))
