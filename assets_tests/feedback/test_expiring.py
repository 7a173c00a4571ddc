"""Expiry: what nobody judged goes, what somebody judged loses its name, and the counts by day stay."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from assets_tests.feedback.world import add_code, content_hash, show, write_lines
from pipeline.config import Settings
from pipeline.errors import BadInputError
from pipeline.feedback.events import ExpiredSearchError, add_feedback
from pipeline.feedback.expiring import expire_searches
from pipeline.feedback.importing import import_feedback
from pipeline.feedback.pairs import feedback_pairs
from pipeline.store.connections import Database

NOW = datetime(2026, 7, 1, 15, 30, tzinfo=UTC)
TEXTS = [f"def snippet_{number}(): return {number}" for number in range(5)]


@pytest.fixture
def ids(db: Database) -> list[int]:
    return list(add_code(db, {f"{n}.py": {f"s{n}": text} for n, text in enumerate(TEXTS)}).values())


def asked(
    db: Database, at: datetime, query: str, shown: list[int], user: str | None, *, client: str | None = "web"
) -> str:
    search = show(db, query, shown, user)
    with db.connect() as connection:
        connection.execute(
            "UPDATE searches SET at = %s, client = %s, filters = %s, latency_ms = 3 WHERE id = %s",
            [at, client, '{"path": "private/**"}', search],
        )
    return search


def rows(db: Database, statement: str, *values: object) -> list[Any]:
    with db.connect() as connection:
        return connection.execute(statement, values).fetchall()  # pyright: ignore


def days_ago(days: int, hour: int = 12) -> datetime:
    return (NOW - timedelta(days=days)).replace(hour=hour)


def test_what_nobody_judged_goes_and_what_was_judged_keeps_what_training_needs(
    db: Database, settings: Settings, ids: list[int]
) -> None:
    unjudged = asked(db, days_ago(200), "nobody cared", ids, "ann")
    judged = asked(db, days_ago(200), "find it", ids, "ann")
    add_feedback(db, judged, ids[2], "accept")
    add_feedback(db, judged, ids[1], "reject", user="bob")
    young = asked(db, days_ago(100), "young", ids, "ann")
    before = feedback_pairs(db, settings).pairs
    report = expire_searches(db, settings, now=NOW)
    assert (report.deleted, report.stripped, report.impressions, report.days) == (1, 1, 5 + 2, 1)
    left = rows(
        db, "SELECT id::text, user_name, filters, latency_ms, expired_at IS NULL FROM searches ORDER BY at"
    )
    assert [row[0] for row in left] == [judged, young]
    assert unjudged not in {row[0] for row in left}
    _, name, filters, latency, whole = left[0]
    assert (filters, latency, whole) == ({}, None, False)
    assert left[1][1:] == ("ann", {"path": "private/**"}, 3, True)
    names = {row[0] for row in rows(db, "SELECT user_name FROM feedback")}
    assert name in names
    assert all(each.startswith("expired-") for each in names)
    assert len(names) == 2
    shown = rows(db, "SELECT snippet_id, rank FROM impressions WHERE search_id = %s ORDER BY rank", judged)
    assert shown == [(ids[0], 1), (ids[1], 2), (ids[2], 3)]
    assert feedback_pairs(db, settings).pairs == before
    assert content_hash(TEXTS[2]) == before[0].content_hash
    # Once more changes nothing.
    again = expire_searches(db, settings, now=NOW)
    assert (again.deleted, again.stripped, again.days) == (0, 0, 0)
    assert {row[0] for row in rows(db, "SELECT user_name FROM feedback")} == names


def test_whole_days_go_and_the_day_of_the_limit_stays(
    db: Database, settings: Settings, ids: list[int]
) -> None:
    for hour in (0, 23):
        asked(db, days_ago(181, hour), "old", ids, None)
        asked(db, days_ago(180, hour), "on the day", ids, None)
    report = expire_searches(db, settings, now=NOW)
    assert report.before == NOW.date() - timedelta(days=180)
    assert rows(db, "SELECT DISTINCT query FROM searches") == [("on the day",)]
    assert expire_searches(db, settings, older_than_days=0, now=NOW).deleted == 2


def test_the_counts_by_day_stay(db: Database, settings: Settings, ids: list[int]) -> None:
    first = asked(db, days_ago(200), "one", ids[:3], "ann")
    second = asked(db, days_ago(200), "two", ids[:2], "bob")
    asked(db, days_ago(200), "three", ids[:1], "ann")
    asked(db, days_ago(199), "four", ids[:1], None, client=None)
    for judgement, snippet in (("click", 0), ("click", 1), ("accept", 0), ("copy", 0)):
        add_feedback(db, first, ids[snippet], judgement)
    add_feedback(db, second, ids[1], "reject")
    expire_searches(db, settings, now=NOW)
    day, next_day = days_ago(200).date(), days_ago(199).date()
    statement = (
        "SELECT day, client, searches, users, clicks, accepts, rejects, copies FROM search_days ORDER BY 1"
    )
    assert rows(db, statement) == [(day, "web", 3, 2, 2, 1, 1, 1), (next_day, "unknown", 1, 0, 0, 0, 0, 0)]
    ranks = rows(db, "SELECT rank, shown, chosen FROM search_day_ranks WHERE day = %s ORDER BY rank", day)
    assert ranks == [(1, 3, 1), (2, 2, 1), (3, 1, 0)]
    # What comes late, as from a queue that was away, is added.
    asked(db, days_ago(200), "late", ids[:1], "cyd")
    expire_searches(db, settings, now=NOW)
    assert rows(db, statement)[0] == (day, "web", 4, 3, 2, 1, 1, 1)
    assert rows(db, "SELECT shown FROM search_day_ranks WHERE day = %s AND rank = 1", day) == [(4,)]


def test_the_cap_on_one_person_still_holds(db: Database, settings: Settings, ids: list[int]) -> None:
    for number in range(9):
        search = asked(db, days_ago(190 + number), f"query {number}", ids, "ann")
        add_feedback(db, search, ids[0], "accept")
    add_feedback(db, asked(db, days_ago(190), "of bob", ids, "bob"), ids[1], "accept")
    before = {pair.query: pair.weight for pair in feedback_pairs(db, settings).pairs}
    assert sum(before.values()) == pytest.approx(2 * 0.95)
    expire_searches(db, settings, now=NOW)
    assert {pair.query: pair.weight for pair in feedback_pairs(db, settings).pairs} == pytest.approx(before)
    assert len(rows(db, "SELECT DISTINCT user_name FROM searches")) == 2


def test_the_cap_on_one_person_still_holds_when_searches_expire_day_by_day(
    db: Database, settings: Settings, ids: list[int]
) -> None:
    """As they do: the schedule is a daily one, and before each run some have expired and some have not."""
    for number in range(9):
        search = asked(db, days_ago(170 + number), f"query {number}", ids, "ann")
        add_feedback(db, search, ids[0], "accept")
    for number in (0, 8):
        add_feedback(
            db,
            asked(db, days_ago(170 + number), f"of bob {number}", ids, "bob"),
            ids[1],
            "accept",
            user="bob",
        )
    before = {pair.query: pair.weight for pair in feedback_pairs(db, settings).pairs}
    for day in range(11):
        assert expire_searches(db, settings, now=NOW + timedelta(days=day + 3)).stripped <= 2
        pairs = feedback_pairs(db, settings).pairs
        assert {pair.query: pair.weight for pair in pairs} == pytest.approx(before)
    for table in ("searches", "feedback"):
        names = {name for (name,) in rows(db, f"SELECT user_name FROM {table}")}
        assert len(names) == 2
        assert all(name.startswith("expired-") for name in names)


def test_nothing_leads_back_to_somebody_whose_searches_have_all_expired(
    db: Database, settings: Settings, ids: list[int]
) -> None:
    add_feedback(db, asked(db, days_ago(200), "old", ids, "ann"), ids[0], "accept")
    add_feedback(db, asked(db, days_ago(175), "of bob", ids, "bob"), ids[0], "accept", user="ann")
    expire_searches(db, settings, now=NOW)
    ((name, alias),) = rows(db, "SELECT * FROM expired_names")
    assert (name, [(alias,)]) == ("ann", rows(db, "SELECT user_name FROM searches WHERE query = 'old'"))
    expire_searches(db, settings, now=NOW + timedelta(days=10))
    assert rows(db, "SELECT * FROM expired_names") == []
    assert rows(db, "SELECT DISTINCT user_name FROM feedback") == [(alias,)]


def test_who_had_no_name_still_has_none(db: Database, settings: Settings, ids: list[int]) -> None:
    """Or whoever clears their cookies would be somebody new each time, for the cap on one snippet."""
    for number in range(9):
        search = asked(db, days_ago(200), f"query {number}", ids, f"web:{number}")
        add_feedback(db, search, ids[0], "accept")
    before = {pair.query: pair.weight for pair in feedback_pairs(db, settings).pairs}
    assert sum(before.values()) == pytest.approx(settings.max_user_snippet_weight)
    expire_searches(db, settings, now=NOW)
    assert {pair.query: pair.weight for pair in feedback_pairs(db, settings).pairs} == pytest.approx(before)
    assert not rows(db, "SELECT FROM searches WHERE user_name = ANY(%s)", [f"web:{n}" for n in range(9)])


def test_what_expired_cannot_be_judged_any_more(db: Database, settings: Settings, ids: list[int]) -> None:
    """Nothing would ever take that name away again."""
    search = asked(db, days_ago(200), "old", ids, "ann")
    add_feedback(db, search, ids[1], "accept")
    expire_searches(db, settings, now=NOW)
    for snippet in (ids[0], ids[1], ids[4]):  # the last one went
        with pytest.raises(ExpiredSearchError, match=f"Search {search} has expired"):
            add_feedback(db, search, snippet, "reject", user="ann")
    assert len(rows(db, "SELECT FROM feedback")) == 1


def test_imported_judgements_are_no_searches(
    db: Database, settings: Settings, ids: list[int], tmp_path: Any
) -> None:
    line = {"query": "old", "repository": "demo", "path": "0.py", "judgement": "accept", "user": "ann"}
    file = write_lines(tmp_path / "f.jsonl", {**line, "at": "2020-01-01T00:00:00Z"})
    import_feedback(db, file)
    assert expire_searches(db, settings, now=NOW).days == 0
    assert rows(db, "SELECT user_name FROM searches") == [("ann",)]
    assert import_feedback(db, file).added == 0


def test_judging_while_it_runs_loses_nothing(db: Database, settings: Settings, ids: list[int]) -> None:
    searches = [asked(db, days_ago(200 + n % 5), f"query {n}", ids, "ann") for n in range(40)]

    def judge(search: str) -> bool:
        try:
            return add_feedback(db, search, ids[0], "accept").added
        except BadInputError:
            return False  # it had expired

    with ThreadPoolExecutor(4) as pool:
        run = pool.submit(expire_searches, db, settings, now=NOW)
        added = list(pool.map(judge, searches))
    report = run.result()
    assert report.deleted + report.stripped == 40
    assert len(rows(db, "SELECT FROM feedback")) == added.count(True)


def test_a_number_of_days_that_cannot_be(db: Database, settings: Settings) -> None:
    for days in (-1, 10**7):
        with pytest.raises(BadInputError):
            expire_searches(db, settings, older_than_days=days)
