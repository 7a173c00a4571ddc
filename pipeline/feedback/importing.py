"""Bringing in judgements made elsewhere, from a file of JSON lines: all usable lines, in one transaction.

Nothing is lost: a line that cannot be used is kept, with its number and its reason, in a file beside the
first. Importing a file again, or one that has grown, adds only what is new. A line is known already by its
query, user, snippet, judgement and date, with three refinements that a second import repeats exactly:

- Without a user, equal lines may come from different people, so the second of them is not the first.
- With a user but without a date, a judgement that returns after its opposite is said anew: that person has
  changed their mind twice.
- What is undated was said when it was imported.

Lines by people who asked to be forgotten are set aside, unless they are dated later than that (forgotten.py).
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import BadInputError
from pipeline.feedback import import_store
from pipeline.feedback.forgotten import Promises, promises
from pipeline.feedback.import_lines import UnusableLineError, parse_line
from pipeline.progress import Advance, Progress, Silent
from pipeline.store.connections import Database

FORGOTTEN_REASON = "forgotten person: this name asked to be forgotten; only what is dated later is taken"


@dataclass(frozen=True)
class ImportReport:
    """What became of a file.

    Attributes:
        read: Lines read; the empty ones at the end of the file are none.
        added: Lines that became feedback.
        already_known: Usable lines that said nothing new.
        rejected: Lines set aside.
        rejected_file: Where, or None if there was no such line.
        reasons: How many lines for which kind of reason.
    """

    read: int
    added: int
    already_known: int
    rejected: int
    rejected_file: Path | None
    reasons: dict[str, int]


def rejected_path(file: Path) -> Path:
    """`FILE.rejected.jsonl` for `FILE.jsonl`; the name with `.rejected.jsonl` after it for any other."""
    stem = file.name.removesuffix(".jsonl") or file.name
    return file.with_name(f"{stem}.rejected.jsonl")


def import_feedback(db: Database, file: Path, progress: Progress | None = None) -> ImportReport:
    """Imports `file`, whole or, if anything goes wrong on the way, not at all.

    Each line is `{"query", "repository", "path", "symbol"?, "judgement": "accept"|"reject"|"click",
    "user"?, "at"?}`; without `symbol`, the first snippet of the file at `path` is meant. Lines set aside
    are written as `{"line", "reason", "original"}`, or with `original_base64` where the line is not UTF-8.

    Raises:
        BadInputError: the file cannot be read, or the one for the lines set aside cannot be written.
    """
    progress = progress or Silent()
    aside = rejected_path(file)
    try:
        with (
            file.open("rb") as source,
            progress.stage(f"Importing {file.name}", os.fstat(source.fileno()).st_size) as advance,
            db.connect() as connection,
        ):
            barred = promises(connection)
            import_store.receive(connection, _rows(source, advance, datetime.now(UTC), barred))
            import_store.look_up(connection)
            counts = import_store.add(connection)
            reasons = import_store.rejection_counts(connection)
            rejected = sum(reasons.values())
            # Before the commit: if the lines that are set aside cannot be kept, nothing happened.
            if rejected:
                _write(aside, import_store.rejections(connection))
            else:
                aside.unlink(missing_ok=True)  # of an earlier import; every line of the file is good now
    except OSError as error:
        raise BadInputError(
            f"{error.filename or file} cannot be used: {error.strerror}.",
            hint="Give a file of JSON lines in a directory that can be written to.",
        ) from error
    return ImportReport(
        read=counts.usable + rejected,
        added=counts.added,
        already_known=counts.usable - counts.added,
        rejected=rejected,
        rejected_file=aside if rejected else None,
        reasons=reasons,
    )


def _rows(source: BinaryIO, advance: Advance, now: datetime, barred: Promises) -> Iterator[import_store.Row]:
    """One row per line, in order, usable or not."""
    for number, line in _numbered_lines(source):
        advance(len(line))
        original = line.rstrip(b"\r\n")
        try:
            said = parse_line(original, now)
        except UnusableLineError as error:
            yield import_store.Row(number, original, reason=str(error))
            continue
        if said.user is not None and barred.bar(said.user, said.at):
            yield import_store.Row(number, original, reason=FORGOTTEN_REASON)
            continue
        yield import_store.Row(
            number,
            original,
            query=said.query,
            user_name=said.user,
            repository=said.repository,
            path=said.path,
            symbol=said.symbol,
            judgement=said.judgement,
            at=said.at,
            # JSON, because joining with any one character would let two different pairs look the same.
            search_key=sha256(json.dumps([said.query, said.user]).encode()).digest(),
        )


def _numbered_lines(source: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines with their numbers from 1, without a byte order mark and the empty lines at the end."""
    empty: list[tuple[int, bytes]] = []
    for number, line in enumerate(source, start=1):
        content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if not content.strip():
            empty.append((number, content))
            continue
        yield from empty
        empty.clear()
        yield number, content


def _write(aside: Path, rejections: Iterable[tuple[int, str, bytes]]) -> None:
    """Writes the lines that were set aside; the file appears whole, or stays as it was."""
    descriptor, name = tempfile.mkstemp(dir=aside.parent, prefix=aside.name, suffix=".part")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as target:
            for line, reason, original in rejections:
                entry: dict[str, object] = {"line": line, "reason": reason}
                try:
                    entry["original"] = original.decode()
                except UnicodeDecodeError:
                    entry["original_base64"] = base64.b64encode(original).decode()
                target.write(json.dumps(entry, ensure_ascii=False) + "\n")
        Path(name).chmod(0o644)
        Path(name).replace(aside)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
