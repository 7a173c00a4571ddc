"""The other end: asks the process that parses, and replaces it when a file was its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, NamedTuple, Self

from pipeline.config import PROJECT_ROOT, Settings
from pipeline.corpus.bounded import frames
from pipeline.corpus.bounded.limits import BeyondLimitsError
from pipeline.corpus.bounded.messages import Answer, Begin, File, Reply, Task, Tokens, What
from pipeline.corpus.changed_functions import Function
from pipeline.corpus.cutting import CutFile
from pipeline.corpus.languages import Language
from pipeline.corpus.tokens import TokenBudget
from pipeline.errors import HoneloopError

# Seconds that the process is given to end once it has hung up.
_PATIENCE = 5.0
# What is kept of what a dying process says.
_LAST_WORDS = 2_000
# Somebody's decision, or the system's in need of memory: it says nothing about the file.
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# An exchange that came to no end.
_BROKEN = (EOFError, OSError, frames.NonsenseError, frames.TooLongError)
_OUT_OF_MEMORY = ("failed to allocate", "memory allocation of", "MemoryError")


class SourceFile(NamedTuple):
    """A file to be cut: where it lies in its repository, its bytes, and its language."""

    path: str
    source: bytes
    language: Language


class Cutter:
    """Cuts files in one process that is started when it is first needed. A context manager.

    A process takes 0.15 s of processor time to start and a file 3 ms, so each does not have its own; in one
    for all, files cost 5% more than in this process. Nor are files that look harmless cut in this process:
    nothing cheap tells which those are. What makes a parser slow differs by grammar, and a kilobyte of it may
    be enough.

    Args:
        settings: `parse_seconds`, `parse_memory_mb`.
        tokens: How long a snippet may be; None, if functions alone are asked for.
    """

    def __init__(self, settings: Settings, tokens: TokenBudget | None = None) -> None:
        self._seconds = settings.parse_seconds
        self._megabytes = settings.parse_memory_mb
        self._tokens = tokens
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._answers = 0  # of this process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def limits(self) -> str:
        """The limits in force, as a part of what decides whether a file that exceeds them is tried again."""
        return f"{self._seconds:g}s {self._megabytes}MB"

    def cut(self, path: str, source: bytes, language: Language) -> CutFile:
        """The snippets of a file: see `cut_file`. Raises BeyondLimitsError."""
        answer = self._ask("cut", SourceFile(path, source, language))
        assert answer.file is not None
        return answer.file

    def cut_several(self, files: Sequence[SourceFile]) -> list[CutFile | BeyondLimitsError]:
        """The snippets of each file, or why there are none.

        Short ones had better be asked for together: a message and its reply cost as much as cutting a
        kilobyte. If the process does not survive them, nothing tells which was its end: each is asked for
        alone then.
        """
        answers = self._ask_together(files) if len(files) > 1 else None
        if answers is None:
            return [self._cut_or_why_not(file) for file in files]
        return [_outcome(answer) for answer in answers]

    def functions(self, source: bytes, language: Language) -> dict[str, Function]:
        """The functions of a file: see `functions_in`. Raises BeyondLimitsError."""
        answer = self._ask("functions", SourceFile("", source, language))
        assert answer.functions is not None
        return answer.functions

    def _cut_or_why_not(self, file: SourceFile) -> CutFile | BeyondLimitsError:
        try:
            return self.cut(*file)
        except BeyondLimitsError as error:
            return error

    def _ask_together(self, files: Sequence[SourceFile]) -> list[Answer] | None:
        """The answers; None if they have to be asked for one by one, of a new process."""
        process = self._process or self._start()
        try:
            answers = self._exchange(process, *self._task("cut", files)).answers
        except _BROKEN:
            self._death()
        else:
            if len(answers) == len(files):
                self._answers += len(files)
                return answers
            self._end()
        self._answers = 0
        return None

    def _task(self, task: What, files: Sequence[SourceFile]) -> tuple[Task, bytes]:
        asked = [File(path, language.name, len(source)) for path, source, language in files]
        return Task(task, self._seconds, asked), b"".join(source for _, source, _ in files)

    def _ask(self, task: What, file: SourceFile) -> Answer:
        process = self._process or self._start()
        try:
            (answer,) = self._exchange(process, *self._task(task, [file])).answers
        except _BROKEN:
            why, lasting = self._death()
            if self._answers == 0:
                raise BeyondLimitsError(why, lasting=lasting) from None
        else:
            if answer.beyond is None:
                self._answers += 1
                return answer
            if answer.beyond != "memory":
                self._answers += 1
                raise BeyondLimitsError(answer.beyond)
            alone = self._answers == 0
            self._end()
            if alone:
                raise BeyondLimitsError(self._too_much_memory())
        # What came before it may have left too little memory, or a parser in disorder: once more, alone.
        self._answers = 0
        return self._ask(task, file)

    def _exchange(self, process: subprocess.Popen[bytes], said: Begin | Task, content: bytes) -> Reply:
        assert process.stdin is not None
        assert process.stdout is not None
        frames.write(process.stdin, said, content)
        return frames.read(process.stdout, Reply)[0]

    def _start(self) -> subprocess.Popen[bytes]:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (it lives as long as the process)
        try:
            self._process = process = subprocess.Popen(
                # -P: nothing is imported from the directory that we happen to be in.
                [sys.executable, "-P", "-m", "pipeline.corpus.bounded.process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                # One thread: others parse beside it, and the limit is of processor time.
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join(_python_path()), "TOKENIZERS_PARALLELISM": "false"},
            )
        except OSError as error:
            self._errors.close()
            raise HoneloopError(
                f"The process that parses files cannot be started: {error}.",
                hint="It is this Python itself, run anew: see that this user may execute it.",
            ) from error
        self._answers = 0
        try:
            self._exchange(
                process, Begin(os.getpid(), self._megabytes * 1_000_000, _counted(self._tokens)), b""
            )
        except _BROKEN:
            words = self._last_words()
            self._end()
            raise HoneloopError(
                f"The process that parses files cannot be started: {words or 'it says nothing'}.",
                hint="If it lacks memory, raise HONELOOP_PARSE_MEMORY_MB.",
            ) from None
        return process

    def _death(self) -> tuple[str, bool]:
        """Why the process has ended, and whether it would again."""
        assert self._process is not None
        try:
            code = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:  # it talks nonsense
            self._process.kill()
            code = self._process.wait()
        words = self._last_words()
        self._end()
        if code == -signal.SIGPROF:
            return f"took more than {self._seconds:g} s of processor time to parse", True
        if any(words_of_it in words for words_of_it in _OUT_OF_MEMORY):
            return self._too_much_memory(), True
        if code >= 0:
            return f"ended the process that parsed it (exit code {code})", True
        name = signal.Signals(-code).name
        if -code in _FROM_OUTSIDE:
            return f"the process that parsed it was ended ({name})", False
        # A grammar that is given no memory does not say so, it crashes.
        return f"{self._too_much_memory()}, or crashed the parser ({name})", True

    def _too_much_memory(self) -> str:
        return f"took more than {self._megabytes:,} MB of memory to parse"

    def _last_words(self) -> str:
        assert self._errors is not None
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _LAST_WORDS))
        return self._errors.read().decode("utf-8", "replace").strip().rpartition("\n")[2]

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()  # it has nothing to lose
        process.wait()
        for stream in (process.stdin, process.stdout, self._errors):
            if stream is not None:
                with suppress(OSError):  # what was not sent yet
                    stream.close()


def _outcome(answer: Answer) -> CutFile | BeyondLimitsError:
    if answer.beyond is not None:
        return BeyondLimitsError(answer.beyond)
    assert answer.file is not None
    return answer.file


def _counted(budget: TokenBudget | None) -> Tokens | None:
    """How tokens are counted, as it can be said."""
    if budget is None:
        return None
    assert budget.counter is not None
    return Tokens(budget.name, budget.max_tokens, budget.counter)


def _python_path() -> list[str]:
    given = os.environ.get("PYTHONPATH", "")
    return [str(PROJECT_ROOT), *(path for path in given.split(os.pathsep) if path)]
