"""What the tools work with: database, queue and search engine, each made when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

import psycopg

from pipeline.config import Settings
from pipeline.corpus.repositories import Repository, list_repositories
from pipeline.errors import BadInputError, UnavailableError
from pipeline.feedback.confidence import Judgement
from pipeline.feedback.events import add_feedback
from pipeline.search.answer import SearchAnswer
from pipeline.search.engine import SearchEngine
from pipeline.search.request import SearchRequest
from pipeline.search.snippets import SnippetDetail, UnknownSnippetError, find_snippet
from pipeline.search.spool import SearchSpool
from pipeline.store.connections import Database, open_database


class AgentBackend:
    """Answers many threads. Blocking calls; `close` it.

    An agent starts all its servers and then uses few of them, so nothing is started before a tool is called:
    the database with the first call, the model with the first search.

    Args:
        settings: What is in force.
        database: An opened database; by default the one of the settings, migrated.
    """

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._database = database
        self._spool: SearchSpool | None = None
        self._engine: SearchEngine | None = None
        self._closed = False

    def search(self, request: SearchRequest) -> SearchAnswer:
        """The answer, recorded.

        Raises:
            BadInputError: it cannot be answered as asked.
            UnavailableError: nothing is indexed yet, or the database is away.
        """
        request.check()
        return self._searching().search(request)

    def snippet(self, snippet_id: int) -> SnippetDetail:
        """A snippet with its whole code and all its places.

        Raises:
            BadInputError: there is none of this number.
            UnavailableError: the database is away.
        """
        with _database_may_go():
            try:
                with self._opened().connect() as connection:
                    return find_snippet(connection, snippet_id)
            except UnknownSnippetError as error:
                raise BadInputError(str(error), hint="Take a snippet_id from a search's results.") from error

    def judge(self, search_id: str, snippet_id: int, judgement: Judgement, user: str) -> bool:
        """Records what was done with a snippet that a search showed; whether that was new.

        Raises:
            BadInputError: there is no such search, or it did not show the snippet.
            UnavailableError: the database is away.
        """
        db, spool = self._opened(), self._recording()
        with _database_may_go():
            spool.flush_search(search_id)
            return add_feedback(db, search_id, snippet_id, judgement, user=user).added

    def sources(self) -> list[Repository]:
        """What is registered. Raises UnavailableError if the database is away."""
        with _database_may_go():
            return list_repositories(self._opened())

    def close(self) -> None:
        """Ends its threads and connections; searches that wait on disk are written if that is possible."""
        with self._lock:
            self._closed = True
            if self._engine is not None:
                self._engine.close()
                self._engine = None
            if self._spool is not None:
                self._spool.close()
                self._spool = None

    def _opened(self) -> Database:
        with self._lock:
            return self._open()

    def _recording(self) -> SearchSpool:
        with self._lock:
            return self._record()

    def _searching(self) -> SearchEngine:
        with self._lock:
            if self._engine is None:
                self._engine = SearchEngine(self._settings, self._open(), self._record())
            return self._engine

    def _open(self) -> Database:
        if self._closed:
            raise UnavailableError("The server is ending.", hint="Ask the next one.")
        if self._database is None:
            with _database_may_go():
                self._database = open_database(self._settings)
        return self._database

    def _record(self) -> SearchSpool:
        if self._spool is None:
            self._spool = SearchSpool(self._settings, self._open())
        return self._spool


@contextmanager
def _database_may_go() -> Generator[None]:
    try:
        yield
    except psycopg.OperationalError as error:
        raise UnavailableError(
            f"The database went away: {str(error).strip()}.", hint="Try again in a moment."
        ) from error
