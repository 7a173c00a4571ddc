"""Remembering a search and what it showed, so that feedback has something to refer to.

A record names itself, so that writing it twice, after a crash or a lost answer, adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

from psycopg.types.json import Jsonb

from pipeline.evaluation.interleaving import Team
from pipeline.evaluation.online import record_interleaving
from pipeline.feedback.events import name_of
from pipeline.search.answer import SearchAnswer
from pipeline.search.request import SearchRequest
from pipeline.store.connections import Connection, Database


@dataclass(frozen=True)
class SearchRecord:
    """One search with its impressions: (snippet id, rank, score) each.

    `candidate_version` is the other model of an interleaved search, `teams` says whose pick a snippet was.
    """

    search_id: str
    at: str
    query: str
    user: str | None
    client: str
    asked: dict[str, Any]
    model_version: str
    index_version_id: int
    latency_ms: float
    impressions: tuple[tuple[int, int, float], ...]
    candidate_version: str | None = None
    teams: tuple[tuple[int, Team], ...] = ()

    @classmethod
    def of(cls, search_id: str, at: datetime, request: SearchRequest, answer: SearchAnswer) -> SearchRecord:
        """The record of an answer that was given at `at`, with a time zone."""
        both = answer.interleaved
        return cls(
            search_id,
            at.isoformat(),
            request.query,
            name_of(request.user),
            request.client,
            request.asked,
            answer.model_version,
            answer.index_version_id,
            answer.latency_ms,
            tuple((each.snippet_id, each.rank, each.score) for each in answer.results),
            None if both is None else both.candidate_version,
            () if both is None else tuple((number, team) for number, team in both.teams.items() if team),
        )

    def to_json(self) -> dict[str, Any]:
        """As `from_json` takes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> SearchRecord:
        """What `to_json` gave, after a way through JSON."""
        fields = dict(content)
        shown, teams = fields.pop("impressions"), fields.pop("teams", ())
        return cls(
            teams=tuple((int(snippet), team) for snippet, team in teams),
            impressions=tuple((int(snippet), int(rank), float(score)) for snippet, rank, score in shown),
            **fields,
        )


class Recorder(Protocol):
    """Where an engine leaves its records."""

    def record(self, record: SearchRecord) -> bool:
        """Whether it is kept safely; at once, and without an exception."""
        ...


class NoRecorder:
    """Keeps nothing."""

    def record(self, record: SearchRecord) -> bool:
        """False."""
        del record
        return False


class DatabaseRecorder:
    """Writes each record to the database while its caller waits."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def record(self, record: SearchRecord) -> bool:
        """True; raises what the database raises."""
        with self._db.connect() as connection:
            store_searches(connection, [record])
        return True


def store_searches(connection: Connection, records: Sequence[SearchRecord]) -> None:
    """Writes the records that are not there yet, in the connection's transaction.

    A snippet that was deleted since it was shown, or an index version that is no longer known, is left out.
    """
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO searches (id, query, source, user_name, client, filters, model_version,"
            " index_version_id, latency_ms, at)"
            " SELECT %s, %s, 'search', %s, %s, %s,"
            " (SELECT version FROM model_versions WHERE version = %s),"
            " (SELECT id FROM index_versions WHERE id = %s), %s, %s ON CONFLICT (id) DO NOTHING",
            [
                [
                    each.search_id,
                    each.query,
                    each.user,
                    each.client,
                    Jsonb(each.asked),
                    each.model_version,
                    each.index_version_id,
                    each.latency_ms,
                    each.at,
                ]
                for each in records
            ],
        )
        cursor.executemany(
            "INSERT INTO impressions (search_id, snippet_id, rank, score)"
            " SELECT %s, shown.id, shown.rank, shown.score"
            " FROM unnest(%s::bigint[], %s::int[], %s::float8[]) AS shown (id, rank, score)"
            " JOIN snippets ON snippets.id = shown.id"
            " ON CONFLICT (search_id, snippet_id) DO NOTHING",
            [
                [each.search_id, *([row[column] for row in each.impressions] for column in range(3))]
                for each in records
            ],
        )
    for each in records:
        if each.candidate_version is not None:
            record_interleaving(
                connection, each.search_id, each.model_version, each.candidate_version, dict(each.teams)
            )
