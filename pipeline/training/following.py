"""What a training process tells whoever started it, on this machine or another, and what becomes of that.

Messages are tuples of a word and plain values, so that they go through a pipe as well as over a network.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Self

from pipeline.errors import BadInputError, HoneloopError
from pipeline.progress import Advance, Progress

Message = tuple[Any, ...]
Send = Callable[[Message], None]

RESUME_HINT = "Start it again: it goes on from the last saved step."


class Telling:
    """A progress that tells by messages. See `Progress`."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def stage(self, description: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Tells of a stage and its steps."""
        return self._stage(description, total)

    @contextmanager
    def _stage(self, description: str, total: int | None) -> Generator[Advance]:
        self._send(("stage", description, total))
        yield lambda steps: self._send(("advance", steps))
        self._send(("left",))

    def note(self, message: str) -> None:
        """Tells of a line worth keeping."""
        self._send(("note", message))


def failure(error: Exception) -> Message:
    """The message for what ended a training process: a sentence for people, or a traceback."""
    if isinstance(error, HoneloopError):
        return ("failed", error.message, error.hint, isinstance(error, BadInputError))
    return ("crashed", "".join(traceback.format_exception(error)))


class Following:
    """Passes on what the first process tells. Leave it, and the stages that it was in are left, too.

    Args:
        progress: what it is passed on to.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stages = ExitStack()
        self._advance: Advance | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stages.close()

    def take(self, message: Message) -> None:
        """Passes one message on; those that are no progress and no failure are the caller's.

        Raises:
            HoneloopError, BadInputError: the process failed with it.
        """
        kind, *told = message
        if kind == "note":
            self._progress.note(*told)
        elif kind == "stage":
            self._advance = self._stages.enter_context(self._progress.stage(*told))
        elif kind == "advance" and self._advance is not None:
            self._advance(*told)
        elif kind == "left":
            self._stages.close()
            self._advance = None
        elif kind == "failed":
            sentence, hint, bad_input = told
            raise (BadInputError if bad_input else HoneloopError)(sentence, hint=hint)


def crashed(rank: int, message: Message) -> HoneloopError:
    """The error for a process that told of a traceback."""
    return HoneloopError(
        f"Training process {rank} failed: {message[1]}",
        hint="This is a defect. HONELOOP_TRAIN_PROCESSES=1, with HONELOOP_ENGINE=local, trains without it.",
    )
