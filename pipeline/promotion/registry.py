"""The registry of model versions: what exists, where it lies, what is known of it, and which a name means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from psycopg.types.json import Jsonb

from pipeline.config import Settings
from pipeline.errors import BadInputError, HoneloopError
from pipeline.promotion.states import (
    BY_RULE,
    STATES,
    ModelEvent,
    State,
    approved_by_a_person,
    list_events,
    record_event,
    set_state,
    waiting_for_people,
)
from pipeline.store.connections import Connection, Database

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder
    from pipeline.progress import Progress

__all__ = [
    "BY_RULE",
    "STATES",
    "IndexRecord",
    "ModelEvent",
    "ModelRecord",
    "State",
    "approved_by_a_person",
    "ensure_registered",
    "get_model",
    "get_record",
    "list_events",
    "list_models",
    "record_metrics",
    "resolve",
    "serving_model",
    "set_state",
    "store_metrics",
    "stored_location",
    "waiting_for_people",
]

_PREFIX = re.compile(r"[0-9a-fA-F]{6,64}")
_COLUMNS = (
    "m.version, m.name, m.spec, m.dims, m.location, m.state, m.base_version, m.training_set_id,"
    " m.lineage, m.metrics, m.created_at"
)


@dataclass(frozen=True)
class IndexRecord:
    """One index version of a model: its id, state, number of rows and measured recall@10."""

    id: int
    state: str
    rows: int
    recall_at_10: float | None


@dataclass(frozen=True)
class ModelRecord:
    """One model version as the registry knows it.

    `location` is what `load_encoder` takes. `base_version` is None for an encoder that was not fine-tuned
    here. `lineage` is the training run's own account; `metrics` holds the last "evaluation" and "verdict".
    """

    version: str
    name: str
    spec: dict[str, Any]
    dims: int
    location: str
    state: State
    base_version: str | None
    training_set_id: int | None
    lineage: dict[str, Any]
    metrics: dict[str, Any]
    created_at: datetime
    index_versions: tuple[IndexRecord, ...] = ()


def ensure_registered(
    db: Database,
    encoder: Encoder,
    location: str,
    state: Literal["base", "candidate"] = "base",
    *,
    base_version: str | None = None,
    training_set_id: int | None = None,
    lineage: Mapping[str, Any] | None = None,
) -> ModelRecord:
    """The record of `encoder`'s version, made if it is not there yet. Calling it again changes nothing.

    A version that is known keeps its state and lineage: the fingerprint names the weights, so they are the
    same weights. Only its location follows, since `encoder` was just loaded from `location` and what was
    known before may have been moved.

    Args:
        db: The database.
        encoder: The loaded encoder; its version, spec and dims are what is registered.
        location: What `load_encoder` took: a preset, a directory (stored absolute) or hub-name@revision.
        state: The state a new version starts in.
        base_version: The version it was fine-tuned from; that one must be registered.
        training_set_id: The training set it learned from.
        lineage: The training run's own account: seed, settings, device, history.
    """
    location = stored_location(location)
    with db.connect() as connection:
        known = connection.execute(
            "SELECT location FROM model_versions WHERE version = %s", [encoder.version]
        ).fetchone()
        if known is None:
            name = (
                encoder.spec.name if base_version is None else _tuned_name(connection, base_version, encoder)
            )
            added = connection.execute(
                "INSERT INTO model_versions"
                " (version, name, spec, dims, location, state, base_version, training_set_id, lineage)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING version",
                [
                    encoder.version,
                    name,
                    Jsonb(encoder.spec.model_dump(mode="json")),
                    encoder.dims,
                    location,
                    state,
                    base_version,
                    training_set_id,
                    Jsonb(dict(lineage or {})),
                ],
            ).fetchone()
            if added is not None:  # else another process was faster, and recorded it
                record_event(connection, encoder.version, (None, state), "registry", [])
        elif known[0] != location:
            connection.execute(
                "UPDATE model_versions SET location = %s WHERE version = %s", [location, encoder.version]
            )
        return get_model(connection, encoder.version)


def stored_location(location: str) -> str:
    """`location` as the registry stores it: a directory by its absolute path, all else as it is."""
    from pipeline.encoders.presets import PRESETS

    if location in PRESETS:
        return location
    path = Path(location).expanduser()
    return str(path.resolve()) if path.is_dir() else location


def list_models(db: Database) -> list[ModelRecord]:
    """Every model version, the newest last, each with its index versions."""
    with db.connect() as connection:
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM model_versions m ORDER BY m.created_at, m.version"
        ).fetchall()
        indexes = _indexes(connection)
    return [_record(row, indexes) for row in rows]


def get_model(connection: Connection, version: str) -> ModelRecord:
    """The record of exactly `version`.

    Raises:
        BadInputError: no such version is registered.
    """
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM model_versions m WHERE m.version = %s", [version]
    ).fetchone()
    if row is None:
        raise BadInputError(
            f"No model version {version} is registered.", hint="`honeloop models` lists the known ones."
        )
    return _record(row, _indexes(connection, version))


def get_record(db: Database, version: str) -> ModelRecord:
    """`get_model` in a transaction of its own."""
    with db.connect() as connection:
        return get_model(connection, version)


def serving_model(db: Database) -> ModelRecord | None:
    """The model version that serves, or None while nothing does."""
    with db.connect() as connection:
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM model_versions m WHERE m.state = 'serving'"
        ).fetchone()
        return None if row is None else _record(row, _indexes(connection, row[0]))


def resolve(db: Database, name: str, settings: Settings, progress: Progress | None = None) -> ModelRecord:
    """The model version that `name` means.

    `name` is "base" (the encoder of the settings), "serving", a version or a unique beginning of one
    (6 hexadecimal digits or more), a registered model's name, a preset, a directory, or hub-name@revision.
    What is not registered yet but can be loaded is registered; `progress` is told if that takes an export.

    Raises:
        BadInputError: nothing goes by that name, or more than one version begins so.
        HoneloopError: "serving" was asked for and nothing serves yet, or loading failed.
    """
    if name == "serving":
        serving = serving_model(db)
        if serving is None:
            raise HoneloopError("No model serves yet: nothing is indexed.", hint="Run `honeloop run`.")
        return serving
    if name == "base":
        return _load_and_register(db, settings.encoder, settings, progress)
    from pipeline.encoders.presets import PRESETS

    if name in PRESETS:
        return _load_and_register(db, name, settings, progress)
    found = _find(db, name)
    if found is not None:
        return found
    # No name is an empty one, though Path("") is the current directory.
    if name and (Path(name).expanduser().is_dir() or ("/" in name and "@" in name)):
        return _load_and_register(db, name, settings, progress)
    known = ", ".join(f"{model.version[:12]} ({model.name}, {model.state})" for model in list_models(db))
    raise BadInputError(
        f"No model goes by {name!r}.",
        hint=f'Say "base", "serving", a preset ({", ".join(PRESETS)}), a directory, or a version: '
        f"{known or 'none is registered yet'}.",
    )


def record_metrics(db: Database, version: str, metrics: Mapping[str, Any]) -> None:
    """Adds `metrics` to those stored with `version`, replacing those of the same name.

    Evaluation stores under "evaluation", the gate under "verdict"; `honeloop models` and the final report
    of `honeloop run` read them.
    """
    with db.connect() as connection:
        store_metrics(connection, version, metrics)


def store_metrics(connection: Connection, version: str, metrics: Mapping[str, Any]) -> None:
    """`record_metrics` in the caller's transaction."""
    connection.execute(
        "UPDATE model_versions SET metrics = metrics || %s WHERE version = %s",
        [Jsonb(dict(metrics)), version],
    )


