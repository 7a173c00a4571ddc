"""The statements that read feedback back: every piece of it, what was passed over, what is still there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from pipeline.feedback.confidence import Judgement
from pipeline.feedback.grouping import group_key
from pipeline.feedback.position_bias import Shown
from pipeline.store.connections import Connection
from pipeline.store.cursors import server_cursor

# Dates are compared in the database, so the order of `at` comes along with it. The snippet's content is the
# present one: an edit of the code does not undo what people said of it. Somebody of whose searches some have
# expired is one person.
_EVENTS = """
SELECT f.id, f.search_id, s.query, coalesce(n.alias, f.user_name, s.user_name), s.source = 'import',
    snippets.content_hash, i.rank, f.judgement, f.dwell_ms, f.at,
    s.user_name IS NULL OR coalesce(f.user_name, s.user_name) = s.user_name
FROM feedback f
JOIN searches s ON s.id = f.search_id
JOIN impressions i ON i.search_id = f.search_id AND i.snippet_id = f.snippet_id
JOIN snippets ON snippets.id = f.snippet_id
LEFT JOIN expired_names n ON n.user_name = coalesce(f.user_name, s.user_name)
ORDER BY f.at, f.id
"""

# Only above the lowest snippet that was chosen: what stands below it may never have been looked at.
_SHOWN_ABOVE = """
SELECT i.search_id, snippets.content_hash, i.rank
FROM (
    SELECT search_id, max(rank) AS rank
    FROM feedback JOIN impressions USING (search_id, snippet_id)
    WHERE judgement <> 'reject' AND rank IS NOT NULL
    GROUP BY search_id
) AS lowest
JOIN impressions i ON i.search_id = lowest.search_id AND i.rank < lowest.rank
JOIN snippets ON snippets.id = i.snippet_id
ORDER BY i.search_id, i.rank
"""

_LANGUAGES = """
SELECT DISTINCT ON (content_hash) content_hash, language
FROM snippets
WHERE (vanished_at IS NULL OR %s) AND content_hash IN (
    SELECT content_hash FROM snippets WHERE id IN (
        SELECT snippet_id FROM impressions WHERE search_id IN (SELECT search_id FROM feedback)))
ORDER BY content_hash, id
"""

# What tells how likely a rank is looked at: snippets shown for one query at several ranks (position_bias.py).
# Left out: agents, who read all they get; and searches that expired, which have lost what stood below the
# chosen.
_TELLING = "source = 'search' AND expired_at IS NULL AND client IS DISTINCT FROM 'mcp'"
_TIMES_ASKED = f"SELECT query, count(*) FROM searches WHERE {_TELLING} GROUP BY query"
_SHOWN_AT_SEVERAL_RANKS = f"""
WITH asked AS (
    SELECT id, name, coalesce('name:' || user_name, 'search:' || id) AS person
    FROM searches JOIN unnest(%(spellings)s::text[], %(names)s::text[]) AS again (query, name) USING (query)
    WHERE {_TELLING}
), counted AS (
    SELECT name, i.snippet_id, i.rank, person, count(*) AS shown, count(*) FILTER (WHERE EXISTS (
        SELECT FROM feedback f
        WHERE f.search_id = i.search_id AND f.snippet_id = i.snippet_id AND f.judgement <> 'reject'
    )) AS chosen
    FROM asked JOIN impressions i ON i.search_id = asked.id
    WHERE i.rank <= %(max_rank)s
    GROUP BY 1, 2, 3, 4
), compared AS (
    SELECT *, min(rank) OVER same <> max(rank) OVER same AS moved
    FROM counted WINDOW same AS (PARTITION BY name, snippet_id)
)
SELECT name, snippet_id, rank, person, shown, chosen FROM compared WHERE moved
"""

_STATS = """
SELECT (SELECT count(*) FROM searches WHERE source = 'search'),
    (SELECT count(*) FROM impressions WHERE rank IS NOT NULL),
    count(*),
    count(*) FILTER (WHERE f.import_key IS NOT NULL),
    count(DISTINCT coalesce(f.user_name, s.user_name)),
    coalesce(max(f.id), 0),
    max(f.at)
