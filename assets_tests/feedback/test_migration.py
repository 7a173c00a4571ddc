"""Migrations 0007 and 0016: a way back keeps what it can, and refuses what it cannot."""

from __future__ import annotations

import pytest

from assets_tests.feedback.test_forgetting import TEXTS, learned
from assets_tests.feedback.world import add_code, show
from pipeline.config import Settings
from pipeline.errors import BadInputError
from pipeline.feedback.events import add_feedback
from pipeline.feedback.pairs import feedback_pairs
from pipeline.store import migrations
from pipeline.store.connections import Database


def back_and_forth(db: Database, settings: Settings) -> None:
    back_over(db, settings, "0007")
    migrations.apply(db.url, settings.sql_path)


def back_over(db: Database, settings: Settings, number: str) -> None:
    applied = migrations.apply(db.url, settings.sql_path).applied
    count = len(applied) - [name.startswith(number) for name in applied].index(True)
    assert any(name.startswith(number) for name in migrations.revert(db.url, settings.sql_path, count).ran)


def test_weights_and_moments_of_expiry_survive(db: Database, settings: Settings) -> None:
    ids = list(add_code(db, {f"t{n}.py": {"f": text} for n, text in enumerate(TEXTS)}).values())
    search = show(db, "find it", ids, "ann")
    add_feedback(db, search, ids[1], "reject")
    add_feedback(db, search, ids[4], "accept")
    learned(db, feedback_pairs(db, settings))
    statement = "SELECT pair_id, negative_hash, reason, weight FROM training_negatives ORDER BY 1, 2"
    with db.connect() as connection:
        connection.execute("UPDATE searches SET expired_at = '2026-01-02 03:04:05+00'")
        before = connection.execute(statement).fetchall()
        searches = connection.execute("SELECT * FROM searches").fetchall()
        sets = connection.execute("SELECT * FROM training_sets").fetchall()
    assert {weight for *_, weight in before} == {1, 0.5, 0.3125}
    back_and_forth(db, settings)
    with db.connect() as connection:
        assert connection.execute(statement).fetchall() == before
        assert connection.execute("SELECT * FROM searches").fetchall() == searches
        assert connection.execute("SELECT * FROM training_sets").fetchall() == sets


@pytest.mark.parametrize(
    ("statement", "refusal"),
    [
        (
            "INSERT INTO forgotten VALUES ('\\x00112233445566778899aabbccddeeff', sha256(''))",
            "keep 1 people forgotten",
        ),
        ("INSERT INTO search_days VALUES ('2026-01-01', 'web', 7, 1, 0, 0, 0, 0)", "counts of 7 searches"),
    ],
)
def test_what_could_not_be_kept_is_refused(
    db: Database, settings: Settings, statement: str, refusal: str
) -> None:
    with db.connect() as connection:
        connection.execute(statement)  # pyright: ignore[reportArgumentType, reportCallIssue]
    with pytest.raises(BadInputError, match=refusal):
        back_and_forth(db, settings)


def test_names_in_searches_that_had_expired_before_0016_are_taken_away(
    db: Database, settings: Settings
) -> None:
    ids = list(add_code(db, {f"t{n}.py": {"f": text} for n, text in enumerate(TEXTS)}).values())
    old, young = show(db, "old", ids, "expired-0123456789abcdef"), show(db, "young", ids, "ann")
    for search in (old, young):
        for user in (None, "ann", "web:1"):
            add_feedback(db, search, ids[0], "accept", user=user)
    back_over(db, settings, "0016")
    with db.connect() as connection:
        connection.execute("UPDATE searches SET expired_at = now() WHERE query = 'old'")
    migrations.apply(db.url, settings.sql_path)
    with db.connect() as connection:
        names = dict(connection.execute("SELECT user_name, alias FROM expired_names").fetchall())
        said = connection.execute("SELECT search_id::text, user_name FROM feedback").fetchall()
    assert names.keys() == {"ann", "web:1"}
    assert names["web:1"].startswith("web:expired-")
    assert {user for search, user in said if search == old} == {"expired-0123456789abcdef", *names.values()}
    assert {user for search, user in said if search == young} == {"ann", "web:1"}
