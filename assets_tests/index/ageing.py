"""Makes what was measured older than it is."""

from __future__ import annotations

from datetime import timedelta

from pipeline.store.connections import Database


def measured_before(db: Database, hours: float) -> None:
    """The recall of each index version was measured so many hours ago; less than 0: in the future."""
    with db.connect() as connection:
        connection.execute(
            "UPDATE index_versions SET parameters = parameters || jsonb_build_object("
            "'recall_measured_at', extract(epoch FROM now() - %s))",
            [timedelta(hours=hours)],
        )
