"""A share of the searches is answered by two models in one list, to see whose results people choose.

The list is drafted from both rankings (evaluation/interleaving.py), each as its model would serve it: the
same filters, its own breadth and weight of words. Both are read in the one snapshot that answers, each with
its own model's vector. The scores shown are all the serving model's, so that nobody can tell whose pick a
result is. Whatever is amiss with the challenger, what serves answers alone.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import sql

from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.evaluation.interleaving import Team, seed_of, takes_part, team_draft
from pipeline.index.challenging import challenging_index
from pipeline.index.serving import ServingIndex
from pipeline.index.tables import wrong_model_is_an_error
from pipeline.search.answer import Alone, Interleaved, SearchAnswer, SearchResult
from pipeline.search.encoding import QueryEncoder
from pipeline.search.query import answer_query
from pipeline.search.request import SearchRequest
from pipeline.store.connections import Connection

Vector = NDArray[np.float32]


class _AloneError(Exception):
    """What serves answers alone."""

    def __init__(self, why: Alone) -> None:
        super().__init__(why)
        self.why: Alone = why


class Draft:
    """One search that is to be interleaved. Making it lets the challenger begin with the query.

    Args:
        search_id: Decides who picks first.
        challenger: The challenger's model; None: there is none, or it is not loaded.
        request: A checked one.
        patience_ms: How long each of its steps may take, beyond what the search takes without it.
    """

    def __init__(
        self, search_id: str, challenger: QueryEncoder | None, request: SearchRequest, patience_ms: int
    ) -> None:
        self._search_id = search_id
        self._challenger = challenger
        self._request = request
        self._patience_ms = patience_ms
        self._begun = None if challenger is None else challenger.submit(request.query)
        self._vector: Vector | Alone = "not loaded"
        self._waited_ms = 0.0

    def wait(self) -> None:
        """Waits for the challenger's vector, once that of what serves is there."""
        if self._begun is None:
            return
        started = time.perf_counter()
        try:
            self._vector = self._begun.result(self._patience_ms / 1000)
        except TimeoutError:
            self._vector = "slow"
        except Exception:  # whatever is wrong with that model, this search need not suffer for it
            self._vector = "failed"
        self._waited_ms = (time.perf_counter() - started) * 1000

    def interleave(
        self, connection: Connection, serving: ServingIndex, vector: Vector, answer: SearchAnswer
    ) -> SearchAnswer:
        """The answer with both models' results in it; as it is, with the reason, where that is not possible.

        Args:
            connection: In the transaction that answered.
            serving: What answered.
            vector: The query, embedded by its model; shape (dims,).
            answer: What it gave.
        """
        started = time.perf_counter()
        try:
            # A savepoint: what fails in it leaves the transaction, and the answer, as they were.
            with connection.transaction():
                drafted = self._drafted(connection, serving, vector, answer)
        except _AloneError as error:
            drafted = replace(answer, alone=error.why)
        except psycopg.errors.QueryCanceled:
            drafted = replace(answer, alone="slow")
        except (psycopg.Error, HoneloopError):
            if connection.broken:
                raise
            drafted = replace(answer, alone="failed")
        took = (time.perf_counter() - started) * 1000
        times = replace(answer.times, candidate_ms=self._waited_ms + took)
        return replace(drafted, latency_ms=answer.latency_ms + took, times=times)

    def _drafted(
        self, connection: Connection, serving: ServingIndex, vector: Vector, answer: SearchAnswer
    ) -> SearchAnswer:
        index = challenging_index(connection)
        if index is None or index.model_version == serving.model_version:
            raise _AloneError("no challenger")
        # What made the vector, not what was thought to be the challenger, has to be the index's model.
        if self._challenger is None or self._challenger.encoder.version != index.model_version:
            raise _AloneError("not loaded")  # it was chosen a moment ago
        if isinstance(self._vector, str):
            raise _AloneError(self._vector)
        connection.execute("SELECT set_config('statement_timeout', %s, true)", [str(self._patience_ms)])
        found = answer_query(
            connection, index, self._vector, self._request, started=time.perf_counter()
        ).results
        ours = [each.snippet_id for each in answer.results]
        theirs = [each.snippet_id for each in found]
        scores = _scores(connection, serving, vector, theirs)
        if len(scores) < len(theirs) or len(_scores(connection, index, self._vector, ours)) < len(ours):
            raise _AloneError("stale")
        results = {each.definition: each for each in (*found, *answer.results)}
        drafted = team_draft(
            [each.definition for each in answer.results],
            [each.definition for each in found],
            self._request.k,
            seed_of(self._search_id),
        )
        shown: list[SearchResult] = []
        for rank, pick in enumerate(drafted, start=1):
            result = results[pick.item]
            shown.append(replace(result, rank=rank, score=scores.get(result.snippet_id, result.score)))
        teams: dict[int, Team | None] = {
            each.snippet_id: pick.team for each, pick in zip(shown, drafted, strict=True)
        }
        return replace(answer, results=tuple(shown), interleaved=Interleaved(index.model_version, teams))


class Interleaver:
    """Which searches are interleaved, and with whom. For many threads.

    Args:
        settings: The share of searches, and how long the challenger may take.
    """

    def __init__(self, settings: Settings) -> None:
        self._share = settings.interleaving_share
        self._patience_ms = settings.interleaving_patience_ms
        self._challenger: QueryEncoder | None = None

    @property
    def on(self) -> bool:
        """Whether any search is to be interleaved."""
        return self._share > 0

    def follow(self, challenger: QueryEncoder | None) -> None:
        """Notes the challenger's model; None: there is none, or it is not loaded."""
        self._challenger = challenger

    def begin(self, search_id: str, request: SearchRequest) -> Draft | None:
        """The draft of a search, if it is one of the share."""
        if not takes_part(search_id, self._share):
            return None
        return Draft(search_id, self._challenger, request, self._patience_ms)


def _scores(
    connection: Connection, index: ServingIndex, vector: Vector, snippets: list[int]
) -> dict[int, float]:
    """Cosine of the query and each of these snippets under one model; texts its index lacks are left out."""
    with wrong_model_is_an_error():
        rows = connection.execute(
            sql.SQL(
                "SELECT s.id, 1 - (v.embedding <=> %(query)s)"
                " FROM snippets s JOIN {} v USING (content_hash)"
                " WHERE s.id = ANY(%(ids)s) AND vectors_are_of(%(table)s, %(version)s)"
            ).format(index.table.identifier),
            {
                "query": HalfVector(vector),
                "ids": snippets,
                "table": index.table_name,
                "version": index.model_version,
            },
            prepare=False,
        ).fetchall()
    return dict(rows)
