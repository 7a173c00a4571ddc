"""What runs in the process of its own: takes files from stdin, gives back what is in them on stdout.

The kernel keeps the limits, so that they hold in any library's code: a timer of the processor time that one
file takes, whose signal ends the process, and a limit of its memory. Processor time and not the clock's: what
is beyond the limits must not depend on what else the machine does, for such a file is not tried again.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.corpus.bounded import frames
from pipeline.corpus.changed_functions import functions_in
from pipeline.corpus.cutting import cut_file
from pipeline.corpus.languages import get_language
from pipeline.corpus.tokens import TokenBudget

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Work:
    """What can be asked for. Each task takes what was said and a file's text, and gives JSON.

    Args:
        tokens: Name, most tokens, and the counter's module, function and arguments; None: no cutting.
    """

    def __init__(self, tokens: list[Any] | None) -> None:
        self._tokens = None if tokens is None else _budget(*tokens)
        self.tasks = {"cut": self._cut, "functions": self._functions}

    def _cut(self, said: dict[str, Any], source: bytes) -> dict[str, Any]:
        """The snippets of a file, as `cut_file` gives them."""
        assert self._tokens is not None
        found = cut_file(said["path"], source, get_language(said["language"]), self._tokens)
        return {"snippets": found.snippets, "syntax_errors": found.syntax_errors}

    def _functions(self, said: dict[str, Any], source: bytes) -> dict[str, Any]:
        """The functions of a file, as `functions_in` gives them."""
        found = functions_in(source, get_language(said["language"]))
        return {"functions": {name: [each.code, each.essence.hex()] for name, each in found.items()}}


def main() -> None:
    """Serves until stdin ends. The first message says what the limits are and how tokens are counted."""
    requests, replies = _taken_streams()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this
    said, _ = frames.read(requests)
    _end_with(said["parent"])
    work = Work(said["tokens"])
    _limit_memory(said["memory_bytes"])
    frames.write(replies, {"ready": True})
    while True:
        try:
            said, content = frames.read(requests)
        except EOFError:
            return
        # By default SIGPROF ends a process, wherever it is.
        signal.setitimer(signal.ITIMER_PROF, said["seconds"])
        reply = _answer(work.tasks[said["task"]], said, content)
        signal.setitimer(signal.ITIMER_PROF, 0)
        try:
            frames.write(replies, reply)
        except frames.TooLongError:
            frames.write(replies, {"beyond": f"its snippets take more than {frames.MAX_BYTES:,} bytes"})


def _answer(
    task: Callable[[dict[str, Any], bytes], dict[str, Any]], said: dict[str, Any], content: bytes
) -> dict[str, Any]:
    try:
        return task(said, content)
    except MemoryError:
        return {"beyond": "memory"}
    except Exception as error:  # whatever it is, it is this one file's
        return {"beyond": f"could not be parsed ({error!r:.200})"}


def _budget(name: str, most: int, counter: tuple[str, str, list[Any]]) -> TokenBudget:
    module, function, arguments = counter
    count = getattr(importlib.import_module(module), function)(*arguments)
    return TokenBudget(name, most, count)


def _taken_streams() -> tuple[BinaryIO, BinaryIO]:
    """Stdin and stdout for the messages alone: what a library prints goes to stderr."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def _end_with(parent: int) -> None:
    """Ends this process with its parent, even while it computes; elsewhere than on Linux, after its file."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before
            os._exit(1)


def _limit_memory(most: int) -> None:
    """Limits what this process may allocate from now on, where the system can (Linux can)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    statm = Path("/proc/self/statm")
    # The sixth figure: pages of data and stack, which is what the limit is about.
    now = int(statm.read_text("ascii").split()[5]) * resource.getpagesize() if statm.exists() else 0
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (now + most, now + most))


if __name__ == "__main__":
    main()