def _find(db: Database, name: str) -> ModelRecord | None:
    """By the beginning of a version, then by a registered name."""
    with db.connect() as connection:
        rows: list[tuple[Any, ...]] = []
        if _PREFIX.fullmatch(name):
            rows = connection.execute(
                "SELECT version, name, state FROM model_versions WHERE starts_with(version, %s)"
                " ORDER BY version",
                [name.lower()],
            ).fetchall()
        if not rows:
            rows = connection.execute(
                "SELECT version, name, state FROM model_versions WHERE name = %s ORDER BY version", [name]
            ).fetchall()
        if len(rows) > 1:
            listed = ", ".join(f"{version[:16]} ({model}, {state})" for version, model, state in rows)
            raise BadInputError(
                f"{name!r} may mean {len(rows)} models.", hint=f"Give more of the version: {listed}."
            )
        return get_model(connection, rows[0][0]) if rows else None


def _load_and_register(
    db: Database, source: str, settings: Settings, progress: Progress | None
) -> ModelRecord:
    """What `source` holds now, by the hashes of its files; loaded only if it is not registered yet."""
    from pipeline.encoders.loading import load_as_set, version_of

    version = version_of(source)
    with db.connect() as connection:
        known = connection.execute(
            "SELECT FROM model_versions WHERE version = %s AND location = %s",
            [version, stored_location(source)],
        ).fetchone()
        if known is not None:
            return get_model(connection, version)
    encoder = load_as_set(source, settings, progress)
    lineage = _checkpoint_lineage(source)
    if lineage is None:
        return ensure_registered(db, encoder, source)
    # A checkpoint made elsewhere: its base and training set need not be known here; its own account stays.
    return ensure_registered(db, encoder, source, state="candidate", lineage=lineage)


def _checkpoint_lineage(source: str) -> dict[str, Any] | None:
    """The lineage in the checkpoint that `source` is; None for anything that is not a checkpoint."""
    from pipeline.encoders.manifest import is_checkpoint, read_manifest
    from pipeline.encoders.presets import PRESETS

    directory = Path(source).expanduser()
    if source in PRESETS or not is_checkpoint(directory):
        return None
    return dict(read_manifest(directory).content.get("lineage", {}))


def _tuned_name(connection: Connection, base_version: str, encoder: Encoder) -> str:
    """`<name of the first base>-<first 12 of the version>`: names do not grow with each generation."""
    row = connection.execute(
        "WITH RECURSIVE line AS (SELECT name, base_version FROM model_versions WHERE version = %s UNION ALL"
        " SELECT m.name, m.base_version FROM model_versions m JOIN line ON m.version = line.base_version)"
        " SELECT name FROM line WHERE base_version IS NULL",
        [base_version],
    ).fetchone()
    if row is None:
        raise BadInputError(
            f"The base version {base_version} is not registered.",
            hint="Register it before what grew from it.",
        )
    return f"{row[0]}-{encoder.version[:12]}"


def _indexes(connection: Connection, version: str | None = None) -> dict[str, list[IndexRecord]]:
    found: dict[str, list[IndexRecord]] = {}
    for row in connection.execute(
        "SELECT model_version, id, state, row_count, recall_at_10 FROM index_versions"
        " WHERE %(version)s::text IS NULL OR model_version = %(version)s ORDER BY id",
        {"version": version},
    ):
        found.setdefault(row[0], []).append(IndexRecord(*row[1:]))
    return found


def _record(row: tuple[Any, ...], indexes: Mapping[str, list[IndexRecord]]) -> ModelRecord:
    return ModelRecord(*row, index_versions=tuple(indexes.get(row[0], ())))
