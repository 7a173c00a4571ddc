"""The queue of searches on disk: what was answered is kept at once, and reaches the database when it can.

A search is put down in a few microseconds, by SQLite in its write-ahead mode, and a thread carries what is
there into Postgres. So a search waits for nobody, a database that is away loses nothing, and neither does a
process that is killed: what is committed is in the operating system's hands, and the next process carries it
on. No search waits for the disk, but the thread does: a machine that loses its power loses the last quarter
of a second, whether the database is there or away. Several processes may share one queue. A record names
itself, so that one carried twice is written once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import psycopg

from pipeline.config import Settings
from pipeline.errors import HoneloopError, UnavailableError
from pipeline.search.recording import SearchRecord, store_searches
from pipeline.store.connections import Database

BATCH = 500
# What comes in within this time is written together.
GATHER_SECONDS = 0.2
# How often a thread with nothing to do looks for what another process left behind.
LOOK_SECONDS = 15.0
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 15.0
# How long a record waits for another process that is writing to the file.
LOCK_SECONDS = 1.0

_log = logging.getLogger(__name__)

# The number of rows is kept beside them, because counting them takes as long as there are many.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    search_id TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS unusable (
    search_id TEXT NOT NULL,
    record TEXT NOT NULL,
    reason TEXT NOT NULL,
    at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE IF NOT EXISTS depth (n INTEGER NOT NULL);
INSERT INTO depth SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM depth);
CREATE TRIGGER IF NOT EXISTS one_more AFTER INSERT ON records BEGIN UPDATE depth SET n = n + 1; END;
CREATE TRIGGER IF NOT EXISTS one_less AFTER DELETE ON records BEGIN UPDATE depth SET n = n - 1; END;
"""

Row = tuple[int, str, str]


