"""Where texts stand: the live snippets that share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from pipeline.search.filters import Filters
from pipeline.store.connections import Connection

# Boilerplate may stand in thousands of files; a person looks at a few.
OTHER_PLACES = 50


@dataclass(frozen=True)
class Place:
    """Where else the same text stands."""

    repository: str
    path: str
    start_line: int


@dataclass(frozen=True)
class Found:
    """The first live snippet with a text, by repository and path, and the other places it stands at."""

    snippet_id: int
    repository: str
    path: str
    symbol: str
    kind: str
    language: str
    start_line: int
    end_line: int
    code: str
    places: int
    also_at: tuple[Place, ...]


def find_places(
    connection: Connection, content_hashes: Sequence[bytes], filters: Filters
) -> dict[bytes, Found]:
    """The places of each text that pass the filters. A text without any is left out."""
    rows = connection.execute(
        sql.SQL(
            "WITH places AS ("
            "  SELECT s.id, s.content_hash, r.name, s.path, s.start_line,"
            "   row_number() OVER place AS number,"
            "   count(*) OVER (PARTITION BY s.content_hash) AS places"
            "  FROM snippets s JOIN repositories r ON r.id = s.repository_id"
            "  WHERE s.content_hash = ANY(%(hashes)s) AND {}"
            "  WINDOW place AS (PARTITION BY s.content_hash ORDER BY r.name, s.path, s.start_line, s.id))"
            " SELECT p.content_hash, p.name, p.path, p.start_line, p.places,"
            "  s.id, s.symbol, s.kind, s.language, s.end_line, s.code"
            # Only the first is shown, so only its code is read.
            " FROM places p LEFT JOIN snippets s ON s.id = p.id AND p.number = 1"
            " WHERE p.number <= %(most)s ORDER BY p.content_hash, p.number"
        ).format(filters.condition),
        {"hashes": list(content_hashes), "most": 1 + OTHER_PLACES, **filters.values},
    ).fetchall()
    others: dict[bytes, list[Place]] = {}
    for content_hash, repository, path, start_line, *_ in rows:
        others.setdefault(content_hash, []).append(Place(repository, path, start_line))
    found: dict[bytes, Found] = {}
    for content_hash, repository, path, start_line, places, snippet_id, *first in rows:
        if snippet_id is not None:
            symbol, kind, language, end_line, code = first
            found[content_hash] = Found(
                snippet_id,
                repository,
                path,
                symbol,
                kind,
                language,
                start_line,
                end_line,
                code,
                places,
                tuple(others[content_hash][1:]),
            )
    return found
