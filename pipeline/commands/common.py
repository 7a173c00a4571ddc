"""What the commands share: settings, the workbench, progress, and the two ways of showing a result."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.errors import BadInputError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails
    from rich.console import Console

    from pipeline.config import Settings
    from pipeline.progress import Progress
    from pipeline.workbench import Workbench

USER_VARIABLE = "HONELOOP_USER"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether it is meant.")]
User = Annotated[
    str | None,
    typer.Option("--user", metavar="NAME", envvar=USER_VARIABLE, help="Who you are, for the record."),
]


def settings_in_force() -> Settings:
    """The settings from the environment.

    Raises:
        BadInputError: a variable has a value that cannot be; it is named.
    """
    from pydantic import ValidationError

    from pipeline.config import load_settings

    try:
        return load_settings()
    except ValidationError as error:
        wrong = "; ".join(
            f"{_variable(detail['loc'])}{_given(detail)}: {detail['msg']}" for detail in error.errors()
        )
        raise BadInputError(
            f"A setting has a value that cannot be: {wrong}.", hint="Correct or unset it."
        ) from (error)


def _given(detail: ErrorDetails) -> str:
    """The value that is refused, unless it is a secret: what is printed is kept in logs."""
    from pipeline.config import Settings

    field = Settings.model_fields.get(str(detail["loc"][0])) if detail["loc"] else None
    secret = field is not None and "SecretStr" in str(field.annotation)
    return "" if secret else f" = {detail['input']!r}"


@contextmanager
def working(as_json: bool) -> Generator[Workbench]:
    """A workbench whose progress is shown on the terminal, or not at all with `--json`."""
    from pipeline.workbench import Workbench

    settings = settings_in_force()
    with shown_progress(as_json) as progress:
        yield Workbench(settings, progress)


@contextmanager
def shown_progress(as_json: bool) -> Generator[Progress]:
    """Bars and notes on standard error; nothing with `--json`."""
    from pipeline.progress import Silent
    from pipeline.terminal import TerminalProgress

    if as_json:
        yield Silent()
    else:
        with TerminalProgress() as progress:
            yield progress


def confirm(warning: str, question: str, *, yes: bool, json: bool) -> None:
    """Goes on only if what cannot be undone is meant.

    Args:
        warning: What will be lost, a sentence.
        question: What is asked on a terminal.
        yes: It was said beforehand that it is meant: nothing is asked.
        json: Whether nothing may be asked.

    Raises:
        BadInputError: nobody is there to be asked.
        typer.Abort: the answer was no.
    """
    if yes:
        return
    if json or not on_a_terminal():
        raise BadInputError(f"{warning} Nobody is there to be asked.", hint="Say --yes if it is meant.")
    typer.confirm(f"{warning} {question}", abort=True, err=True)


def on_a_terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty()


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object on standard output."""
    typer.echo(json.dumps(content, default=_plain, ensure_ascii=False, allow_nan=False))


def output() -> Console:
    """The console for results: standard output."""
    from rich.console import Console

    return Console(highlight=False)


def shown_url(url: str) -> str:
    """A database URL as it may be shown: without its password."""
    import re

    url = re.sub(r"(://[^:/?#@]*):[^/?#@]+@", r"\1:***@", url)
    return re.sub(r"(password=)[^&\s]+", r"\1***", url)


def _plain(value: Any) -> Any:
    from dataclasses import asdict, is_dataclass
    from datetime import datetime
    from pathlib import Path

    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _variable(location: tuple[int | str, ...]) -> str:
    return f"HONELOOP_{'_'.join(str(part) for part in location).upper()}"
