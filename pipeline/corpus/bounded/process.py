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
from pathlib import Path
from typing import BinaryIO

from pipeline.corpus.bounded import frames
from pipeline.corpus.bounded.messages import Answer, Begin, File, Reply, Task, Tokens
from pipeline.corpus.changed_functions import functions_in
from pipeline.corpus.cutting import cut_file
from pipeline.corpus.languages import get_language
from pipeline.corpus.tokens import TokenBudget

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Work:
    """What can be asked for.

    Args:
        tokens: How they are counted; None: no cutting.
    """

    def __init__(self, tokens: Tokens | None) -> None:
        self._tokens = None if tokens is None else _budget(tokens)

    def done(self, task: Task, file: File, source: bytes) -> Answer:
        """The snippets of a file, as `cut_file` gives them, or its functions, as `functions_in` does."""
        language = get_language(file.language)
        if task.task == "functions":
            return Answer(functions=functions_in(source, language))
        assert self._tokens is not None
        return Answer(file=cut_file(file.path, source, language, self._tokens))


def main() -> None:
    """Serves until stdin ends. The first message says what the limits are and how tokens are counted."""
    requests, replies = _taken_streams()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this
    begin, _ = frames.read(requests, Begin)
    _end_with(begin.parent)
    work = Work(begin.tokens)
    _limit_memory(begin.memory_bytes)
    frames.write(replies, Reply([]))
    while True:
        try:
            task, content = frames.read(requests, Task)
        except EOFError:
            return
        answers = _answers(work, task, content)
        try:
            frames.write(replies, Reply(answers))
        except frames.TooLongError:
            too_long = Answer(beyond=f"its snippets take more than {frames.MAX_BYTES:,} bytes")
            frames.write(replies, Reply([too_long] if len(answers) == 1 else []))


def _answers(work: Work, task: Task, content: bytes) -> list[Answer]:
    """Of each file; none if one of several takes too much memory, which it may not do alone."""
    answers: list[Answer] = []
    begin = 0
    for file in task.files:
        # By default SIGPROF ends a process, wherever it is.
        signal.setitimer(signal.ITIMER_PROF, task.seconds)
        answers.append(_answer(work, task, file, content[begin : begin + file.size]))
        signal.setitimer(signal.ITIMER_PROF, 0)
        begin += file.size
        if answers[-1].beyond == "memory" and len(task.files) > 1:
            return []
    return answers


def _answer(work: Work, task: Task, file: File, source: bytes) -> Answer:
    try:
        return work.done(task, file, source)
    except MemoryError:
        return Answer(beyond="memory")
    except Exception as error:  # whatever it is, it is this one file's
        return Answer(beyond=f"could not be parsed ({error!r:.200})")


def _budget(tokens: Tokens) -> TokenBudget:
    module, function, arguments = tokens.counter
    count = getattr(importlib.import_module(module), function)(*arguments)
    return TokenBudget(tokens.name, tokens.most, count)


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