FROM feedback f JOIN searches s ON s.id = f.search_id
"""


@dataclass(frozen=True)
class Event:
    """One row of feedback with what it is about. `imported` ones stand in a search nobody made here.

    `by_searcher`: whether it is by whoever searched, as far as the names tell; others, who followed a link to
    one snippet, say, have not seen the list.
    """

    id: int
    search_id: UUID
    query: str
    user: str | None
    imported: bool
    content_hash: bytes
    rank: int | None
    judgement: Judgement
    dwell_ms: int | None
    at: datetime
    by_searcher: bool


def events(connection: Connection) -> Iterator[Event]:
    """All feedback, the oldest first, streaming."""
    with server_cursor(connection, "feedback_events") as cursor:
        cursor.itersize = 10_000
        cursor.execute(_EVENTS)
        for row in cursor:
            yield Event(*row)


def shown_above(connection: Connection) -> dict[UUID, list[tuple[bytes, int]]]:
    """Per search: content hash and rank of what stood above the lowest snippet chosen in it."""
    found: dict[UUID, list[tuple[bytes, int]]] = {}
    with server_cursor(connection, "shown_above") as cursor:
        cursor.itersize = 10_000
        cursor.execute(_SHOWN_ABOVE)
        for search_id, content_hash, rank in cursor:
            found.setdefault(search_id, []).append((content_hash, rank))
    return found


def languages(connection: Connection, *, with_vanished: bool = False) -> dict[bytes, str]:
    """Language per content that was shown in a search with feedback and that some live snippet has.

    Args:
        connection: In a transaction.
        with_vanished: A snippet that is gone will do.
    """
    return dict(connection.execute(_LANGUAGES, [with_vanished]).fetchall())


def shown_at_several_ranks(connection: Connection, max_rank: int) -> Iterator[Shown]:
    """What was shown for one query (any spelling) at more than one rank from 1 to `max_rank`, streaming."""
    again = _asked_again(connection)
    with server_cursor(connection, "shown_at_several_ranks") as cursor:
        cursor.itersize = 10_000
        cursor.execute(
            _SHOWN_AT_SEVERAL_RANKS,
            {"spellings": list(again), "names": list(again.values()), "max_rank": max_rank},
        )
        for row in cursor:
            yield Shown(*row)


def _asked_again(connection: Connection) -> dict[str, str]:
    """A group's name by spelling, for queries that were asked more than once: the others say nothing."""
    times: Counter[str] = Counter()
    names: dict[str, str] = {}
    with server_cursor(connection, "times_asked") as cursor:
        cursor.itersize = 10_000
        cursor.execute(_TIMES_ASKED)
        for query, count in cursor:
            names[query] = group_key(query).hex()
            times[names[query]] += count
    return {query: name for query, name in names.items() if times[name] > 1}


@dataclass(frozen=True)
class FeedbackStats:
    """How much there is.

    Attributes:
        searches: Searches answered here.
        impressions: Snippets shown in them.
        feedback: Judgements by kind, imported ones among them.
        total: All judgements.
        imported: Those that were imported.
        people: Different names among those who judged.
        newest_id: Highest id of a judgement, 0 if there is none.
        newest_at: Its moment, None if there is none.
    """

    searches: int
    impressions: int
    feedback: dict[str, int]
    total: int
    imported: int
    people: int
    newest_id: int
    newest_at: datetime | None


def read_stats(connection: Connection) -> FeedbackStats:
    """Counts everything."""
    kinds = dict(
        connection.execute("SELECT judgement, count(*) FROM feedback GROUP BY 1 ORDER BY 1").fetchall()
    )
    row = connection.execute(_STATS).fetchone()
    assert row is not None  # an aggregate without GROUP BY has one row
    searches, impressions, *rest = row
    return FeedbackStats(searches, impressions, kinds, *rest)
