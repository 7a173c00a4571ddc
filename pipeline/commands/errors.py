"""How the command line fails: one clear sentence on standard error, with what to do, and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from pipeline.errors import HoneloopError
from pipeline.store.failures import explained

INTERRUPTED = 130
TRACEBACK_VARIABLE = "HONELOOP_TRACEBACK"


class SentenceErrors(TyperGroup):
    """The top of the commands: turns every exception into a sentence and an exit code.

    Bad input exits with 2, a failure with 1, an interruption with 130.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the command and exits."""
        kwargs["standalone_mode"] = False
        sys.exit(self._run(*args, **kwargs))

    def _run(self, *args: Any, **kwargs: Any) -> int:
        try:
            result = super().main(*args, **kwargs)
        except BrokenPipeError:
            # The reader of our output went away (`honeloop … | head`): nobody is left to tell.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (Exception, KeyboardInterrupt) as error:
            sentence, exit_code = _explained(error)
            if sentence:
                say(sentence)
            return exit_code
        if result == INTERRUPTED:
            say("Interrupted.")
        return result if isinstance(result, int) else 0


def _explained(error: BaseException) -> tuple[str, int]:
    """What to say about an exception, and what to exit with."""
    if isinstance(error, HoneloopError):
        return str(error), error.exit_code
    if isinstance(error, typer.TyperException):
        if not error.format_message():  # a group without a command: its help was printed already
            return "", error.exit_code
        context = getattr(error, "ctx", None)
        where = f" Try `{context.command_path} --help`." if context is not None else ""
        return f"{error.format_message().rstrip('.')}.{where}", error.exit_code
    if isinstance(error, (typer.Abort, KeyboardInterrupt)):
        return "Interrupted.", INTERRUPTED
    known = explained(error)
    if known is not None:
        return str(known), known.exit_code
    if os.environ.get(TRACEBACK_VARIABLE):
        traceback.print_exception(error)
    return (
        f"Something unexpected went wrong: {type(error).__name__}: {error}. Run it again with "
        f"{TRACEBACK_VARIABLE}=1 to see where; that is worth a bug report.",
        1,
    )


def say(sentence: str) -> None:
    """One line on standard error, in red where that is a terminal."""
    typer.secho(" ".join(sentence.split()), fg=typer.colors.RED, err=True)
