"""Old searches: deleted if nobody judged them, and without names and all that was not needed if somebody did.

Whole days (UTC), the oldest first, each in a transaction of its own, so that a run that is killed has lost
nothing and the next goes on. Before a day goes, it is counted (`search_days`, `search_day_ranks`), and the
counts stay.

A judged search keeps its query, what was judged, and what stood above that: training needs them. Its person
becomes a random name, the same for all of theirs as long as any is left under the real one, so that the caps
on one person hold however often searches expire; who had no name still has none. Until then the database
knows which name became which (`expired_names`), and `honeloop feedback forget` finds both. When the last of
theirs has expired, that goes as well: then the random name leads back to nobody, and forgetting does not find
it either. A name computed from the real one would lead back for ever, to whoever guesses names.

Imported judgements are somebody's data set, not searches; they stay until their people are forgotten.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from pipeline.config import Settings
from pipeline.errors import BadInputError
from pipeline.feedback.judged import ANONYMOUS
from pipeline.progress import Progress, Silent
from pipeline.store.connections import Connection, Database

# In the transaction of one day: waits for those who are judging, and lets nobody judge meanwhile what goes.
_LOCK = "LOCK TABLE impressions IN EXCLUSIVE MODE"

_OLD_DAYS = """
SELECT (at AT TIME ZONE 'UTC')::date, count(*) FROM searches
WHERE source = 'search' AND expired_at IS NULL AND at < %s GROUP BY 1 ORDER BY 1
"""

_THESE = (
    "searches.source = 'search' AND searches.expired_at IS NULL "
    "AND searches.at >= %(start)s AND searches.at < %(end)s"
)

_COUNT_DAY = f"""
WITH these AS (
    SELECT id, coalesce(client, 'unknown') AS client, user_name FROM searches WHERE {_THESE}
), judged AS (
    SELECT client, judgement, count(DISTINCT (search_id, snippet_id)) AS impressions
    FROM these JOIN feedback ON search_id = these.id GROUP BY 1, 2
), by_client AS (
    SELECT client, count(*) AS searches, count(DISTINCT user_name) AS users FROM these GROUP BY 1
)
INSERT INTO search_days (day, client, searches, users, clicks, accepts, rejects, copies)
SELECT %(day)s, client, searches, users,
    coalesce((SELECT impressions FROM judged j WHERE j.client = b.client AND judgement = 'click'), 0),
    coalesce((SELECT impressions FROM judged j WHERE j.client = b.client AND judgement = 'accept'), 0),
    coalesce((SELECT impressions FROM judged j WHERE j.client = b.client AND judgement = 'reject'), 0),
    coalesce((SELECT impressions FROM judged j WHERE j.client = b.client AND judgement = 'copy'), 0)
FROM by_client b
ON CONFLICT (day, client) DO UPDATE SET searches = search_days.searches + excluded.searches,
    users = search_days.users + excluded.users, clicks = search_days.clicks + excluded.clicks,
    accepts = search_days.accepts + excluded.accepts, rejects = search_days.rejects + excluded.rejects,
    copies = search_days.copies + excluded.copies
"""

_COUNT_RANKS = f"""
INSERT INTO search_day_ranks (day, client, rank, shown, chosen)
SELECT %(day)s, coalesce(client, 'unknown'), rank, count(*), count(*) FILTER (WHERE EXISTS (
    SELECT FROM feedback f
    WHERE f.search_id = i.search_id AND f.snippet_id = i.snippet_id AND f.judgement <> 'reject'))
FROM searches JOIN impressions i ON i.search_id = searches.id
WHERE {_THESE} AND rank IS NOT NULL
GROUP BY 2, 3
ON CONFLICT (day, client, rank) DO UPDATE SET shown = search_day_ranks.shown + excluded.shown,
    chosen = search_day_ranks.chosen + excluded.chosen
"""

_DELETE_UNJUDGED = f"""
DELETE FROM searches WHERE {_THESE} AND NOT EXISTS (SELECT FROM feedback WHERE search_id = searches.id)
"""

_DELETE_BELOW = f"""
DELETE FROM impressions i USING (
    SELECT search_id, max(rank) AS rank
    FROM searches JOIN feedback ON search_id = searches.id JOIN impressions USING (search_id, snippet_id)
    WHERE {_THESE} GROUP BY 1
) AS lowest
WHERE i.search_id = lowest.search_id AND i.rank > lowest.rank
"""

_NAMES = f"""
SELECT user_name FROM searches WHERE {_THESE} AND user_name IS NOT NULL
UNION
SELECT f.user_name FROM feedback f JOIN searches ON searches.id = f.search_id
WHERE {_THESE} AND f.user_name IS NOT NULL
"""

# Whoever has one already keeps it.
_NAME_ANEW = """
INSERT INTO expired_names (user_name, alias) SELECT * FROM unnest(%s::text[], %s::text[])
ON CONFLICT (user_name) DO NOTHING
"""

_RENAME_FEEDBACK = f"""
UPDATE feedback f SET user_name = alias FROM expired_names n
WHERE f.user_name = n.user_name AND f.search_id IN (SELECT id FROM searches WHERE {_THESE})
"""

_STRIP = f"""
UPDATE searches SET expired_at = now(), filters = '{{}}', latency_ms = NULL,
    user_name = (SELECT alias FROM expired_names n WHERE n.user_name = searches.user_name)
