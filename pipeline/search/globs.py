"""Path globs, as the regular expressions that Postgres matches."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipeline.errors import BadInputError

MAX_GLOB_CHARACTERS = 500


def glob_to_regex(glob: str) -> str:
    """A regular expression for paths that match `glob`, the whole path from the repository's root.

    `*` and `?` stay within a folder, `**` crosses folders, `[abc]`, `[a-z]` and `[!abc]` are sets. A glob
    without a slash matches the file's name in any folder, one that ends with a slash everything below, as in
    .gitignore.

    Raises:
        BadInputError: it is empty, too long, or a set in it is not closed.
    """
    pattern = glob.strip()
    if not pattern or len(pattern) > MAX_GLOB_CHARACTERS:
        raise BadInputError(
            f"The path {glob[:50]!r} is {'empty' if not pattern else 'too long'}.",
            hint="Give a glob such as src/**/*.py.",
            field="path",
        )
    if pattern.endswith("/"):
        pattern += "**"
    if "/" not in pattern:
        pattern = f"**/{pattern}"
    pattern = pattern.removeprefix("/")
    found: list[str] = []
    at = 0
    while at < len(pattern):
        part, at = _next(pattern, at)
        found.append(part)
    return f"^{''.join(found)}$"


def _next(pattern: str, at: int) -> tuple[str, int]:
    """The regular expression of what stands at `at`, and where the rest begins."""
    if pattern.startswith("**/", at):
        return "(?:.*/)?", at + 3
    if pattern.startswith("**", at):
        return ".*", at + 2
    character = pattern[at]
    if character == "*":
        return "[^/]*", at + 1
    if character == "?":
        return "[^/]", at + 1
    if character == "[":
        return _set(pattern, at)
    return re.escape(character), at + 1


def _set(pattern: str, at: int) -> tuple[str, int]:
    start = at + 2 if pattern.startswith("!", at + 1) else at + 1
    end = pattern.find("]", start + 1)
    members = pattern[start:end]
    ranges = list(_ranges(members))
    if end < 0 or "/" in members or any(high < low for low, high in ranges):
        raise BadInputError(
            f"The path has a set that is not one: {pattern[at : at + 50]!r}.",
            hint="Write [abc], [a-z] or [!abc].",
            field="path",
        )
    # Whatever stands in the set, it stays within a folder, as `*` does.
    escaped = "".join(
        _in_set(low) if low == high else f"{_in_set(low)}-{_in_set(high)}" for low, high in ranges
    )
    return f"(?!/)[{'^' if start == at + 2 else ''}{escaped}]", end + 1


def _ranges(members: str) -> Iterator[tuple[str, str]]:
    """The first and the last character of each member; a hyphen that stands between no two is a member."""
    at = 0
    while at < len(members):
        if members.startswith("-", at + 1) and at + 2 < len(members):
            yield members[at], members[at + 2]
            at += 3
        else:
            yield members[at], members[at]
            at += 1


def _in_set(character: str) -> str:
    # In Postgres a backslash escapes inside a set, too, and a second [ may open a class such as [:alpha:].
    return f"\\{character}" if character in "\\[]^-" else character
