"""One line of a feedback file: what it must look like, and why it cannot be used if it does not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.feedback.events import name_of

REQUIRED = ("query", "repository", "path", "judgement")
OPTIONAL = ("symbol", "user", "at")
IMPORTABLE = ("accept", "reject", "click")
MAX_QUERY_CHARACTERS = 10_000  # as long as a search may be
CLOCK_DIFFERENCE = timedelta(days=1)  # how far ahead another machine's clock may be


class UnusableLineError(ValueError):
    """The line cannot be used. The message is `kind` or `kind: details`; kinds are few, for counting."""


@dataclass(frozen=True)
class FeedbackLine:
    """A line that is well-formed; whether its repository, path and symbol are known is not yet asked."""

    query: str
    repository: str
    path: str
    symbol: str | None
    judgement: str
    user: str | None
    at: datetime | None


def parse_line(line: bytes, now: datetime) -> FeedbackLine:
    """Reads one line of JSON.

    Args:
        line: The bytes between two line feeds.
        now: What a date is compared with: one that lies ahead would have the last word for ever.

    Raises:
        UnusableLineError: with the reason.
    """
    fields = _json_object(line)
    unknown = [name for name in fields if name not in REQUIRED and name not in OPTIONAL]
    if unknown:
        raise UnusableLineError(f"unknown field: {', '.join(repr(name) for name in unknown)}")
    missing = [name for name in REQUIRED if name not in fields]
    if missing:
        raise UnusableLineError(f"missing field: {', '.join(missing)}")
    for name, value in fields.items():
        if value is None and name in OPTIONAL:
            continue
        if not isinstance(value, str):
            raise UnusableLineError(f"wrong type: {name} is not a string")
        if "\0" in value:
            raise UnusableLineError(f"unusable character: {name} holds a NUL")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise UnusableLineError(f"unusable character: {name} holds half a surrogate pair")
    query = fields["query"].strip()
    if not query:
        raise UnusableLineError("empty query")
    if len(query) > MAX_QUERY_CHARACTERS:
        raise UnusableLineError(f"query too long: {len(query)} characters, at most {MAX_QUERY_CHARACTERS}")
    if fields["judgement"] not in IMPORTABLE:
        raise UnusableLineError(
            f"unknown judgement: {fields['judgement']!r} is none of {', '.join(IMPORTABLE)}"
        )
    at = fields.get("at")
    return FeedbackLine(
        query=query,
        repository=fields["repository"],
        path=fields["path"],
        symbol=fields.get("symbol"),
        judgement=fields["judgement"],
        user=name_of(fields.get("user")),
        at=None if at is None else _date(at, now),
    )


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise UnusableLineError(f"not UTF-8: byte {error.start + 1}") from None
    if not text.strip():
        raise UnusableLineError("empty line")
    try:
        value: object = json.loads(text, object_pairs_hook=_no_name_twice)
    except UnusableLineError:
        raise
    except json.JSONDecodeError as error:
        raise UnusableLineError(f"not JSON: {error.msg} at character {error.pos + 1}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets without end
        raise UnusableLineError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UnusableLineError("not a JSON object")
    return value


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise UnusableLineError("field given twice")
    return fields


def _date(text: str, now: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UnusableLineError(f"bad date: {text!r} is not ISO 8601, as 2026-01-31T09:30:00Z is") from None
    if at > now + CLOCK_DIFFERENCE:
        raise UnusableLineError(f"bad date: {text!r} lies in the future")
    return at
