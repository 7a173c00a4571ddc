"""Migrations: up, down, up again; and a way back that refuses to lose what cannot be made again."""

from __future__ import annotations

import pytest

from pipeline.config import Settings
from pipeline.errors import BadInputError
from pipeline.store import migrations
from pipeline.store.connections import Database


def test_applying_twice_runs_nothing(db: Database, settings: Settings) -> None:
    report = migrations.apply(db.url, settings.sql_path)
    assert report.ran == ()
    assert len(report.applied) == len(list(settings.sql_path.glob("*.rollback.sql")))


def test_every_migration_has_a_way_back(db: Database, settings: Settings) -> None:
    count = len(migrations.apply(db.url, settings.sql_path).applied)
    down = migrations.revert(db.url, settings.sql_path, count)
    assert down.applied == ()
    assert list(reversed(down.ran)) == list(migrations.apply(db.url, settings.sql_path).ran)


def test_going_back_refuses_to_drop_feedback(db: Database, settings: Settings) -> None:
    with db.connect() as connection:
        connection.execute("INSERT INTO searches (query, source) VALUES ('parse json', 'import')")
    with pytest.raises(BadInputError, match="refusing to drop 1 searches"):
        migrations.revert(db.url, settings.sql_path, len(migrations.apply(db.url, settings.sql_path).applied))
    with db.connect() as connection:
        row = connection.execute("SELECT query FROM searches").fetchone()
    assert row == ("parse json",)


@pytest.mark.parametrize("count", [0, -1, 99])
def test_a_count_out_of_range_is_refused(db: Database, settings: Settings, count: int) -> None:
    with pytest.raises(BadInputError, match="are applied"):
        migrations.revert(db.url, settings.sql_path, count)
