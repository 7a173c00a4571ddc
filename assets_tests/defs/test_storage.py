"""Dagster's storage when the server goes away: what the web server keeps open is not taken for alive."""

from __future__ import annotations

import psycopg

from pipeline.config import Settings
from pipeline.defs.instance import open_instance
from pipeline.defs.storage import dagster_url


def test_connections_that_the_web_server_keeps_may_die(settings: Settings):
    with open_instance(settings) as instance:
        instance.optimize_for_webserver(statement_timeout=15_000, pool_recycle=3600, max_overflow=5)

        def ask() -> None:
            assert instance.get_runs() == []
            assert instance.all_asset_keys() == []
            assert instance.all_instigator_state() == []

        ask()
        url = dagster_url(settings).replace("+psycopg2", "")
        with psycopg.connect(url, autocommit=True) as connection:
            ended = connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchone()
        assert ended is not None
        assert ended[0] >= 3
        ask()
