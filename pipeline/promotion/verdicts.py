"""Every verdict the gate gave, in the database: what it decided, on which numbers, by which thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg.types.json import Jsonb

from pipeline.promotion.verdict import Verdict
from pipeline.store.connections import Connection, Database


@dataclass(frozen=True)
class GivenVerdict:
    """One verdict, and when it was given."""

    id: int
    at: datetime
    verdict: Verdict


def store_verdict(connection: Connection, verdict: Verdict) -> None:
    """Adds a verdict, in the caller's transaction, unless it says what the last one on this model said."""
    content = verdict.to_json()
    connection.execute(
        "INSERT INTO verdicts (model_version, serving_version, test_set, decision, content)"
        " SELECT %(model)s, %(serving)s, %(test_set)s, %(decision)s, %(content)s"
        " WHERE %(content)s IS DISTINCT FROM"
        " (SELECT content FROM verdicts WHERE model_version = %(model)s ORDER BY id DESC LIMIT 1)",
        {
            "model": verdict.candidate_version,
            "serving": verdict.serving_version,
            "test_set": verdict.test_set,
            "decision": verdict.decision,
            "content": Jsonb(content),
        },
    )


def list_verdicts(db: Database, version: str | None = None, limit: int = 100) -> list[GivenVerdict]:
    """The last `limit` verdicts, the newest first: on one model version, or on all."""
    with db.connect() as connection:
        rows = connection.execute(
            "SELECT id, at, content FROM verdicts WHERE %(version)s::text IS NULL"
            " OR model_version = %(version)s ORDER BY id DESC LIMIT %(limit)s",
            {"version": version, "limit": limit},
        ).fetchall()
    return [GivenVerdict(row[0], row[1], Verdict.from_json(row[2])) for row in rows]
