"""The figures of the insights, against those computed by hand from rows put there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from assets_tests.index.click_corpus import Function, add_functions, some_functions
from pipeline.config import Settings
from pipeline.errors import BadInputError
from pipeline.search.insights import read_insights
from pipeline.search.insights_figures import Insights, Judgements, Latency, RankCount, wilson
from pipeline.store.connections import Database

NOW = datetime(2026, 3, 30, 12, 0, tzinfo=UTC)
TODAY = date(2026, 3, 30)
YESTERDAY = date(2026, 3, 29)


class World:
    """Searches and feedback, put straight into the tables."""

    def __init__(self, db: Database) -> None:
        self.db = db
        functions: Sequence[Function] = some_functions()[:12]
        add_functions(db, functions)
        with db.connect() as connection:
            self.snippets = [
                row[0] for row in connection.execute("SELECT id FROM snippets ORDER BY id").fetchall()
            ]

    def search(
        self,
        query: str,
        *,
        ago: timedelta = timedelta(hours=1),
        shown: int = 3,
        user: str | None = "ada",
        client: str | None = "web",
        latency: float | None = 10.0,
        source: str = "search",
        asked: dict[str, Any] | None = None,
    ) -> UUID:
        number = uuid4()
        with self.db.connect() as connection:
            connection.execute(
                "INSERT INTO searches (id, query, source, user_name, client, latency_ms, at, filters)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                [number, query, source, user, client, latency, NOW - ago, Jsonb(asked or {"k": shown})],
            )
            for rank in range(1, shown + 1):
                connection.execute(
                    "INSERT INTO impressions (search_id, snippet_id, rank, score) VALUES (%s, %s, %s, 0.5)",
                    [number, self.snippets[rank - 1], rank],
                )
        return number

    def say(
        self,
        search: UUID,
        rank: int,
        judgement: str,
        *,
        ago: timedelta = timedelta(minutes=50),
        user: str | None = None,
        imported: bool = False,
    ) -> None:
        with self.db.connect() as connection:
            connection.execute(
                "INSERT INTO feedback (search_id, snippet_id, judgement, user_name, at, import_key)"
                " SELECT id, %s, %s, coalesce(%s, user_name), %s, %s FROM searches WHERE id = %s",
                [
                    self.snippets[rank - 1],
                    judgement,
                    user,
                    NOW - ago,
                    uuid4().bytes if imported else None,
                    search,
                ],
            )

    def read(self, days: int = 7, zone: str = "UTC", **options: Any) -> Insights:
        with self.db.connect() as connection:
            return read_insights(connection, days, Settings(timezone=zone), NOW, **options)


@pytest.fixture
def world(db: Database) -> World:
    return World(db)


def test_searches_are_counted_by_day_and_client(world: World) -> None:
    for client, ago in (
        ("web", timedelta(hours=1)),
        ("web", timedelta(hours=2)),
        ("cli", timedelta(hours=3)),
        ("mcp", timedelta(hours=20)),
        (None, timedelta(hours=21)),
        ("web", timedelta(days=6, hours=11)),
        ("web", timedelta(days=6, hours=13)),  # the day before the first of seven
    ):
        world.search("q", client=client, ago=ago, user=client)
    world.search("imported", source="import", client=None, latency=None)
    figures = world.read()
    assert figures.days[0] == date(2026, 3, 24)
    assert figures.days[-1] == TODAY
    assert figures.searches == {
        TODAY: {"web": 2, "cli": 1},
        YESTERDAY: {"mcp": 1, "unknown": 1},
        date(2026, 3, 24): {"web": 1},
    }
    assert figures.total_searches == 6
    assert figures.people == 3
    assert world.read(30).total_searches == 7


def test_a_day_begins_where_the_time_zone_says(world: World) -> None:
    world.search("q", ago=timedelta(hours=14, minutes=30))  # 21:30 of yesterday in UTC
    assert world.read(zone="UTC").searches == {YESTERDAY: {"web": 1}}
    # Paris changed to summer time in that very night: two hours ahead of UTC since 01:00 UTC.
    assert world.read(zone="Europe/Paris").searches == {YESTERDAY: {"web": 1}}
    assert world.read(zone="Asia/Tokyo").searches == {TODAY: {"web": 1}}


def test_latency_percentiles_are_those_of_each_day(world: World) -> None:
    for value in range(1, 102):
        world.search("q", latency=float(value), shown=0)
    world.search("q", latency=7.0, ago=timedelta(days=1), shown=0)
    world.search("q", latency=None, ago=timedelta(days=2), shown=0)
    assert world.read().latency == {
        TODAY: Latency(101, 51.0, 96.0, 100.0),
        YESTERDAY: Latency(1, 7.0, 7.0, 7.0),
    }


def test_click_through_counts_each_impression_once(world: World) -> None:
    one, two, _ = world.search("a"), world.search("b"), world.search("c", shown=1)
    for judgement in ("click", "click", "copy", "reject", "accept"):
        world.say(one, 1, judgement)
    world.say(one, 1, "click", user="grace")
    world.say(two, 1, "click")
    world.say(two, 2, "reject")
    world.say(two, 3, "accept")
    world.say(two, 3, "reject", ago=timedelta(minutes=40))
    assert world.read().by_rank == (
        RankCount(1, shown=3, opened=2, copied=1, accepted=1, rejected=0),
        RankCount(2, shown=2, opened=0, copied=0, accepted=0, rejected=1),
        RankCount(3, shown=2, opened=0, copied=0, accepted=0, rejected=1),
    )
    assert world.read().by_rank[0].click_through == pytest.approx(2 / 3)


def test_the_interval_of_a_share_is_wilsons() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81/263, 15/148, 0/20, 1/29.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_judgements_count_the_last_word_of_each_person_on_its_day(world: World) -> None:
    search = world.search("a", ago=timedelta(days=1, hours=1))
    day = timedelta(days=1)
    world.say(search, 1, "accept", ago=day)
    world.say(search, 1, "reject", ago=timedelta(hours=1))  # ada changed her mind today
    world.say(search, 1, "accept", ago=day, user="grace")
    world.say(search, 2, "click", ago=day)
    world.say(search, 2, "click", ago=timedelta(hours=2))  # the same, told with its dwell time
    world.say(search, 2, "copy", ago=timedelta(hours=2))
    world.say(search, 3, "accept", ago=timedelta(hours=2), imported=True)
    figures = world.read()
    assert figures.judgements == {
        YESTERDAY: Judgements(opened=1, accepted=1),
        TODAY: Judgements(copied=1, rejected=1),
    }
    assert figures.judgements[YESTERDAY].acceptance == 1.0
    assert figures.total_judgements == Judgements(opened=1, copied=1, accepted=1, rejected=1)
    assert figures.total_judgements.acceptance == 0.5
    assert Judgements(opened=3).acceptance is None


def test_unmet_queries_are_those_that_satisfied_nobody(world: World) -> None:
    world.search("never answered", user="ada", ago=timedelta(hours=3))
    world.search("Never  ANSWERED ", user="grace", client="mcp", shown=2, asked={"k": 2, "languages": ["go"]})
    world.say(world.search("rejected", user="bob"), 1, "reject")
    both = world.search("opened and rejected")
    world.say(both, 1, "click")
    world.say(both, 1, "reject")
    world.search("found nothing", shown=0, ago=timedelta(hours=5))
    world.say(world.search("opened"), 2, "click")
    world.say(world.search("copied"), 2, "copy")
    mixed = world.search("rejected one, accepted another")
    world.say(mixed, 1, "reject")
    world.say(mixed, 2, "accept")
    changed = world.search("rejected, then accepted")
    world.say(changed, 1, "reject")
    world.say(changed, 1, "accept", ago=timedelta(minutes=1))
    split = world.search("rejected by one, accepted by another")
    world.say(split, 1, "accept")
    world.say(split, 1, "reject", user="grace")
    world.search("met the second time", ago=timedelta(hours=6))
    world.say(world.search("Met the second time"), 1, "accept")
    figures = world.read()
    assert {each.query for each in figures.unmet} == {
        "Never  ANSWERED ",
        "rejected",
        "opened and rejected",
        "found nothing",
    }
    first, *rest = figures.unmet
    assert (first.query, first.searches, first.people, first.rejected) == ("Never  ANSWERED ", 2, 2, 0)
    assert (first.shown, first.clients) == (2, ("mcp", "web"))
    assert first.asked == {"k": 2, "languages": ["go"]}
    assert [each.rejected for each in rest] == [1, 1, 0]
    assert rest[-1].shown == 0
    assert (figures.newest, figures.satisfied, figures.answered) == (12, 6, 8)


def test_only_the_newest_searches_are_looked_at_one_by_one(world: World) -> None:
    for hours in range(1, 6):
        world.search(f"query {hours}", ago=timedelta(hours=hours))
    figures = world.read(newest=2)
    assert figures.total_searches == 5
    assert figures.newest == 2
    assert {each.query for each in figures.unmet} == {"query 1", "query 2"}
    assert [each.shown for each in figures.by_rank] == [2, 2, 2]


def test_expired_searches_count_by_day_but_have_no_ranks_to_count(world: World) -> None:
    expired, kept = world.search("expired"), world.search("kept")
    with world.db.connect() as connection:
        connection.execute("UPDATE searches SET expired_at = now() WHERE id = %s", [expired])
    world.say(kept, 1, "click")
    figures = world.read()
    assert figures.total_searches == 2
    assert (figures.newest, figures.satisfied) == (1, 1)
    assert figures.by_rank[0] == RankCount(1, shown=1, opened=1, copied=0, accepted=0, rejected=0)
    assert figures.unmet == ()


def test_the_most_accepted_code_comes_first(world: World) -> None:
    for user in ("ada", "grace"):
        search = world.search("a", user=user)
        world.say(search, 2, "accept")
        world.say(search, 1, "accept")
        world.say(search, 3, "accept")
        world.say(search, 3, "reject", ago=timedelta(minutes=1))
    world.say(world.search("b"), 2, "accept")
    world.say(world.search("c"), 3, "click")
    with world.db.connect() as connection:
        connection.execute("UPDATE snippets SET vanished_at = now() WHERE id = %s", [world.snippets[0]])
    found = [(each.snippet_id, each.times, each.people, each.vanished) for each in world.read().accepted]
    assert found == [(world.snippets[1], 3, 2, False), (world.snippets[0], 2, 2, True)]


def test_model_versions_come_with_their_last_evaluation_and_when_they_served(world: World) -> None:
    with world.db.connect() as connection:
        for number, (version, base) in enumerate((("a" * 64, None), ("b" * 64, "a" * 64))):
            connection.execute(
                "INSERT INTO model_versions"
                " (version, name, spec, dims, location, state, base_version, created_at)"
                " VALUES (%s, %s, '{}', 384, 'x', %s, %s, %s)",
                [version, f"m{number}", "serving" if base else "retired", base, NOW + timedelta(days=number)],
            )
        for at, (test_set, mean) in enumerate((("old", 0.1), ("new", 0.5))):
            metrics = {"overall": {"ndcg@10": [mean, mean - 0.05, mean + 0.05, 40]}, "margins": [0.1]}
            connection.execute(
                "INSERT INTO evaluations (model_version, test_set, queries, corpus, metrics)"
                " VALUES (%s, %s, %s, 9, %s)",
                ["b" * 64, test_set, 40 + at, Jsonb(metrics)],
            )
        connection.execute(
            "INSERT INTO index_versions (model_version, state, dims, served_from, served_until)"
            " VALUES (%s, 'retired', 384, %s, %s), (%s, 'serving', 384, %s, NULL)",
            ["a" * 64, NOW, NOW + timedelta(days=1), "b" * 64, NOW + timedelta(days=1)],
        )
    base, tuned = world.read().models
    assert (base.version, base.is_base, base.metrics, base.queries, base.test_set) == (
        "a" * 64,
        True,
        {},
        0,
        None,
    )
    assert base.served == ((NOW, NOW + timedelta(days=1)),)
    assert tuned.metrics == {"ndcg@10": (0.5, 0.45, 0.55)}
    assert (tuned.queries, tuned.test_set, tuned.state) == (41, "new", "serving")
    assert tuned.served == ((NOW + timedelta(days=1), None),)


def test_other_periods_are_refused(world: World) -> None:
    with pytest.raises(BadInputError, match="no insights over 8 days"):
        world.read(8)


def test_nothing_is_nothing(db: Database) -> None:
    with db.connect() as connection:
        figures = read_insights(connection, 90, Settings(), NOW)
    assert len(figures.days) == 90
    assert (figures.total_searches, figures.people, figures.newest) == (0, 0, 0)
    assert (figures.by_rank, figures.unmet, figures.accepted, figures.models) == ((), (), (), ())
    assert figures.total_judgements == Judgements()
