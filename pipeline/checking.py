"""What a check found: one type for all rooms, shown by Dagster and by `honeloop check` alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Outcome:
    """Whether the state is as it must be, in one sentence with its figures; `hint`: what to do.

    `warning`: nothing is wrong with what does not pass; it is of an earlier moment than what it is compared
    with, and the next run brings it up to date. Such a thing blocks nothing.
    """

    passed: bool
    message: str
    figures: Mapping[str, int | float | str] = field(default_factory=dict[str, int | float | str])
    hint: str = ""
    warning: bool = False


class NothingToCheckError(Exception):
    """What would be checked does not exist yet. The message says what makes it."""
