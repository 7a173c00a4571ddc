"""People who were forgotten after a backup was taken: a later backup knows them, by a hash of the name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pipeline.backup.manifest import Manifest, table_member
from pipeline.backup.queue import queue_at
from pipeline.backup.reading import reading
from pipeline.config import Settings
from pipeline.errors import BadInputError
from pipeline.feedback.forgetting import forget_user
from pipeline.feedback.forgotten import Promise, Promises
from pipeline.progress import Progress
from pipeline.store.connections import Database

_NAMES = """
SELECT DISTINCT btrim(user_name) FROM searches WHERE user_name IS NOT NULL
UNION SELECT DISTINCT btrim(user_name) FROM feedback WHERE user_name IS NOT NULL
"""


def forgotten_since(later: Path, before: Manifest, progress: Progress) -> Promises:
    """The promises that a later backup holds and one from before cannot.

    Raises:
        BadInputError: it is no backup, damaged, or not later.
    """
    with reading(later.expanduser()) as backup:
        backup.verify(progress)
        if backup.manifest.created_at <= before.created_at:
            raise BadInputError(
                f"{later} is not later than the backup that is restored.",
                hint="Give one that was taken after those people were forgotten.",
            )
        columns = backup.manifest.tables["forgotten"].columns
        rows = backup.content(table_member("forgotten")).decode().splitlines()
    made = [_promise(dict(zip(columns, row.split("\t"), strict=True))) for row in rows]
    return Promises([each for each in made if each.at > before.created_at])


def forget_again(db: Database, settings: Settings, promises: Promises) -> int:
    """Forgets everybody that the promises are about; returns how many of them were here."""
    with db.connect() as connection:
        names: set[str] = {name for (name,) in connection.execute(_NAMES)}
    names |= set(_waiting(settings))
    theirs = sorted(name for name in names if promises.bar(name, None))
    for name in theirs:
        forget_user(db, settings, name)
    return len(theirs)


def _promise(row: dict[str, str]) -> Promise:
    """A row as COPY writes it: bytes in hexadecimal digits after `\\\\x`."""
    salt, name_hash = (bytes.fromhex(row[name].removeprefix("\\\\x")) for name in ("salt", "name_hash"))
    return Promise(salt, name_hash, datetime.fromisoformat(row["at"]))


def _waiting(settings: Settings) -> Sequence[str]:
    """The names in searches that wait to be recorded."""
    found: list[str] = []
    with queue_at(settings, lambda: None) as queue:
        for line in queue.lines():
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                found.append(json.loads(line["record"] or "")["user"].strip())
    return found
