"""What the ML engineer wants to see of the searches and of what people did with them.

Figures only; `pipeline.search.web` draws them. Days are those of the time zone in the settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pipeline.config import Settings
from pipeline.errors import BadInputError
from pipeline.evaluation.online import online_comparisons
from pipeline.feedback.grouping import normalise_query
from pipeline.search import insights_queries as queries
from pipeline.search.insights_figures import (
    AcceptedSnippet,
    ComparedOnline,
    Insights,
    Judgements,
    Latency,
    ModelFigures,
    RankCount,
    UnmetQuery,
)
from pipeline.search.query import one_snapshot
from pipeline.store.connections import Connection

PERIODS = (7, 30, 90)
# Impressions are read for the newest searches of the period only: ten times as many rows as searches.
NEWEST_SEARCHES = 20_000
RANKS = 10
MOST_QUERIES = 25
MOST_SNIPPETS = 15
MOST_MODELS = 30
MOST_COMPARISONS = 10
CHART_METRICS = ("ndcg@10", "mrr@10", "recall@10")


def read_insights(
    connection: Connection,
    days: int,
    settings: Settings,
    now: datetime,
    *,
    newest: int = NEWEST_SEARCHES,
) -> Insights:
    """The figures of the last `days` days, today included.

    Args:
        connection: In a transaction in which nothing was read yet.
        days: One of `PERIODS`.
        settings: The time zone whose days are counted, and how online evidence is tested.
        now: The present moment, with a time zone.
        newest: At most so many searches are looked at impression by impression.

    Raises:
        BadInputError: another number of days.
    """
    if days not in PERIODS:
        raise BadInputError(
            f"There are no insights over {days} days.",
            hint=f"Choose {', '.join(map(str, PERIODS))}.",
            field="days",
        )
    one_snapshot(connection)
    # Hundreds of thousands of judgements are grouped in memory rather than on disk.
    connection.execute("SET LOCAL work_mem = '64MB'")
    zone = settings.timezone
    today = now.astimezone(ZoneInfo(zone)).date()
    first = today - timedelta(days=days - 1)
    values: dict[str, Any] = {
        "since": datetime.combine(first, time(), ZoneInfo(zone)),
        "zone": zone,
        "newest": newest,
        "ranks": RANKS,
    }
    searches: dict[date, dict[str, int]] = {}
    # The planner expects as many days as there are moments, and would sort all of them to count.
    connection.execute("SET LOCAL enable_sort = off")
    for day, client, count in connection.execute(queries.SEARCHES_PER_DAY, values):
        searches.setdefault(day, {})[client] = count
    connection.execute("SET LOCAL enable_sort = on")
    latency = {
        day: Latency(count, *percentiles)
        for day, count, percentiles in connection.execute(queries.LATENCY_PER_DAY, values)
    }
    groups = _groups(connection.execute(queries.BY_QUERY, values).fetchall())
    row = connection.execute(queries.PEOPLE, values).fetchone()
    assert row is not None  # an aggregate has one row
    return Insights(
        tuple(first + timedelta(days=number) for number in range(days)),
        searches,
        latency,
        _judgements(connection, values),
        row[0],
        sum(group.searches for group in groups),
        sum(group.satisfied for group in groups),
        sum(group.answered for group in groups),
        tuple(RankCount(*each) for each in connection.execute(queries.BY_RANK, values)),
        _unmet(connection, groups),
        tuple(
            AcceptedSnippet(*each)
            for each in connection.execute(queries.MOST_ACCEPTED, {**values, "most": MOST_SNIPPETS})
        ),
        _models(connection),
        _compared(connection, settings),
    )


@dataclass
class _Group:
    """All spellings of one query."""

    query: str
    searches: int
    satisfied: int
    answered: int
    rejected: int
    people: set[str]
    clients: set[str]
    last_at: datetime
    last_search: Any
    asked: dict[str, Any]


def _groups(rows: Sequence[Any]) -> list[_Group]:
    found: dict[str, _Group] = {}
    for query, searches, satisfied, answered, rejected, people, clients, last_at, last, asked in rows:
        new = _Group(
            query,
            searches,
            satisfied,
            answered,
            rejected,
            set(people or ()),
            set(clients),
            last_at,
            last,
            asked,
        )
        old = found.setdefault(normalise_query(query), new)
        if old is new:
            continue
        old.searches += searches
        old.satisfied += satisfied
        old.answered += answered
        old.rejected += rejected
        old.people |= new.people
        old.clients |= new.clients
        if last_at > old.last_at:
            old.query, old.last_at, old.last_search, old.asked = query, last_at, last, asked
    return list(found.values())


def _unmet(connection: Connection, groups: Sequence[_Group]) -> tuple[UnmetQuery, ...]:
    unmet = sorted(
        (group for group in groups if not group.satisfied),
        key=lambda group: (-group.searches, -group.rejected, -group.last_at.timestamp(), group.query),
    )[:MOST_QUERIES]
    shown: Mapping[Any, int] = dict(
        connection.execute(queries.SHOWN, {"searches": [group.last_search for group in unmet]}).fetchall()
    )
    return tuple(
        UnmetQuery(
            group.query,
            group.searches,
            len(group.people),
            group.rejected,
            shown.get(group.last_search, 0),
            tuple(sorted(group.clients)),
            group.last_at,
            group.asked,
        )
        for group in unmet
    )


def _judgements(connection: Connection, values: dict[str, Any]) -> dict[date, Judgements]:
    counts: dict[date, dict[str, int]] = {}
    for day, judgement, count in connection.execute(queries.JUDGEMENTS_PER_DAY, values):
        counts.setdefault(day, {})[judgement] = count
    return {
        day: Judgements(
            each.get("click", 0), each.get("copy", 0), each.get("accept", 0), each.get("reject", 0)
        )
        for day, each in counts.items()
    }


def _compared(connection: Connection, settings: Settings) -> tuple[ComparedOnline, ...]:
    """The comparisons made last, each beside what the gate said last of the same two models."""
    found = online_comparisons(connection, settings)[:MOST_COMPARISONS]
    decisions = {
        (candidate, serving): decision
        for candidate, serving, decision in connection.execute(
            queries.VERDICTS, {"versions": [each.candidate_version for each in found]}
        )
    }
    return tuple(
        ComparedOnline(each, decisions.get((each.candidate_version, each.serving_version))) for each in found
    )


def _models(connection: Connection) -> tuple[ModelFigures, ...]:
    rows = connection.execute(queries.MODELS, {"most": MOST_MODELS}).fetchall()
    served: dict[str, list[tuple[datetime, datetime | None]]] = {}
    for version, begin, end in connection.execute(queries.SERVED, {"versions": [row[0] for row in rows]}):
        served.setdefault(version, []).append((begin, end))
    return tuple(
        ModelFigures(
            version,
            name,
            state,
            is_base,
            created_at,
            {metric: (mean, low, high) for metric, (mean, low, high, *_) in (metrics or {}).items()},
            count or 0,
            test_set,
            tuple(served.get(version, ())),
        )
        for version, name, state, is_base, created_at, metrics, count, test_set in rows
    )
