"""The lines of a queries file: what they must look like, and where those go that do not."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipeline.errors import BadInputError
from pipeline.feedback.importing import rejected_path


class _Line(BaseModel):
    # Further fields are allowed: a file made for another tool's reading says no less to this one.
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class RelevantItem(_Line):
    """One right answer: a file, or one symbol of it."""

    repository: str = Field(min_length=1)
    path: str = Field(min_length=1)
    symbol: str | None = Field(default=None, min_length=1)

    @field_validator("repository", "path", "symbol")
    @classmethod
    def _storable(cls, value: str | None) -> str | None:
        if value is not None and "\0" in value:
            raise ValueError("it holds a NUL")
        return value


class QueryLine(_Line):
    """One query with all its right answers."""

    query: str = Field(max_length=10_000)  # as long as a search may be
    relevant: tuple[RelevantItem, ...] = Field(min_length=1)

    @field_validator("query")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("it is empty")
        return value.strip()


@dataclass(frozen=True)
class RejectedLine:
    """A line set aside: its number from 1, why, and the bytes it had."""

    line: int
    reason: str
    original: bytes


def read_queries(file: Path) -> tuple[list[QueryLine], list[RejectedLine]]:
    """The usable lines and the others, each in the order of the file. Blank lines are neither.

    Raises:
        BadInputError: the file cannot be read.
    """
    usable: list[QueryLine] = []
    rejected: list[RejectedLine] = []
    try:
        for number, line in _numbered_lines(file):
            try:
                usable.append(QueryLine.model_validate_json(line))
            except ValidationError as error:
                rejected.append(RejectedLine(number, _reason(error), line))
    except OSError as error:
        raise BadInputError(
            f"{file} cannot be read: {error.strerror}.",
            hint='Give a file of lines {"query", "relevant": [{"repository", "path", "symbol"?}]}.',
        ) from error
    return usable, rejected


def set_aside(file: Path, rejected: list[RejectedLine]) -> Path | None:
    """Writes the rejected lines beside `file`, and removes what an earlier reading left there if none is.

    Raises:
        BadInputError: it cannot be written.
    """
    aside = rejected_path(file)
    try:
        if not rejected:
            aside.unlink(missing_ok=True)
            return None
        aside.write_text("".join(_entry(each) + "\n" for each in rejected), encoding="utf-8")
    except OSError as error:
        raise BadInputError(
            f"The lines of {file} that cannot be used cannot be kept in {aside}: {error.strerror}.",
            hint="Put the file in a directory that can be written to, or correct its lines.",
        ) from error
    return aside


def _numbered_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    with file.open("rb") as source:
        for number, line in enumerate(source, start=1):
            content = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip()
            if content:
                yield number, content


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _entry(rejected: RejectedLine) -> str:
    entry: dict[str, object] = {"line": rejected.line, "reason": rejected.reason}
    try:
        entry["original"] = rejected.original.decode()
    except UnicodeDecodeError:
        entry["original_base64"] = base64.b64encode(rejected.original).decode()
    return json.dumps(entry, ensure_ascii=False)
