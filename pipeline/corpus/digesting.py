"""What becomes of one file's bytes: its snippets, or why it has none. Needs no database and no repository."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from pipeline.config import Settings
from pipeline.corpus import skipping
from pipeline.corpus.bounded.cutter import Cutter
from pipeline.corpus.bounded.limits import BeyondLimitsError
from pipeline.corpus.cutting import CutFile, CutSnippet
from pipeline.corpus.decoding import Decoded, decode
from pipeline.corpus.languages import Language
from pipeline.corpus.secrets import Clean, Detector
from pipeline.corpus.tokens import TokenBudget

# Of a file's secrets so many are told with their lines.
MAX_SECRETS_SHOWN = 5


@dataclass(frozen=True)
class Digest:
    """What became of a file.

    Args:
        snippets: What was cut out of it.
        syntax_errors: Places that could not be parsed.
        secrets: Keys, tokens and the like that were left out.
        skipped: Why it was not cut, as one of `skipping`'s reasons; None if it was.
        remarks: What its owner may want to know.
        failed: Why it could not be cut this time, though it may be the next; the rest is empty then.
    """

    snippets: list[CutSnippet] = field(default_factory=list[CutSnippet])
    syntax_errors: int = 0
    secrets: int = 0
    skipped: str | None = None
    remarks: tuple[str, ...] = ()
    failed: str | None = None


class Digester:
    """Digests files one after another, within the limits. A context manager.

    Args:
        settings: `find_secrets`, `secret_rules`, `parse_seconds`, `parse_memory_mb`.
        tokens: How long a snippet may be.

    Raises:
        BadInputError: the file of rules for secrets cannot be read.
    """

    def __init__(self, settings: Settings, tokens: TokenBudget) -> None:
        self._detector = Detector(settings)
        self._cutter = Cutter(settings, tokens)

    def __enter__(self) -> Self:
        self._cutter.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cutter.__exit__(kind, error, trace)

    def digest(self, path: str, source: bytes, language: Language) -> Digest:
        """What becomes of a file.

        Args:
            path: In its repository.
            source: All of it.
            language: What it is written in.
        """
        reason = skipping.reason_by_bytes(source)
        if reason is not None:
            return Digest(skipped=reason, remarks=(f"left out, {reason}",))
        decoded = decode(source)
        reason = skipping.reason_by_text(decoded.text)
        if reason is not None:
            return Digest(skipped=reason)
        try:
            clean = self._detector.clean(decoded.text.encode())
            cut = self._cutter.cut(path, clean.text, language)
        except BeyondLimitsError as error:
            if not error.lasting:
                return Digest(failed=str(error))
            return Digest(skipped=skipping.BEYOND_LIMITS, remarks=(str(error),))
        remarks = tuple(_remarks(decoded, clean, cut))
        return Digest(cut.snippets, cut.syntax_errors, len(clean.found), remarks=remarks)


def _remarks(decoded: Decoded, clean: Clean, cut: CutFile) -> list[str]:
    """What the owner of a file that was parsed may want to know of it."""
    remarks = [decoded.note] if decoded.note else []
    if cut.syntax_errors:
        places = "a place" if cut.syntax_errors == 1 else f"{cut.syntax_errors} places"
        remarks.append(f"{places} could not be parsed, the rest was")
    if clean.found:
        shown = ", ".join(f"line {line} ({what})" for line, what in clean.found[:MAX_SECRETS_SHOWN])
        more = len(clean.found) - MAX_SECRETS_SHOWN
        secrets = "a secret was" if len(clean.found) == 1 else f"{len(clean.found)} secrets were"
        remarks.append(f"{secrets} left out: {shown}{f' and {more} more' if more > 0 else ''}")
    return remarks
