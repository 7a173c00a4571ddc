"""What the `.gitignore` files of a directory tree leave out."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError

from pipeline.corpus.sources.base import (
    FileTooLargeError,
    FileUnreadableError,
    first_line,
    printable,
    shown_path,
)
from pipeline.corpus.sources.reading import read_regular_file

_MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class IgnoreRules:
    """The rules in force in one directory: those of its own `.gitignore`, then those of the one above.

    Only files inside the registered tree count, not those above it: whoever registers a directory that is
    ignored from outside (a build's output) means it.
    """

    prefix: str
    spec: GitIgnoreSpec
    above: IgnoreRules | None

    def ignores(self, path: str) -> bool:
        """Whether `path` (from the root; directories end in `/`) is ignored: the nearest match decides."""
        rules: IgnoreRules | None = self
        while rules is not None:
            ignored = rules.spec.check_file(path[len(rules.prefix) :]).include
            if ignored is not None:
                return ignored
            rules = rules.above
        return False


def rules_in(
    directory: str, prefix: str, above: IgnoreRules | None, problems: list[str]
) -> IgnoreRules | None:
    """The rules in force in `directory`, which is `prefix` (`""` or ending in `/`) seen from the root.

    A `.gitignore` that cannot be read, and each line that is no pattern, becomes one of `problems`.
    """
    shown = printable(shown_path(os.fsencode(prefix)))
    try:
        content = read_regular_file(os.path.join(directory, ".gitignore"), _MAX_BYTES, follow_link=False)
    except FileTooLargeError:
        problems.append(f"{shown}.gitignore: not applied, it is too large")
        return above
    except FileUnreadableError as error:
        problems.append(f"{shown}.gitignore: not applied ({error})")
        return above
    lines = content.decode("utf-8-sig", "surrogateescape").splitlines()
    valid: list[str] = []
    for number, line in enumerate(lines, start=1):
        try:
            GitIgnoreSpec.from_lines([line])
        except GitIgnorePatternError as error:
            problems.append(f"{shown}.gitignore, line {number}: not applied ({first_line(error.args)})")
        else:
            valid.append(line)
    return IgnoreRules(prefix, GitIgnoreSpec.from_lines(valid), above)
