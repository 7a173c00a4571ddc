"""The search engine of a long-lived process: one model in memory, many callers, and it follows every flip."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar
from uuid import uuid4

import psycopg
from psycopg import IsolationLevel
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from pipeline.config import Settings
from pipeline.errors import HoneloopError, UnavailableError
from pipeline.index.challenging import challenging_index
from pipeline.index.serving import ServingIndex, serving_index
from pipeline.search.answer import SearchAnswer
from pipeline.search.encoding import EncodingCounter, EncodingCounts, QueryEncoder
from pipeline.search.interleaved import Interleaver
from pipeline.search.models import KEPT, ModelNotReadyError, ServingModels
from pipeline.search.query import ANEW, ATTEMPTS, answer_query
from pipeline.search.recording import NoRecorder, Recorder, SearchRecord
from pipeline.search.request import SearchRequest
from pipeline.store.connections import Connection, Database
from pipeline.store.vector_types import register_vectors

Result = TypeVar("Result")
# How long a search waits for the model of an index that was flipped to this moment, before it is answered
# from the index that served until then, which stands for rollback.
FLIP_PATIENCE_SECONDS = 3.0
# How long a search waits for the database before it says that there is none.
DATABASE_PATIENCE_SECONDS = 5.0
# How long one statement may run: what takes longer is no longer waited for, and must not keep a connection.
STATEMENT_SECONDS = 30
# How long a connection is kept: where the address names several servers, the preferred one is found again.
CONNECTION_SECONDS = 300
FOLLOW_SECONDS = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Serving:
    """An index version and the encoder that made it: what one answer comes from, never a mixture."""

    index: ServingIndex
    encoder: QueryEncoder


class SearchEngine:
    """Answers searches from many threads. Blocking calls; `close` it, or use it in a `with` block.

    The model is loaded once. A flip is followed with the next search: queries in flight finish on the old
    index, and the model of an approved version is loaded before its index serves.

    Args:
        settings: Device, batch size and the like.
        db: The database. Searches are answered from its replica if `settings.search_database_url` names one:
            from what serves there, which after a flip may be the old index for a while, with its own model.
        recorder: Where searches and what they showed are left; None: nowhere.
        connections: To the database, at the most.
    """

    def __init__(
        self, settings: Settings, db: Database, recorder: Recorder | None = None, *, connections: int = 8
    ) -> None:
        self.settings = settings
        self._db = db
        self.searched = Database(settings.search_database_url or db.url)
        self._recorder = recorder or NoRecorder()
        self._lock = threading.Lock()
        self._current: Serving | None = None
        self._behind: int | None = None
        self._encoding = EncodingCounter()
        self._interleaver = Interleaver(settings)
        self._models = ServingModels(settings, self._encoding, kept=KEPT + self._interleaver.on)
        self._closing = threading.Event()
        self.pool = ConnectionPool(
            self.searched.url,
            min_size=1,
            max_size=connections,
            timeout=DATABASE_PATIENCE_SECONDS,
            reconnect_timeout=DATABASE_PATIENCE_SECONDS,
            max_lifetime=CONNECTION_SECONDS,
            configure=_configure,
            check=ConnectionPool.check_connection,
            open=True,
        )
        self._follower = threading.Thread(target=self._follow, name="flip-follower", daemon=True)
        self._follower.start()

    def __enter__(self) -> SearchEngine:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def search(self, request: SearchRequest) -> SearchAnswer:
        """The answer, recorded. See `pipeline.search.query.search`.

        Raises:
            BadInputError: it cannot be answered as asked.
            UnavailableError: nothing is indexed yet, the database is away, or the engine is closed.
        """
        started = time.perf_counter()
        request.check()
        search_id = str(uuid4())
        # Most searches follow no flip: what served last is checked in the snapshot that answers.
        serving = self._current or self.serving(FLIP_PATIENCE_SECONDS)
        answer = self._answered(serving, request, search_id, started, only_if_it_serves=True)
        for remaining in reversed(range(ATTEMPTS)):
            if answer is not None:
                break
            # When the index went away under a search, no patience with its model: only the new one will do.
            serving = self.serving(FLIP_PATIENCE_SECONDS if remaining == ATTEMPTS - 1 else None)
            try:
                answer = self._answered(serving, request, search_id, started)
            except ANEW:
                if not remaining:
                    raise
        assert answer is not None  # the last attempt answers or raises
        return self._recorded(request, search_id, answer)

    def serving(self, patience: float | None = None) -> Serving:
        """What a search that begins now is answered from.

        Args:
            patience: Seconds to wait for the model of a new index before the one that served until then is
                taken, counted from when it was first waited for; None: as long as loading takes.

        Raises:
            UnavailableError: nothing is indexed yet, the database is away, or the engine is closed.
            HoneloopError: the model cannot be loaded, and none served before.
        """
        index = self.read(serving_index)
        with self._lock:
            current = self._current
        if current is not None and current.index == index:
            return current
        keep = None if current is None else current.index.model_version
        try:
            encoder = self._models.encoder(
                index.model_version,
                index.location,
                patience=None if current is None else patience,
                keep=keep,
            )
        except ModelNotReadyError:
            assert current is not None  # else there was no limit
            return current
        except HoneloopError as error:
            if current is None or patience is None or self._closing.is_set():
                raise
            self._note_behind(index, error)
            return current
        serving = Serving(index, encoder)
        with self._lock:
            self._current = serving
        self._note_behind(None)
        return serving

    @property
    def behind(self) -> int | None:
        """The index version that should be answered from and is not, as its model cannot be loaded."""
        return self._behind

    def _note_behind(self, index: ServingIndex | None, error: HoneloopError | None = None) -> None:
        """Says once that a flip cannot be followed, and once that it is."""
        version = None if index is None else index.index_version_id
        with self._lock:
            before, self._behind = self._behind, version
        if version is not None and version != before:
            _log.error(
                "Index version %d is to answer, but its model cannot be loaded; the one before goes on: %s",
                version,
                error,
            )
        elif version is None and before is not None:
            _log.warning("The flip is followed: the model of what serves is loaded.")

    def encoding_counts(self) -> EncodingCounts:
        """How queries became vectors since it was made, by whatever models served."""
        return self._encoding.counts()

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """What `work` gives on a pooled connection, in one transaction that sees one state of the database.

        Raises:
            UnavailableError: the database is away or takes too long, or the engine is closed.
        """
        if self._closing.is_set():
            raise _closed()
        try:
            with self.pool.connection() as connection:
                return work(connection)
        except PoolClosed as error:
            raise _closed() from error
        except PoolTimeout as error:
            raise UnavailableError(
                f"The database did not answer within {DATABASE_PATIENCE_SECONDS:.0f} s.",
                hint="Try again in a moment; `honeloop status` says whether it runs.",
            ) from error
        except psycopg.errors.QueryCanceled as error:
            raise UnavailableError(
                f"That took the database longer than {STATEMENT_SECONDS} s and was given up.",
                hint="Ask for less, as in one source or language; or try again when it is less busy.",
            ) from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if isinstance(error, ANEW):
                raise
            raise UnavailableError(
                f"The database went away: {str(error).strip()}.", hint="Try again in a moment."
            ) from error

    def read_newest(self, work: Callable[[Connection], Result]) -> Result:
        """What `work` gives out of the database itself: no replica may have what was written a moment ago.

        Raises:
            UnavailableError: the database is away.
        """
        if self.settings.search_database_url is None:
            return self.read(work)
        with self._db.connect(connect_timeout=int(DATABASE_PATIENCE_SECONDS)) as connection:
            return work(connection)

    def close(self) -> None:
        """Ends its threads and connections. A search in flight is answered, or told that this is closed."""
        self._closing.set()
        self._follower.join()
        self._models.close()
        self.pool.close()

    def _answered(
        self,
        serving: Serving,
        request: SearchRequest,
        search_id: str,
        started: float,
        *,
        only_if_it_serves: bool = False,
    ) -> SearchAnswer | None:
        """The answer out of one index version, or drafted from it and the challenger's.

        None, where that is asked for, if this version serves no longer, or went away.
        """
        asked = time.perf_counter()
        begun = serving.encoder.submit(request.query)
        draft = self._interleaver.begin(search_id, request)  # both models embed at the same time
        vector = begun.result()
        encode_ms = (time.perf_counter() - asked) * 1000
        if draft is not None:
            draft.wait()

        def answer(connection: Connection) -> SearchAnswer | None:
            if only_if_it_serves and serving_index(connection) != serving.index:
                return None
            answer = answer_query(connection, serving.index, vector, request, started=started)
            answer = replace(answer, times=replace(answer.times, encode_ms=encode_ms))
            return answer if draft is None else draft.interleave(connection, serving.index, vector, answer)

        try:
            return self.read(answer)
        except ANEW:
            if only_if_it_serves:
                return None
            raise

    def _recorded(self, request: SearchRequest, search_id: str, answer: SearchAnswer) -> SearchAnswer:
        kept = self._recorder.record(SearchRecord.of(search_id, datetime.now(UTC), request, answer))
        return replace(answer, search_id=search_id) if kept else answer

    def _challenger(self, serving_version: str) -> QueryEncoder | None:
        """The model that searches are interleaved with, if it is loaded; else its loading begins."""
        index = self.read(challenging_index)
        if index is None:
            return None
        try:
            return self._models.encoder(index.model_version, index.location, patience=0, keep=serving_version)
        except (ModelNotReadyError, HoneloopError):
            return None

    def _follow(self) -> None:
        """Loads what serves, and what is about to, before a search has to wait for it."""
        while not self._closing.wait(FOLLOW_SECONDS if self._current else 0.05):
            try:
                serving = self.serving(0 if self._current else None)
                if (approved := self.read(_approved)) is not None:
                    self._models.prepare(*approved, keep=serving.index.model_version)
                if self._interleaver.on:
                    self._interleaver.follow(self._challenger(serving.index.model_version))
            except Exception:  # a search that comes now says so to whoever asks; here it is only too early
                self._closing.wait(FOLLOW_SECONDS)


def _approved(connection: Connection) -> tuple[str, str] | None:
    row = connection.execute(
        "SELECT version, location FROM model_versions WHERE state = 'approved'"
    ).fetchone()
    return None if row is None else (row[0], row[1])


def _configure(connection: Connection) -> None:
    register_vectors(connection)
    connection.execute("SELECT set_config('statement_timeout', %s, false)", [str(STATEMENT_SECONDS * 1000)])
    connection.commit()
    # All of a transaction sees one state, so that an answer is of one index version.
    connection.isolation_level = IsolationLevel.REPEATABLE_READ


def _closed() -> UnavailableError:
    return UnavailableError("The search engine is closed.", hint="Its process is about to end.")
