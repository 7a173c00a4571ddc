"""The weights of models that did not pass the gate: which are kept, and how the others are given up.

Every night may bring a candidate that the gate rejects or has not enough evidence about, and after the next
ones nobody reads its files any more, 90 MB of the smallest encoder. Its row in the registry stays, with
lineage, metrics and verdicts.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.promotion import registry
from pipeline.promotion.registry import ModelRecord
from pipeline.promotion.states import BY_RULE
from pipeline.store.connections import Database
from pipeline.store.locks import locked_if_free, shared

_NOTED = "weights_given_up"
# As short as `registry.resolve` takes the beginning of a version.
_LEAST_PREFIX = 6
# A candidate that the gate has not judged yet may still pass.
_DID_NOT_PASS = """
    base_version IS NOT NULL AND (state = 'rejected'
        OR state = 'candidate' AND metrics -> 'verdict' ->> 'decision' = 'not enough evidence')
"""
# What did not pass, but for the newest ones and those that people or other models rely on: they served, or a
# person decided something about them; an index or the interleaved searches need them; another model was
# trained from them, or has them as a member.
_UNNEEDED = f"""
    m.version IN (SELECT version FROM model_versions WHERE {_DID_NOT_PASS}
        ORDER BY created_at DESC, version OFFSET %(keep)s)
    AND m.version <> ALL(%(spared)s)
    AND NOT EXISTS (SELECT FROM model_events e WHERE e.version = m.version
        AND (e.to_state = 'serving' OR e.actor <> ALL(%(rules)s)))
    AND NOT EXISTS (SELECT FROM index_versions i WHERE i.model_version = m.version
        AND i.state IN ('building', 'ready', 'serving', 'retired'))
    AND NOT EXISTS (SELECT FROM challengers c WHERE c.model_version = m.version AND c.until IS NULL)
    AND NOT EXISTS (SELECT FROM model_versions o WHERE o.base_version = m.version
        OR (o.version <> m.version AND strpos(o.location || o.spec::text, m.location) > 0))
"""


def weights_in_use(db: Database, version: str) -> AbstractContextManager[None]:
    """Keeps the weights of a model version for the block; waits for whoever gives them up just now."""
    return shared(db, _lock(version))


def given_up_at(record: ModelRecord) -> str | None:
    """When its weights were given up, in ISO 8601; None while they are there, as when it is trained again."""
    noted = record.metrics.get(_NOTED) if record.state in ("rejected", "candidate") else None
    return None if noted is None or Path(record.location).exists() else str(noted)


def require_weights(record: ModelRecord) -> None:
    """Whoever calls it within `weights_in_use`, with a record read there, finds them there until its end.

    Raises:
        HoneloopError: they were.
    """
    given_up = given_up_at(record)
    if given_up is not None:
        raise HoneloopError(
            f"The weights of {record.name} ({record.version[:12]}), which did not pass, were given up on "
            f"{given_up[:10]} to save space; its lineage, metrics and verdicts are kept.",
            hint="Training makes them again from the same data, settings and base; what is there today may "
            "give others. HONELOOP_KEEP_REJECTED_CHECKPOINTS says of how many they are kept.",
        )


def give_up_weights(db: Database, settings: Settings, spared: Collection[str] = ()) -> list[ModelRecord]:
    """Deletes the checkpoints of models that did not pass the gate but the newest and those that are needed.

    Kept are those that served, that a person decided about or the settings name, that others were trained
    from and that are in use now; and all that do not lie where checkpoints are written.

    Args:
        db: The database.
        settings: `keep_rejected_checkpoints`, and where checkpoints are.
        spared: Versions that are kept besides, as the caller works with them.

    Returns:
        Whose weights went.
    """
    from pipeline.training.checkpoints import delete_checkpoint

    gone: list[ModelRecord] = []
    for record in _unneeded(db, settings, spared):
        path = Path(record.location)
        if path.parent != settings.checkpoints_path.resolve() or not path.is_dir():
            continue
        with locked_if_free(db, _lock(record.version)) as free:
            # Noted first: that it is noted and there yet is no harm, and the next time deletes it.
            if free and _note(db, settings, record.version, spared) and delete_checkpoint(path):
                gone.append(record)
    return gone


def _unneeded(db: Database, settings: Settings, spared: Collection[str]) -> list[ModelRecord]:
    with db.connect() as connection:
        rows = connection.execute(
            f"SELECT m.version FROM model_versions m WHERE {_UNNEEDED}", _asked(settings, spared)
        ).fetchall()
    wanted = {version for (version,) in rows}
    return [
        record
        for record in registry.list_models(db)
        if record.version in wanted and not _is_named(record, settings)
    ]


def _note(db: Database, settings: Settings, version: str, spared: Collection[str]) -> bool:
    """Notes it at the model, unless that is needed by now; whether it did."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with db.connect() as connection:
        noted = connection.execute(
            "UPDATE model_versions m"
            " SET metrics = metrics || jsonb_build_object(%(noted)s::text, %(now)s::text)"
            f" WHERE m.version = %(version)s AND {_UNNEEDED}",
            {**_asked(settings, spared), "noted": _NOTED, "now": now, "version": version},
        )
        return noted.rowcount == 1


def _asked(settings: Settings, spared: Collection[str]) -> dict[str, object]:
    return {"keep": settings.keep_rejected_checkpoints, "spared": list(spared), "rules": sorted(BY_RULE)}


def _is_named(record: ModelRecord, settings: Settings) -> bool:
    """Whether the settings may mean it: an encoder or a member of one by its place, a guide also by name."""
    named = [settings.encoder, settings.guide or ""]
    return any(
        record.location in name
        or record.name == name
        or (len(name) >= _LEAST_PREFIX and record.version.startswith(name.lower()))
        or registry.stored_location(name) == record.location
        for name in named
        if name
    )


def _lock(version: str) -> str:
    return f"honeloop.weights.{version}"
