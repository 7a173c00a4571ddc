"""What one extraction of one repository did, in figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class ExtractionReport:
    """What one extraction of one repository did.

    `files_seen` = `files_parsed` + `files_unchanged` + all of `files_skipped`.

    Attributes:
        repository: Its name.
        commit_id: What was read: a git commit, a distribution's version; None for a directory.
        failed: The source could not be read at all; `problems` says why, and nothing was changed.
        unchanged: Nothing was parsed, and nothing has vanished.
        files_seen: Entries that were looked at.
        files_parsed: Files cut into snippets now.
        files_unchanged: Files cut earlier that are the same still.
        files_skipped: Files not cut, by reason; one that cannot be read, or not be parsed within the limits,
            keeps the snippets it had.
        files_with_syntax_errors: Of the parsed and unchanged files, those not understood everywhere.
        secrets: How many keys, tokens and the like were recognised in those, and left out.
        problems: One clear line each, at most MAX_PROBLEMS and one that counts the rest.
        snippets_added: New ones, and ones that have come back.
        snippets_changed: Those whose code is another one now.
        snippets_vanished: Those that are not there any more.
        snippets_live: All that can be found now.
        by_language: Those, by language.
        by_kind: Those, by kind.
        seconds: How long it took.
    """

    repository: str
    commit_id: str | None = None
    failed: bool = False
    unchanged: bool = True
    files_seen: int = 0
    files_parsed: int = 0
    files_unchanged: int = 0
    files_skipped: dict[str, int] = field(default_factory=dict[str, int])
    files_with_syntax_errors: int = 0
    secrets: int = 0
    problems: list[str] = field(default_factory=list[str])
    snippets_added: int = 0
    snippets_changed: int = 0
    snippets_vanished: int = 0
    snippets_live: int = 0
    by_language: dict[str, int] = field(default_factory=dict[str, int])
    by_kind: dict[str, int] = field(default_factory=dict[str, int])
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As it is stored in `repositories.report`; `ExtractionReport(**json)` is the way back."""
        return asdict(self)
