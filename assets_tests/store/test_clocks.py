"""Clocks that go back and time zones that differ: who spoke last has the last word, and a day is a day."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import ValidationError

from assets_tests.feedback.world import add_code, show
from pipeline.config import Settings
from pipeline.feedback.events import add_feedback
from pipeline.feedback.expiring import expire_searches
from pipeline.feedback.pairs import feedback_pairs
from pipeline.store.connections import Database


def test_what_was_said_last_counts_though_the_clock_went_back(db: Database, settings: Settings) -> None:
    (one,) = add_code(db, {"a.py": {"f": "def f(): pass"}}).values()
    search = show(db, "do nothing", [one], "ann")
    add_feedback(db, search, one, "reject")
    with db.connect() as connection:  # said an hour from now, by the clock of then
        connection.execute("UPDATE feedback SET at = now() + interval '1 hour'")
    assert add_feedback(db, search, one, "accept").added
    assert not add_feedback(db, search, one, "accept").added
    (pair,) = feedback_pairs(db, settings).pairs
    assert (pair.judgement, pair.content_hash) == ("accept", pair.content_hash)
    with db.connect() as connection:
        moments = connection.execute("SELECT judgement FROM feedback ORDER BY at, id").fetchall()
    assert moments == [("reject",), ("accept",)]


def test_the_candidate_judged_last_is_known_by_its_number(db: Database) -> None:
    from pipeline.evaluation.online import challenger

    with db.connect() as connection:
        for version, state, at in (
            ("a", "serving", "2026-01-01T00:00:00+00:00"),
            ("b", "candidate", "2026-01-09T00:00:00+00:00"),  # judged first, by a clock that was ahead
            ("c", "candidate", "2026-01-02T00:00:00+00:00"),
        ):
            connection.execute(
                "INSERT INTO model_versions (version, name, spec, dims, location, state, metrics) VALUES"
                " (%(v)s, 'm', '{}', 3, 'x', %(state)s, jsonb_build_object('verdict', jsonb_build_object("
                "'decision', 'not enough evidence', 'serving_version', repeat('a', 64), 'at',"
                " %(at)s::text)))",
                {"v": version * 64, "state": state, "at": at},
            )
            connection.execute(
                "INSERT INTO verdicts (model_version, serving_version, test_set, decision, content, at)"
                " VALUES (%s, repeat('a', 64), 't', 'not enough evidence', '{}', %s)",
                [version * 64, at],
            )
        assert challenger(connection) == ("c" * 64, "x")


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_days_do_not_depend_on_the_zone_of_the_server(db: Database, settings: Settings, zone: str) -> None:
    """14 hours ahead, 11 behind: a search at noon of the 2nd (UTC) expires with that day, not another."""
    there = Database(make_conninfo(db.url, options=f"-c timezone={zone}"))
    with psycopg.connect(there.url) as connection:
        assert connection.execute("SHOW timezone").fetchone() == (zone,)
        connection.execute(
            "INSERT INTO searches (query, source, at) VALUES ('early', 'search', '2026-01-02 00:00+00'),"
            " ('late', 'search', '2026-01-02 23:59:59.999+00'), ('next', 'search', '2026-01-03 00:00+00')"
        )
    report = expire_searches(there, settings, older_than_days=1, now=datetime(2026, 1, 4, 12, tzinfo=UTC))
    assert report.deleted == 2
    with db.connect() as connection:
        assert connection.execute("SELECT query FROM searches").fetchall() == [("next",)]
        assert connection.execute("SELECT day::text, searches FROM search_days").fetchall() == [
            ("2026-01-02", 2)
        ]


@pytest.mark.parametrize("name", ["Europe/Atlantis", "", "../../etc/passwd"])
def test_a_zone_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="no time zone goes by that name"):
        Settings(timezone=name)