WHERE {_THESE}
"""

_LET_GO = """
DELETE FROM expired_names n
WHERE NOT EXISTS (SELECT FROM searches s WHERE s.user_name = n.user_name AND s.source = 'search')
    AND NOT EXISTS (
        SELECT FROM feedback f JOIN searches s ON s.id = f.search_id
        WHERE f.user_name = n.user_name AND s.source = 'search')
"""


@dataclass(frozen=True)
class ExpiryReport:
    """What became of the old searches.

    Attributes:
        before: All whole days before this one (UTC) are expired now.
        days: How many days had searches that expired in this run.
        deleted: Searches that nobody had judged.
        stripped: Searches that were judged, and lost their person's name and what was not needed.
        impressions: Impressions that went with either.
    """

    before: date
    days: int
    deleted: int
    stripped: int
    impressions: int


def expire_searches(
    db: Database,
    settings: Settings,
    *,
    older_than_days: int | None = None,
    now: datetime | None = None,
    progress: Progress | None = None,
) -> ExpiryReport:
    """Expires all searches of whole days older than that many days.

    Args:
        db: Where they are.
        settings: `search_retention_days` is the default.
        older_than_days: Instead of it; 0: all before today.
        now: With a time zone; by default the present.
        progress: Told of each day.

    Raises:
        BadInputError: the number of days is negative, or reaches back before the calendar.
    """
    days = settings.search_retention_days if older_than_days is None else older_than_days
    try:
        before = ((now or datetime.now(UTC)).astimezone(UTC) - timedelta(days=days)).date()
    except OverflowError:
        raise BadInputError(f"{days} days ago there was no calendar.", hint="Give fewer days.") from None
    if days < 0:
        raise BadInputError("Searches of the future cannot expire.", hint="Give 0 days or more.")
    start = datetime(before.year, before.month, before.day, tzinfo=UTC)
    with db.connect() as connection:
        old: list[tuple[date, int]] = connection.execute(_OLD_DAYS, [start]).fetchall()  # pyright: ignore
    deleted = stripped = impressions = 0
    with (progress or Silent()).stage("Expiring searches", sum(count for _, count in old)) as advance:
        for day, count in old:
            with db.connect() as connection:
                gone = _expire_day(connection, day)
            deleted, stripped, impressions = deleted + gone[0], stripped + gone[1], impressions + gone[2]
            advance(count)
    with db.connect() as connection:
        connection.execute(_LET_GO)
    return ExpiryReport(before, len(old), deleted, stripped, impressions)


def _expire_day(connection: Connection, day: date) -> tuple[int, int, int]:
    """Searches deleted, searches stripped, impressions gone."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    these = {"day": day, "start": start, "end": start + timedelta(days=1)}
    connection.execute(_LOCK)
    before = _impressions(connection, these)
    connection.execute(_COUNT_DAY, these)
    connection.execute(_COUNT_RANKS, these)
    deleted = connection.execute(_DELETE_UNJUDGED, these).rowcount
    connection.execute(_DELETE_BELOW, these)
    after = _impressions(connection, these)
    names: list[str] = [name for (name,) in connection.execute(_NAMES, these)]
    connection.execute(_NAME_ANEW, [names, [_alias(name) for name in names]])
    connection.execute(_RENAME_FEEDBACK, these)
    stripped = connection.execute(_STRIP, these).rowcount
    return deleted, stripped, before - after


def _alias(name: str) -> str:
    """A random name, of somebody nameless if this is one."""
    return f"{ANONYMOUS if name.startswith(ANONYMOUS) else ''}expired-{secrets.token_hex(8)}"


def _impressions(connection: Connection, these: Mapping[str, object]) -> int:
    row = connection.execute(
        f"SELECT count(*) FROM impressions JOIN searches ON searches.id = search_id WHERE {_THESE}", these
    ).fetchone()
    assert row is not None  # an aggregate without GROUP BY has one row
    return row[0]
