"""Extraction: from a repository's files to its snippets, reading again only what has changed."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path, PurePosixPath

from pipeline.config import Settings
from pipeline.corpus import skipping, store
from pipeline.corpus.bounded.cutter import Cutter
from pipeline.corpus.definitions import MAX_PATH_BYTES
from pipeline.corpus.digesting import Digest
from pipeline.corpus.languages import LANGUAGES, Language, language_of
from pipeline.corpus.redacting import forget_other_rules, redact_what_is_left
from pipeline.corpus.report import ExtractionReport
from pipeline.corpus.repositories import Repository
from pipeline.corpus.secrets import Detector
from pipeline.corpus.sources.base import (
    SYMBOLIC_LINK,
    UNREADABLE,
    FileTooLargeError,
    FileUnreadableError,
    Listing,
    Source,
    SourceError,
    SourceFile,
    printable,
)
from pipeline.corpus.sources.opening import open_source
from pipeline.corpus.tokens import TokenBudget
from pipeline.engines.engine import FileText, engine_for
from pipeline.errors import HoneloopError
from pipeline.progress import Advance, Progress
from pipeline.store.connections import Connection, Database

MAX_PROBLEMS = 100
# From this many new snippets on, Postgres is not left to find out by itself how large its tables have become.
MANY_SNIPPETS = 1_000
# What decides, beside the cutting itself, whether and as what a file is cut.
_DECIDING_MODULES = ("languages", "skipping", "decoding", "secrets", "digesting", "extraction")


def extract_repository(
    db: Database, repository: Repository, settings: Settings, tokens: TokenBudget, progress: Progress
) -> ExtractionReport:
    """Brings the snippets of a repository up to date with its source.

    All of it is written in one transaction at the end: a run that is killed changes nothing, and a source
    that cannot be read leaves everything as it was. A second extraction of the same repository waits for the
    first.

    Args:
        db: Where.
        repository: What to extract.
        settings: `max_file_bytes`, the home, the engine, rules for secrets, limits of time and memory.
        tokens: How long a snippet may be; another budget cuts every file again.
        progress: Is told about each file.

    Returns:
        The report, also stored in `repositories.report`. Bad content never raises; it is in `problems`.

    Raises:
        HoneloopError: the repository was removed meanwhile, or the database fails.
    """
    started = time.perf_counter()
    report = ExtractionReport(repository.name, repository.commit_id)
    with db.connect(autocommit=True) as connection:
        store.lock_extraction(connection, repository.id)
        try:
            source = open_source(repository, settings)
            listing = source.list_files()
        except SourceError as error:
            report.failed = True
            report.problems.append(printable(f"{repository.name} cannot be read: {error}"))
            progress.note(report.problems[0])
            _add_live_counts(report, connection, repository.id)
            report.seconds = time.perf_counter() - started
            store.save_report(connection, repository.id, report.to_json())
            return report
        reading = _Reading(
            connection, repository, settings=settings, tokens=tokens, source=source, listing=listing
        )
        engine = engine_for(settings, progress.note)
        with (
            progress.stage(f"Reading {repository.name}", len(listing.files)) as advance,
            closing(engine.digest(reading.to_digest(advance), tokens)) as digests,
        ):
            for read, digest in digests:
                reading.keep(read, digest)
        with connection.transaction():
            if not store.repository_exists(connection, repository.id):
                raise HoneloopError(
                    f"The repository {repository.name!r} was removed while it was read.",
                    hint="Nothing of it was kept.",
                )
            reading.finish(report)
            report.seconds = time.perf_counter() - started
            store.save_extraction(connection, repository.id, listing.commit_id, report.to_json())
        if report.snippets_added + report.snippets_changed >= MANY_SNIPPETS:
            store.refresh_statistics(connection)
    return report


def _add_live_counts(report: ExtractionReport, connection: Connection, repository_id: int) -> None:
    live = store.live_counts(connection, repository_id)
    report.snippets_live = live.snippets
    report.files_with_syntax_errors = live.files_with_syntax_errors
    report.secrets = live.secrets
    report.by_language, report.by_kind = live.by_language, live.by_kind


class _Reading:
    """One pass over a source's files: each is unchanged, staged to be merged, or skipped for a reason."""

    def __init__(
        self,
        connection: Connection,
        repository: Repository,
        *,
        settings: Settings,
        tokens: TokenBudget,
        source: Source,
        listing: Listing,
    ) -> None:
        self._connection = connection
        self._repository = repository
        self._max_bytes = settings.max_file_bytes
        self._limits = Cutter(settings).limits
        self._detector = Detector(settings)
        self._source = source
        self._listing = listing
        self._known = store.load_files(connection, repository.id)
        self._staging = store.Staging(connection)
        self._extractors = {
            language.name: _extractor(language, tokens, self._detector, settings.max_file_bytes)
            for language in LANGUAGES
        }
        self._skipped = Counter(listing.skipped)
        self._skipped[SYMBOLIC_LINK] += len(listing.links)
        self._problems = list(listing.problems)
        self._problems += [
            f"{printable(link)}: a symbolic link, not followed"
            for link in listing.links
            if skipping.reason_by_path(link, distribution=False) is None
        ]
        self._remarks: list[str] = []  # on files that were read, so less pressing than what was not
        self._standing: set[str] = set()  # known files whose rows and snippets stay, or are staged anew
        self._parsed = 0
        self._by_other_rules = False  # whether a file that is the same still was read by others before
        self._unchanged = 0
        self._staged = 0

    def to_digest(self, advance: Advance) -> Iterator[FileText]:
        """The files that have to be cut, read when they are asked for; `advance` is told of every file."""
        for file in self._listing.files:
            read = self._look_at(file)
            if read is not None:
                yield read
            advance(1)

    def _look_at(self, file: SourceFile) -> FileText | None:
        """Decides what becomes of one file; None if that is known without cutting it."""
        if len(file.path.encode()) > MAX_PATH_BYTES:
            self._skip(file.path, skipping.PATH_TOO_LONG, "its path is too long to be stored")
            return None
        reason = skipping.reason_by_path(file.path, distribution=self._repository.kind == "distribution")
        # A file without an ending says in its first line what it is.
        unnamed = not PurePosixPath(file.path).suffix and reason is None
        if language_of(file.path, b"") is None and not unnamed:
            self._skip(file.path, skipping.NOT_CODE)
        elif reason is not None:
            self._skip(file.path, reason)
        elif file.blob_hash is None or not self._is_known(file.path, file.blob_hash):
            return self._read(file)
        return None

    def _read(self, file: SourceFile) -> FileText | None:
        try:
            source = self._source.read(file, self._max_bytes)
        except FileTooLargeError:
            if language_of(file.path, b"") is None:
                self._skip(file.path, skipping.NOT_CODE)
            else:
                self._skip(file.path, skipping.TOO_LARGE, f"larger than {self._max_bytes:,} bytes")
            return None
        except FileUnreadableError as error:
            self._standing.add(file.path)
            self._skip(file.path, UNREADABLE, f"cannot be read ({error})")
            return None
        language = language_of(file.path, source)
        if language is None:
            self._skip(file.path, skipping.NOT_CODE)
            return None
        blob_hash = file.blob_hash or hashlib.sha256(source).hexdigest()
        if self._is_known(file.path, blob_hash):
            return None
        return FileText(file.path, source, language.name, blob_hash)

    def _is_known(self, path: str, blob_hash: str) -> bool:
        """Whether nothing about this file has changed since it was read; if so, it is counted."""
        known = self._known.get(path)
        if known is None or known.blob_hash != blob_hash:
            return False
        if known.extractor != self._extractor_of(known.language, known.skipped):
            self._by_other_rules = True
            return False
        self._standing.add(path)
        self._remark(path, known.problem, known.skipped)
        if known.skipped is None:
            self._unchanged += 1
        else:
            self._skipped[known.skipped] += 1
        return True

    def _extractor_of(self, language: str, skipped: str | None) -> str | None:
        """What decides what becomes of a file; the limits decide only where they did."""
        extractor = self._extractors.get(language)
        beyond = skipped == skipping.BEYOND_LIMITS
        return f"{extractor} {self._limits}" if beyond else extractor

    def keep(self, read: FileText, digest: Digest) -> None:
        """Stages what became of a file, to be merged."""
        if digest.failed is not None:
            self._standing.add(read.path)
            self._skip(read.path, UNREADABLE, digest.failed)
            return
        if digest.skipped is None:
            self._parsed += 1
        else:
            self._skipped[digest.skipped] += 1
        problem = "; ".join(digest.remarks) or None
        self._remark(read.path, problem, digest.skipped)
        self._standing.add(read.path)
        self._staged += 1
        extractor = self._extractor_of(read.language, digest.skipped)
        assert extractor is not None
        self._staging.add(
            store.FileRow(
                path=read.path,
                blob_hash=read.blob_hash,
                language=read.language,
                extractor=extractor,
                skipped=digest.skipped,
                syntax_errors=digest.syntax_errors,
                problem=problem,
                secrets=digest.secrets,
                keeps_snippets=digest.skipped == skipping.BEYOND_LIMITS,
            ),
            digest.snippets,
        )

    def _skip(self, path: str, reason: str, problem: str = "") -> None:
        self._skipped[reason] += 1
        if problem:
            self._problems.append(f"{printable(path)}: {problem}")

    def _remark(self, path: str, problem: str | None, skipped: str | None) -> None:
        if problem is not None:
            pressing = skipped == skipping.BEYOND_LIMITS
            (self._problems if pressing else self._remarks).append(f"{printable(path)}: {problem}")

    def finish(self, report: ExtractionReport) -> None:
        """Merges what was staged and fills in the report; in the caller's transaction."""
        unlisted = tuple(self._listing.unlisted)
        gone = [p for p in self._known if p not in self._standing and not p.startswith(unlisted)]
        counts = self._staging.merge(self._repository.id, self._listing.commit_id, gone)
        forget_other_rules(self._connection, self._detector)
        if self._by_other_rules and (redacted := redact_what_is_left(self._connection, self._detector)):
            self._problems.append(f"{redacted} texts kept from before held secrets, which were taken out")
        report.commit_id = self._listing.commit_id
        report.unchanged = not self._staged and not gone
        report.files_parsed = self._parsed
        report.files_unchanged = self._unchanged
        report.files_skipped = {reason: n for reason, n in self._skipped.most_common() if n}
        report.files_seen = self._parsed + self._unchanged + self._skipped.total()
        problems = self._problems + self._remarks
        report.problems = problems[:MAX_PROBLEMS]
        if len(problems) > MAX_PROBLEMS:
            report.problems.append(f"… and {len(problems) - MAX_PROBLEMS} more")
        report.snippets_added = counts.added
        report.snippets_changed = counts.changed
        report.snippets_vanished = counts.vanished
        _add_live_counts(report, self._connection, self._repository.id)


def _extractor(language: Language, tokens: TokenBudget, detector: Detector, max_bytes: int) -> str:
    """What decides which snippets a file gives, beside its bytes."""
    return f"{language.version} {tokens.name} {detector.version} {_deciding_code()} {max_bytes}"


@cache
def _deciding_code() -> str:
    here = Path(__file__).parent
    code = b"\0".join((here / f"{name}.py").read_bytes() for name in _DECIDING_MODULES)
    return hashlib.sha256(code).hexdigest()[:12]
