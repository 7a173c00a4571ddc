"""What the service does, apart from HTTP: searches, feedback, snippets, health. Every method may block.

The web page uses it as the API does, so that both count, record and link alike.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import psycopg

from pipeline.config import Settings
from pipeline.errors import BadInputError, HoneloopError, UnavailableError
from pipeline.feedback.events import ExpiredSearchError, add_feedback
from pipeline.index.serving import ServingIndex, serving_index
from pipeline.search.answer import SearchAnswer
from pipeline.search.api.errors import RefusedError
from pipeline.search.api.metrics import Metrics
from pipeline.search.api.schemas import (
    FeedbackIn,
    FeedbackOut,
    ResultOut,
    SearchOut,
    SnippetOut,
    SnippetPlaceOut,
)
from pipeline.search.engine import SearchEngine
from pipeline.search.links import Links
from pipeline.search.request import SearchRequest
from pipeline.search.snippets import SnippetDetail, UnknownSnippetError, find_origins, find_snippet
from pipeline.search.spool import SearchSpool
from pipeline.store.connections import Database


@dataclass(frozen=True)
class Service:
    """Everything a request may need. It owns none of its parts: whoever made them closes them.

    Args:
        engine: Answers searches, and leaves their records in `spool`.
        settings: What is in force.
        db: The database.
        spool: Where records wait.
    """

    engine: SearchEngine
    settings: Settings
    db: Database
    spool: SearchSpool
    metrics: Metrics = field(default_factory=Metrics)
    links: Links = field(default_factory=Links)

    def search(self, request: SearchRequest) -> SearchOut:
        """Answers, records and counts a search.

        Raises:
            BadInputError: it cannot be answered as asked.
            UnavailableError: nothing is indexed yet, or the database is away.
        """
        with self.metrics.in_flight.track_inprogress():
            answer = self.engine.search(request)
            self.metrics.answered(answer)
            return self._shown(answer)

    def feedback(self, given: FeedbackIn) -> FeedbackOut:
        """Records what somebody did with a result.

        Raises:
            RefusedError: there is no such search (404), or it has expired (410).
            BadInputError: it did not show that snippet.
            UnavailableError: the database is away.
        """
        search_id = str(given.search_id)
        # What was answered a moment ago may still wait on disk.
        self.spool.flush_search(search_id)
        try:
            result = add_feedback(
                self.db,
                search_id,
                given.snippet_id,
                given.judgement,
                dwell_ms=given.dwell_ms,
                user=given.user,
            )
        except ExpiredSearchError as error:
            raise RefusedError(410, error.message, hint=error.hint) from error
        except BadInputError as error:
            if self._knows(search_id):
                raise
            raise RefusedError(
                404, error.message, hint="Take the search_id of an answer of /search."
            ) from error
        except psycopg.OperationalError as error:
            raise UnavailableError("The database went away.", hint="Try again in a moment.") from error
        return FeedbackOut(added=result.added)

    def snippet(self, snippet_id: int) -> SnippetOut:
        """One snippet. Raises RefusedError (404) if there is none of this number."""
        try:
            found = self.engine.read(lambda connection: find_snippet(connection, snippet_id))
        except UnknownSnippetError as error:
            raise RefusedError(
                404, str(error), hint="Numbers come with the results of a search; sources may be removed."
            ) from error
        return self._detail(found)

    def database_index(self) -> ServingIndex:
        """The index that serves, asked on a connection of its own, which no stuck search can keep busy.

        Raises:
            UnavailableError: the database is away, or nothing is indexed yet.
        """
        with self.engine.searched.connect(connect_timeout=2) as connection:
            return serving_index(connection)

    def metrics_text(self) -> bytes:
        """All counts, for Prometheus."""
        try:
            index = self.database_index()
        except (HoneloopError, psycopg.Error):
            serving = None
        else:
            serving = (index.model_version, index.index_version_id)
        return self.metrics.text(
            queue_depth=self.spool.depth,
            unusable=self.spool.unusable,
            serving=serving,
            encoding=self.engine.encoding_counts(),
        )

    def queue_depth(self) -> int | None:
        """How many records wait; None if the queue's file cannot be read."""
        try:
            return self.spool.depth
        except UnavailableError:
            return None

    def _knows(self, search_id: str) -> bool:
        return self.engine.read_newest(
            lambda connection: (
                connection.execute("SELECT FROM searches WHERE id = %s", [search_id]).fetchone() is not None
            )
        )

    def _shown(self, answer: SearchAnswer) -> SearchOut:
        urls = self._urls(answer)
        return SearchOut(
            search_id=answer.search_id,
            query=answer.query,
            model_version=answer.model_version,
            index_version_id=answer.index_version_id,
            latency_ms=answer.latency_ms,
            results=[
                ResultOut.model_validate({**asdict(result), "url": urls[result.snippet_id]})
                for result in answer.results
            ],
        )

    def _urls(self, answer: SearchAnswer) -> dict[int, str]:
        numbers = [result.snippet_id for result in answer.results]
        try:
            origins = self.engine.read(lambda connection: find_origins(connection, numbers))
        except UnavailableError:
            origins = {}  # the answer is there; it goes out, with links to this service's own pages
        return {
            result.snippet_id: self.links.url(
                origins[result.snippet_id], result.path, snippet_id=result.snippet_id
            )
            if result.snippet_id in origins
            else f"/snippets/{result.snippet_id}"
            for result in answer.results
        }

    def _detail(self, found: SnippetDetail) -> SnippetOut:
        return SnippetOut(
            snippet_id=found.snippet_id,
            repository=found.repository,
            path=found.path,
            symbol=found.symbol,
            kind=found.kind,
            language=found.language,
            signature=found.signature,
            code=found.code,
            start_line=found.start_line,
            end_line=found.end_line,
            commit=found.origin.commit,
            vanished_at=found.vanished_at,
            url=self.links.url(found.origin, found.path, snippet_id=found.snippet_id),
            places=found.places,
            also_at=[
                SnippetPlaceOut(
                    snippet_id=place.snippet_id,
                    repository=place.repository,
                    path=place.path,
                    symbol=place.symbol,
                    start_line=place.start_line,
                    end_line=place.end_line,
                    url=self.links.url(place.origin, place.path, snippet_id=place.snippet_id),
                )
                for place in found.also_at
            ],
        )
