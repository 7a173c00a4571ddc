"""The search engine of a long-lived process: one model in memory, many callers, and it follows every flip."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

import psycopg
from pgvector.psycopg import register_vector
from psycopg_pool import ConnectionPool, PoolTimeout

from pipeline.config import Settings
from pipeline.errors import HoneloopError, UnavailableError
from pipeline.index.serving import ServingIndex, serving_index
from pipeline.search.answer import SearchAnswer
from pipeline.search.encoding import QueryEncoder
from pipeline.search.query import ANEW, ATTEMPTS, answer_query, one_snapshot
from pipeline.search.recording import NoRecorder, Recorder, SearchRecord
from pipeline.search.request import SearchRequest
from pipeline.store.connections import Connection, Database

Result = TypeVar("Result")
# How long a search waits for the model of an index that was flipped to this moment, before it is answered
# from the index that served until then, which stands for rollback.
FLIP_PATIENCE_SECONDS = 3.0
# How long a search waits for the database before it says that there is none.
DATABASE_PATIENCE_SECONDS = 5.0
FOLLOW_SECONDS = 2.0
# The serving model and the one about to serve, or the one that did.
ENCODERS_KEPT = 2


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
        db: The database.
        recorder: Where searches and what they showed are left; None: nowhere.
        connections: To the database, at the most.
    """

    def __init__(
        self, settings: Settings, db: Database, recorder: Recorder | None = None, *, connections: int = 8
    ) -> None:
        self.settings = settings
        self._recorder = recorder or NoRecorder()
        self._lock = threading.Lock()
        self._current: Serving | None = None
        self._encoders: dict[str, Future[QueryEncoder]] = {}
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="model-loader")
        self._closing = threading.Event()
        self.pool = ConnectionPool(
            db.url,
            min_size=1,
            max_size=connections,
            timeout=DATABASE_PATIENCE_SECONDS,
            reconnect_timeout=DATABASE_PATIENCE_SECONDS,
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
            UnavailableError: nothing is indexed yet, or the database is away.
        """
        started = time.perf_counter()
        request.check()
        for remaining in reversed(range(ATTEMPTS)):
            # When the index went away under a search, no patience with its model: only the new one will do.
            serving = self.serving(FLIP_PATIENCE_SECONDS if remaining == ATTEMPTS - 1 else None)
            vector = serving.encoder.submit(request.query).result()

            def answer(
                connection: Connection, serving: Serving = serving, vector: Any = vector
            ) -> SearchAnswer:
                one_snapshot(connection)
                return answer_query(connection, serving.index, vector, request, started=started)

            try:
                return self._recorded(request, self.read(answer))
            except ANEW:
                if not remaining:
                    raise
        raise AssertionError  # the loop returns or raises

    def serving(self, patience: float | None = None) -> Serving:
        """What a search that begins now is answered from.

        Args:
            patience: Seconds to wait for the model of a new index before the one that served until then is
                taken; None: as long as loading takes.

        Raises:
            UnavailableError: nothing is indexed yet, or the database is away.
            HoneloopError: the model cannot be loaded, and none served before.
        """
        index = self.read(serving_index)
        with self._lock:
            current = self._current
        if current is not None and current.index == index:
            return current
        loading = self._encoder(index.model_version, index.location)
        try:
            encoder = loading.result(patience if current is not None else None)
        except TimeoutError:
            assert current is not None  # else there was no limit
            return current
        except HoneloopError:
            self._forget(index.model_version)
            if current is None or patience is None:
                raise
            return current
        serving = Serving(index, encoder)
        with self._lock:
            self._current = serving
        return serving

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """What `work` gives on a pooled connection, in one transaction.

        Raises:
            UnavailableError: the database is away.
        """
        try:
            with self.pool.connection() as connection:
                return work(connection)
        except PoolTimeout as error:
            raise UnavailableError(
                f"The database did not answer within {DATABASE_PATIENCE_SECONDS:.0f} s.",
                hint="Try again in a moment; `honeloop status` says whether it runs.",
            ) from error
        except psycopg.OperationalError as error:
            if isinstance(error, ANEW):
                raise
            raise UnavailableError(
                f"The database went away: {str(error).strip()}.", hint="Try again in a moment."
            ) from error

    def close(self) -> None:
        """Ends its threads and connections. Searches that came before are answered."""
        self._closing.set()
        self._follower.join()
        self._loader.shutdown()
        with self._lock:
            encoders = [each for each in self._encoders.values() if each.exception() is None]
            self._encoders.clear()
        for encoder in encoders:
            encoder.result().close()
        self.pool.close()

    def _recorded(self, request: SearchRequest, answer: SearchAnswer) -> SearchAnswer:
        named = str(uuid4())
        kept = self._recorder.record(SearchRecord.of(named, datetime.now(UTC), request, answer))
        return replace(answer, search_id=named) if kept else answer

    def _encoder(self, version: str, location: str) -> Future[QueryEncoder]:
        """The encoder of a model version, loaded by one thread however many ask for it."""
        with self._lock:
            loading = self._encoders.pop(version, None)
            if loading is None:
                loading = self._loader.submit(self._load, version, location)
            self._encoders[version] = loading  # the one used last stands last
            surplus = (
                [self._encoders.pop(next(iter(self._encoders)))]
                if len(self._encoders) > ENCODERS_KEPT
                else []
            )
        for old in surplus:
            # Searches in flight still wait for it: it ends when they have their vectors.
            threading.Thread(target=_close_when_loaded, args=[old], daemon=True).start()
        return loading

    def _forget(self, version: str) -> None:
        """So that the next search tries again: its files may be back by then."""
        with self._lock:
            loading = self._encoders.get(version)
            if loading is not None and loading.done() and loading.exception() is not None:
                del self._encoders[version]

    def _load(self, version: str, location: str) -> QueryEncoder:
        from pipeline.encoders.loading import load_encoder

        encoder = load_encoder(
            location, device=self.settings.device, batch_size=self.settings.embed_batch_size
        )
        if encoder.version != version:
            raise HoneloopError(
                f"{location} no longer holds the model version {version[:12]} but {encoder.version[:12]}.",
                hint="Put the model's files back, or let another version serve with `honeloop promote`.",
            )
        return QueryEncoder(encoder, cache_size=self.settings.query_cache_size)

    def _follow(self) -> None:
        """Loads what serves, and what is about to, before a search has to wait for it."""
        while not self._closing.wait(FOLLOW_SECONDS if self._current else 0.05):
            try:
                self.serving()
                approved = self.read(_approved)
                if approved is not None:
                    wait([self._encoder(*approved)])
            except HoneloopError:
                # A search that comes now says so to whoever asks; here it is only too early.
                self._closing.wait(FOLLOW_SECONDS)


def _approved(connection: Connection) -> tuple[str, str] | None:
    row = connection.execute(
        "SELECT version, location FROM model_versions WHERE state = 'approved'"
    ).fetchone()
    return None if row is None else (row[0], row[1])


def _configure(connection: Connection) -> None:
    register_vector(connection)
    connection.commit()


def _close_when_loaded(loading: Future[QueryEncoder]) -> None:
    if loading.exception() is None:
        loading.result().close()