class SearchSpool:
    """A bounded queue of `SearchRecord`s on disk, and the thread that empties it into the database.

    It is the engine's `Recorder`. `close` it, or use it in a `with` block.

    Args:
        settings: Its home holds the queue, `search_queue_size` bounds it.
        db: Where the records go.

    Raises:
        HoneloopError: the file cannot be opened, or is not such a queue.
    """

    def __init__(self, settings: Settings, db: Database) -> None:
        self.path = queue_path(settings)
        self._limit = settings.search_queue_size
        self._db = db
        # One connection and one lock per process: SQLite's own waiting for a lock sleeps for milliseconds.
        self._lock = threading.Lock()
        self._file = open_queue(self.path)
        self._unrecorded = 0
        self._refusing = ""
        self._away = ""
        self._news = threading.Event()
        self._closing = threading.Event()
        self._closed = False
        self._writer = threading.Thread(target=self._write, name="search-spool", daemon=True)
        self._writer.start()

    def __enter__(self) -> SearchSpool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def depth(self) -> int:
        """How many records wait, those of other processes among them."""
        return self._count("SELECT n FROM depth")

    @property
    def unusable(self) -> int:
        """How many records the database refused for a reason of their own; they are kept in the file."""
        return self._count("SELECT count(*) FROM unusable")

    @property
    def unrecorded(self) -> int:
        """How many searches this process could not keep, because the queue or the disk was full."""
        return self._unrecorded

    def record(self, record: SearchRecord) -> bool:
        """Keeps a record; False if the queue or the disk is full. Never raises, hardly ever waits."""
        try:
            text = json.dumps(record.to_json())
            with self._lock:
                added = self._file.execute(
                    "INSERT INTO records (search_id, record) SELECT ?, ? WHERE (SELECT n FROM depth) < ?",
                    (record.search_id, text, self._limit),
                ).rowcount
        except (sqlite3.Error, ValueError, TypeError) as error:
            return self._refused(f"the queue cannot be written ({error})")
        if not added:
            return self._refused(f"{self._limit:,} searches wait already")
        self._refusing = ""
        self._news.set()
        return True

    def flush(self, timeout: float = 30.0) -> bool:
        """Whether all that waits now was written, or set aside, within `timeout` seconds."""
        return self._written(timeout, though_away=True)

    def _written(self, timeout: float, *, though_away: bool) -> bool:
        deadline = time.monotonic() + timeout
        last = self._count("SELECT coalesce(max(number), 0) FROM records")
        while self._count("SELECT count(*) FROM (SELECT 1 FROM records WHERE number <= ? LIMIT 1)", last):
            if time.monotonic() > deadline or (self._away and not though_away):
                return False
            self._news.set()
            time.sleep(0.02)
        return True

    def flush_search(self, search_id: str) -> None:
        """Writes the record of this search now, if it still waits; for feedback that comes at once.

        Raises:
            UnavailableError: it waits, and the database is away.
        """
        rows = self._rows("SELECT number, search_id, record FROM records WHERE search_id = ?", search_id)
        if rows:
            try:
                self._carry(rows)
            except (HoneloopError, psycopg.Error) as error:
                raise UnavailableError(
                    "The database is away; the search it is about is kept until it is back.",
                    hint="Try again in a moment.",
                ) from error

    def close(self, timeout: float = 5.0) -> None:
        """Writes what it can in `timeout` seconds and ends; what is left waits for the next process."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(UnavailableError):
            self._written(timeout, though_away=False)
        self._closing.set()
        self._news.set()
        self._writer.join(timeout)
        if self._writer.is_alive():
            # It waits for a server that does not answer; the file stays as it is, and so the thread may.
            return
        with self._lock:
            self._file.close()

    def _refused(self, reason: str) -> bool:
        with self._lock:
            self._unrecorded += 1
            said, self._refusing = self._refusing, reason
        if not said:
            _log.error("Searches are answered but not recorded: %s.", reason)
        return False

    def _write(self) -> None:
        wait = FIRST_WAIT_SECONDS
        while not self._closing.is_set():
            try:
                rows = self._rows(
                    "SELECT number, search_id, record FROM records ORDER BY number LIMIT ?", BATCH
                )
                if rows:
                    self._carry(rows)
                    self._back()
                    self._checkpoint()
                    wait = FIRST_WAIT_SECONDS
                if len(rows) < BATCH:
                    self._news.wait(LOOK_SECONDS)
                    self._news.clear()
                    self._closing.wait(GATHER_SECONDS)
            except (HoneloopError, psycopg.Error, sqlite3.Error) as error:
                self._went(error)
                self._wait_on_disk(wait)
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    def _wait_on_disk(self, seconds: float) -> None:
        """Waits before the next attempt; what comes in meanwhile waits on the disk, a moment later."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._closing.is_set():
            with contextlib.suppress(sqlite3.Error):
                self._checkpoint()
            self._news.wait(left)
            self._news.clear()
            self._closing.wait(min(left, GATHER_SECONDS))

    def _carry(self, rows: Sequence[Row], *, again: bool = False) -> None:
        """Writes the rows to the database and takes them from the queue."""
        try:
            records = [SearchRecord.from_json(json.loads(record)) for _, _, record in rows]
            with self._db.connect(connect_timeout=5) as connection:
                store_searches(connection, records)
        except Exception as error:
            if not _of_the_record(error):
                raise
            if len(rows) > 1:  # one record must not keep the others back
                for row in rows:
                    self._carry([row])
                return
            # A source was removed meanwhile: its snippets were still found, and were gone when referred to.
            if isinstance(error, psycopg.errors.ForeignKeyViolation) and not again:
                self._carry(rows, again=True)
                return
            self._set_aside(rows[0], error)
            return
        self._remove(rows)

    def _remove(self, rows: Sequence[Row]) -> None:
        with self._lock, self._transaction():
            self._file.executemany("DELETE FROM records WHERE number = ?", [row[:1] for row in rows])

    def _set_aside(self, row: Row, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        with self._lock, self._transaction():
            # Only whoever takes it from the queue sets it aside: another process may be at it, too.
            if self._file.execute("DELETE FROM records WHERE number = ?", row[:1]).rowcount:
                self._file.execute(
                    "INSERT INTO unusable (search_id, record, reason) VALUES (?, ?, ?)", (*row[1:], reason)
                )
        _log.error("The record of search %s is set aside: %s.", row[1], type(error).__name__)

    def _checkpoint(self) -> None:
        """Moves what is in the log into the file, beside those who write, and waits for the disk."""
        with contextlib.closing(sqlite3.connect(self.path)) as beside:
            beside.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _went(self, error: Exception) -> None:
        if not self._away:
            _log.warning("Searches wait in %s until they can be written: %s", self.path, type(error).__name__)
        self._away = type(error).__name__

    def _back(self) -> None:
        if self._away:
            _log.warning("Searches are written to the database again.")
        self._away = ""

    @contextlib.contextmanager
    def _transaction(self) -> Generator[None]:
        self._file.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._file.execute("ROLLBACK")
            raise
        self._file.execute("COMMIT")

    def _rows(self, statement: str, *values: object) -> list[Row]:
        try:
            with self._lock:
                return self._file.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise UnavailableError(
                f"The queue of searches {self.path} cannot be read ({error}).", hint="Free disk space?"
            ) from error

    def _count(self, statement: str, *values: object) -> int:
        return int(self._rows(statement, *values)[0][0])


def queue_path(settings: Settings) -> Path:
    """Where the queue's file lies."""
    return settings.home_path / "queue" / "searches.sqlite3"


def open_queue(path: Path) -> sqlite3.Connection:
    """The queue's file, made if it is not there; whoever opened it closes it.

    Raises:
        HoneloopError: the file cannot be opened, or is not such a queue.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = NORMAL")
        # What was carried on or forgotten must not stay readable in the file's free pages.
        file.execute("PRAGMA secure_delete = ON")
        file.execute("PRAGMA wal_autocheckpoint = 0")  # a thread does it beside, so that no record waits
        file.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
    except (sqlite3.Error, OSError) as error:
        raise HoneloopError(
            f"The queue of searches {path} cannot be opened ({error}).",
            hint="Make its folder writable and free disk space; a damaged file can be moved away.",
        ) from error
    return file


def _of_the_record(error: Exception) -> bool:
    """Whether the database is well, and it is the record that cannot be written."""
    if isinstance(error, (HoneloopError, psycopg.OperationalError, psycopg.InterfaceError, sqlite3.Error)):
        return False
    if isinstance(error, psycopg.Error):
        # What has no SQLSTATE was refused by psycopg itself, before it was sent.
        return isinstance(error, (psycopg.DataError, psycopg.IntegrityError)) or error.sqlstate is None
    return isinstance(error, (ValueError, TypeError, KeyError, AttributeError))
