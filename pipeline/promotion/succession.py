"""Which model version should answer searches next, and what becomes of those it overtakes."""

from __future__ import annotations

from pipeline.promotion import registry
from pipeline.promotion.registry import ModelRecord
from pipeline.store.connections import Database


def next_to_serve(db: Database) -> ModelRecord | None:
    """The version that was approved last and does not serve yet; None if none waits."""
    waiting = _approved_in_order(db)
    return waiting[-1] if waiting else None


def retire_overtaken(db: Database, serving_version: str) -> list[str]:
    """Retires every version approved before `serving_version` was, which now serves, and returns them.

    Without this, what was approved first and overtaken would push the later one out at the next build.
    """
    approvals = _approvals(db)
    since = approvals.get(serving_version, 0)
    overtaken = [model.version for model in _approved_in_order(db) if approvals[model.version] < since]
    with db.connect() as connection:
        for version in overtaken:
            registry.set_state(
                connection,
                version,
                "retired",
                "index",
                [f"{serving_version[:12]} was approved later and serves already."],
            )
    return overtaken


def _approved_in_order(db: Database) -> list[ModelRecord]:
    approvals = _approvals(db)
    approved = [model for model in registry.list_models(db) if model.state == "approved"]
    return sorted(approved, key=lambda model: approvals[model.version])


def _approvals(db: Database) -> dict[str, int]:
    """The number of the event that last approved each version."""
    with db.connect() as connection:
        return dict(
            connection.execute(
                "SELECT version, max(id) FROM model_events WHERE to_state = 'approved' GROUP BY version"
            ).fetchall()
        )
