"""What the two processes say to each other. What arrives is checked against these types."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from pipeline.corpus.changed_functions import Function
from pipeline.corpus.cutting import CutFile

What = Literal["cut", "functions"]


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


class File(Struct):
    """A file that comes with a task: its path, its language, and how many of the bytes are its own."""

    path: str
    language: str
    size: int


class Task(Struct):
    """What is asked about the files that come with it, and the seconds of processor time each may take."""

    task: What
    seconds: float
    files: list[File]


class Answer(Struct, omit_defaults=True):
    """What was asked for of one file, or why it is not there: `beyond` is "memory", or a sentence."""

    file: CutFile | None = None
    functions: dict[str, Function] | None = None
    beyond: str | None = None


class Reply(Struct):
    """An answer for each file of a task; none at all, where there were several: ask for each alone.

    At the very beginning none means: ready.
    """

    answers: list[Answer]
