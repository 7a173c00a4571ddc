"""Searches that were answered and are not in the database yet: into a backup, and out of one."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.search.spool import open_queue, queue_path

# Those who answer searches wait a second for each other, so this is far more than enough.
_LOCK_SECONDS = 10.0
_WAITING = "SELECT search_id, record, NULL, NULL FROM records ORDER BY number"
_UNUSABLE = "SELECT search_id, record, reason, at FROM unusable ORDER BY rowid"


class QueuedSearches:
    """The queue as it was at one moment."""

    def __init__(self, file: sqlite3.Connection | None) -> None:
        self._file = file

    def lines(self) -> Iterator[dict[str, str | None]]:
        """Each record, and each that the database refused with its reason, as JSON-able values."""
        for statement in (_WAITING, _UNUSABLE) if self._file is not None else ():
            assert self._file is not None
            for row in self._file.execute(statement):
                yield dict(zip(("search_id", "record", "reason", "at"), row, strict=True))

    def snippets(self) -> list[int]:
        """The ids of the snippets that were shown in them."""
        shown: set[int] = set()
        for line in self.lines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # what is unusable may be anything
                shown |= {int(each[0]) for each in json.loads(line["record"] or "")["impressions"]}
        return sorted(shown)


@contextmanager
def queue_at(settings: Settings, moment: Callable[[], None]) -> Generator[QueuedSearches]:
    """The queue as it is while `moment` runs, which begins the reading of the database.

    For that instant nobody writes to the queue. So what was acknowledged before it is either in what is
    seen of the database or in what is seen of the queue, or in both, as a record goes from the queue only
    when it is safely in the database.

    Raises:
        HoneloopError: the queue's file cannot be read.
    """
    path = queue_path(settings)
    if not path.exists():
        moment()
        yield QueuedSearches(None)
        return
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            with closing(sqlite3.connect(path, timeout=_LOCK_SECONDS, isolation_level=None)) as holder:
                holder.execute("BEGIN IMMEDIATE")
                moment()
                reader.execute("BEGIN")
                reader.execute("SELECT n FROM depth").fetchall()  # from here on it sees what is there now
            yield QueuedSearches(reader)
    except sqlite3.Error as error:
        raise HoneloopError(
            f"The queue of searches {path} cannot be read ({error}).",
            hint="A damaged file can be moved away; the searches in it are then lost.",
        ) from error


def is_empty(settings: Settings) -> bool:
    """Whether nothing waits in this home's queue."""
    with queue_at(settings, lambda: None) as queue:
        return next(queue.lines(), None) is None


def fill_queue(settings: Settings, lines: Iterable[dict[str, Any]]) -> None:
    """Puts the lines of `QueuedSearches.lines` into this home's queue; the next process carries them on."""
    with closing(open_queue(queue_path(settings))) as file:
        file.execute("BEGIN IMMEDIATE")
        for line in lines:
            if line["reason"] is None:
                file.execute(
                    "INSERT OR IGNORE INTO records (search_id, record) VALUES (?, ?)",
                    (line["search_id"], line["record"]),
                )
            else:
                file.execute(
                    "INSERT INTO unusable (search_id, record, reason, at) VALUES (?, ?, ?, ?)",
                    (line["search_id"], line["record"], line["reason"], line["at"]),
                )
        file.execute("COMMIT")
