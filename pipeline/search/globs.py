"""Path globs, as the regular expressions that Postgres matches."""

from __future__ import annotations

import re

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
    if end < 0 or "/" in members or any(high < low for low, high in re.findall("(.)-(.)", members)):
        raise BadInputError(
            f"The path {pattern!r} has a set that is not one.",
            hint="Write [abc], [a-z] or [!abc].",
            field="path",
        )
    # In Postgres a backslash escapes inside a set, too, and a second [ may open a class such as [:alpha:].
    escaped = re.sub(r"([\\\[\]^])", r"\\\1", members)
    return f"[{'^/' if start == at + 2 else ''}{escaped}]", end + 1
