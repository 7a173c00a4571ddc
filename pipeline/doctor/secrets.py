"""Secrets in stored texts that today's rules have not read: above all of sources that are not read again."""

from __future__ import annotations

from collections import Counter
from functools import partial

from pipeline.config import Settings
from pipeline.corpus.redacting import (
    Held,
    count_not_read,
    find_held,
    is_looked_through,
    note_looked_through,
    redact_held,
)
from pipeline.corpus.secrets import Detector
from pipeline.doctor.findings import Examination, Finding
from pipeline.progress import Progress
from pipeline.store.connections import Database

# So many files of a source are named.
NAMED = 5


def examine_secrets(db: Database, settings: Settings, found: Examination, progress: Progress) -> None:
    """Looks through those texts, a few at a time, and notes it once nothing is found: it costs what reading
    all of them costs, at some 20 MB a second, and need not be done again until there are other rules.
    """
    detector = Detector(settings)
    if not detector.on:
        return
    held: list[Held] = []
    with db.connect() as connection:
        if is_looked_through(connection, detector):
            return
        count = count_not_read(connection, detector)
        with progress.stage("Looking for secrets in stored texts", count) as advance:
            for each in find_held(connection, detector):
                if each is not None:
                    held.append(each)
                advance(1)
        if not held:
            note_looked_through(connection, detector)
            return
    by_repository: dict[str | None, list[Held]] = {}
    for each in held:
        by_repository.setdefault(each.places[0][0] if each.places else None, []).append(each)
    found.add(
        Finding(
            "stored secrets",
            _said(repository, texts),
            partial(_redact, db, detector, texts),
            "Change those keys and passwords: whoever has a backup has them, too.",
        )
        for repository, texts in sorted(by_repository.items(), key=lambda item: item[0] or "")
    )


def _said(repository: str | None, held: list[Held]) -> str:
    if repository is None:
        return f"{len(held)} texts that models learned from or were measured on hold secrets."
    files = Counter(path for each in held for name, path in each.places if name == repository)
    named = ", ".join(f"{path} ({count})" for path, count in sorted(files.items())[:NAMED])
    more = f" and {len(files) - NAMED} more files" if len(files) > NAMED else ""
    return f"{len(held)} stored texts of {repository} hold secrets: {named}{more}."


def _redact(db: Database, detector: Detector, held: list[Held]) -> None:
    with db.connect() as connection:
        redact_held(connection, detector, held)
