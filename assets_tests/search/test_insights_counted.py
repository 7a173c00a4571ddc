"""Every figure of the insights over weeks of people who do anything at all, against plain counting of rows.

Nothing here shares a statement with the insights: the tables are read whole, and counted in loops.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from assets_tests.search.test_insights import World
from pipeline.search.insights_figures import Insights, Judgements
from pipeline.store.connections import Database

DAYS = 7
SINCE = datetime(2026, 3, 24, tzinfo=UTC)
NAMES = {"click": "opened", "copy": "copied", "accept": "accepted", "reject": "rejected"}
EXPLICIT = ("accept", "reject")


@dataclass(frozen=True)
class Rows:
    """The tables: searches of the period; the rank of every impression; all feedback, the oldest first."""

    searches: list[Any]
    ranks: dict[Any, int]
    feedback: list[Any]

    @property
    def queries(self) -> dict[Any, str]:
        return {search: query for search, query, *_ in self.searches}


def live(world: World, chance: random.Random) -> None:
    """Sixty searches in nine days, and what people said of them, in the order of time within each."""
    for _ in range(60):
        shown = chance.randrange(5)
        search = world.search(
            f"query {chance.randrange(15)}",
            ago=timedelta(hours=chance.randrange(9 * 24)),
            shown=shown,
            user=chance.choice(["ada", "grace", "bob", None]),
            client=chance.choice(["web", "cli", "mcp", None]),
            latency=chance.choice([None, chance.uniform(1, 200)]),
        )
        # Before the search, too: nothing here depends on that.
        hours = (chance.uniform(0, 9 * 24) for _ in range(chance.randrange(6) if shown else 0))
        for ago in sorted(hours, reverse=True):
            judgement = chance.choice(["click", "copy", *EXPLICIT, *EXPLICIT])
            user = chance.choice([None, "ada", "grace"])
            world.say(search, 1 + chance.randrange(shown), judgement, ago=timedelta(hours=ago), user=user)


def rows_of(db: Database) -> Rows:
    with db.connect() as connection:
        searches = connection.execute(
            "SELECT id, query, coalesce(client, 'unknown'), user_name, latency_ms, at FROM searches"
        ).fetchall()
        impressions = connection.execute("SELECT search_id, snippet_id, rank FROM impressions").fetchall()
        feedback = connection.execute(
            "SELECT search_id, snippet_id, user_name, judgement, at FROM feedback ORDER BY id"
        ).fetchall()
    assert 0 < sum(row[-1] < SINCE for row in searches) < len(searches)
    return Rows(
        [row for row in searches if row[-1] >= SINCE],
        {(search, snippet): rank for search, snippet, rank in impressions},
        feedback,
    )


@pytest.fixture
def world(db: Database) -> World:
    return World(db)


def test_every_figure_is_the_one_counted_row_by_row(world: World) -> None:
    live(world, random.Random(20260330))
    rows, figures = rows_of(world.db), world.read(DAYS)
    searches_are_right(rows, figures)
    days_are_right(rows, figures)
    opinions_are_right(rows, figures)


def searches_are_right(rows: Rows, figures: Insights) -> None:
    per_day: Counter[tuple[date, str]] = Counter()
    timed: defaultdict[date, list[float]] = defaultdict(list)
    for _, _, client, _, latency, at in rows.searches:
        per_day[at.date(), client] += 1
        if latency is not None:
            timed[at.date()].append(latency)
    assert {(day, c): n for day, each in figures.searches.items() for c, n in each.items()} == per_day
    assert figures.people == len({row[3] for row in rows.searches} - {None})
    assert set(figures.latency) == set(timed)
    for day, values in timed.items():
        got = figures.latency[day]
        assert got.searches == len(values)
        assert (got.p50, got.p95, got.p99) == pytest.approx(np.percentile(values, [50, 95, 99]))


def days_are_right(rows: Rows, figures: Insights) -> None:
    """Of the period's feedback: per person and result the last word, the first opening and copying."""
    counted: dict[Any, tuple[date, str]] = {}
    for search, snippet, user, judgement, at in rows.feedback:
        key = (search, snippet, user, "word" if judgement in EXPLICIT else judgement)
        if at >= SINCE and (judgement in EXPLICIT or key not in counted):
            counted[key] = (at.date(), judgement)
    daily = Counter(counted.values())
    for day in figures.days:
        got = figures.judgements.get(day, Judgements())
        for judgement, name in NAMES.items():
            assert getattr(got, name) == daily[day, judgement], (day, judgement)
    accepted = Counter(key[1] for key, (_, judgement) in counted.items() if judgement == "accept")
    assert {each.snippet_id: each.times for each in figures.accepted} == accepted
    assert sum(daily.values()) > 50


def opinions_are_right(rows: Rows, figures: Insights) -> None:
    """Of the searches, whenever they were judged: what each person finally thought of each result."""
    queries = rows.queries
    final: dict[Any, str] = {}
    did: defaultdict[Any, set[str]] = defaultdict(set)
    for search, snippet, user, judgement, _ in rows.feedback:
        if search in queries:
            did[search, snippet, user].add(judgement)
            if judgement in EXPLICIT:
                final[search, snippet, user] = judgement
    thought = {key: {final[key]} if key in final else set[str]() for key in did}
    for key, everything in did.items():
        thought[key] |= everything - set(EXPLICIT)
    for rank in figures.by_rank:
        shown = {each for each, at in rows.ranks.items() if at == rank.rank and each[0] in queries}
        assert rank.shown == len(shown)
        for judgement, name in NAMES.items():
            by_somebody = {key[:2] for key, thoughts in thought.items() if judgement in thoughts}
            assert getattr(rank, name) == len(shown & by_somebody), (rank.rank, judgement)
    satisfied = {key[0] for key, thoughts in thought.items() if "reject" not in thoughts}
    assert figures.newest == len(rows.searches)
    assert figures.satisfied == len(satisfied)
    assert figures.answered == len({key[0] for key in did})
    happy = {queries[search] for search in satisfied}
    unmet = Counter(query for query in queries.values() if query not in happy)
    assert {each.query: each.searches for each in figures.unmet} == unmet
    assert unmet
