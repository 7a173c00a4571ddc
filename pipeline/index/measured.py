"""When the recall of an index version was measured last: what was measured lately is believed.

A graph changes only by what measures it again, so in between only damage on disk could make it worse.
"""

from __future__ import annotations

import time
from typing import Any

from psycopg.types.json import Jsonb

from pipeline.index.serving import connected
from pipeline.store.connections import Connection, Database

_KEY = "recall_measured_at"


def measured_now() -> dict[str, Any]:
    """For the parameters of an index version: that its recall was measured at this moment."""
    return {_KEY: time.time()}


def note_measured(db: Database, index_version_id: int) -> None:
    """Notes that its recall was measured again at this moment, and was enough."""
    with db.connect() as connection:
        connection.execute(
            "UPDATE index_versions SET parameters = parameters || %s WHERE id = %s",
            [Jsonb(measured_now()), index_version_id],
        )


def serving_measured_at(where: Database | Connection) -> float | None:
    """When that was last of what serves, in seconds since the epoch; None if nothing serves, or says so."""
    with connected(where) as connection:
        row = connection.execute(
            "SELECT (parameters ->> %s)::float8 FROM index_versions WHERE state = 'serving'", [_KEY]
        ).fetchone()
    return row[0] if row else None
