"""What the two processes say to each other. What arrives is checked against these types."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from pipeline.corpus.changed_functions import Function
from pipeline.corpus.cutting import CutFile


class Tokens(Struct):
    """How tokens are counted: see `TokenBudget`."""

    name: str
    most: int
    counter: tuple[str, str, list[Any]]


class Begin(Struct):
    """The first thing that is said to the process that parses: whose it is, and its limits."""

    parent: int
    memory_bytes: int
    tokens: Tokens | None


class Task(Struct):
    """What is asked about the file that comes with it, and how many seconds of processor time it may take."""

    task: Literal["cut", "functions"]
    path: str
    language: str
    seconds: float


class Reply(Struct, omit_defaults=True):
    """What was asked for, or why it is not there; nothing of both: ready.

    `beyond` is "memory", or a sentence.
    """

    file: CutFile | None = None
    functions: dict[str, Function] | None = None
    beyond: str | None = None
