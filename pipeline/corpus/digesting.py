"""What becomes of one file's bytes: its snippets, or why it has none. Needs no database and no repository."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from pipeline.config import Settings
from pipeline.corpus import skipping
from pipeline.corpus.bounded.limits import BeyondLimitsError
from pipeline.corpus.bounded.pool import CutterPool
from pipeline.corpus.cutting import CutFile, CutSnippet
from pipeline.corpus.decoding import Decoded, decode
from pipeline.corpus.languages import Language
from pipeline.corpus.secrets import Clean, Detector
from pipeline.corpus.tokens import TokenBudget

T = TypeVar("T")

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
    """Digests files within the limits, in several processes side by side. A context manager.

    Args:
        settings: `find_secrets`, `secret_rules`, `parse_seconds`, `parse_memory_mb`, `parse_processes`.
        tokens: How long a snippet may be.

    Raises:
        BadInputError: the file of rules for secrets cannot be read.
    """

    def __init__(self, settings: Settings, tokens: TokenBudget) -> None:
        self._detector = Detector(settings)
        self._cutters = CutterPool(settings, tokens)

    def __enter__(self) -> Self:
        self._cutters.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cutters.__exit__(kind, error, trace)

    def begin(self, path: str, source: bytes, language: Language) -> Callable[[], Digest]:
        """Begins with a file. What it returns waits for the end, and tells what becomes of the file.

        Args:
            path: In its repository.
            source: All of it.
            language: What it is written in.
        """
        reason = skipping.reason_by_bytes(source)
        if reason is not None:
            return partial(Digest, skipped=reason, remarks=(f"left out, {reason}",))
        decoded = decode(source)
        reason = skipping.reason_by_text(decoded.text)
        if reason is not None:
            return partial(Digest, skipped=reason)
        try:
            clean = self._detector.clean(decoded.text.encode())
        except BeyondLimitsError as error:
            return partial(_beyond, error)
        return partial(_ended, decoded, clean, self._cutters.cut(path, clean.text, language))

    def ahead(self, begun: Iterable[T]) -> Iterator[T]:
        """What was begun, in its order; so much of it before its turn that no process waits."""
        return self._cutters.ahead(begun)


def _ended(decoded: Decoded, clean: Clean, future: Future[CutFile]) -> Digest:
    try:
        cut = future.result()
    except BeyondLimitsError as error:
        return _beyond(error)
    remarks = tuple(_remarks(decoded, clean, cut))
    return Digest(cut.snippets, cut.syntax_errors, len(clean.found), remarks=remarks)


def _beyond(error: BeyondLimitsError) -> Digest:
    if not error.lasting:
        return Digest(failed=str(error))
    return Digest(skipped=skipping.BEYOND_LIMITS, remarks=(str(error),))


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
