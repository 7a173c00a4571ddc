"""The registry of model versions: what exists, where it lies, what state it is in and how it came there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from psycopg.types.json import Jsonb

from pipeline.config import Settings
from pipeline.errors import BadInputError, HoneloopError
from pipeline.store.connections import Connection, Database

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder
    from pipeline.progress import Progress

State = Literal["base", "candidate", "approved", "serving", "retired", "rejected"]
STATES: tuple[State, ...] = get_args(State)
# Who decides by rule; all others are persons.
BY_RULE = frozenset(("gate", "index", "registry"))

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
class ModelEvent:
    """One change of a model version's state: who decided it (gate, index, person, registry) and why."""

    version: str
    from_state: str | None
    to_state: str
    actor: str
    reasons: tuple[str, ...]
    at: datetime


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
                _record_event(connection, encoder.version, (None, state), "registry", [])
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


def list_events(db: Database, version: str | None = None, limit: int = 50) -> list[ModelEvent]:
    """The last `limit` changes of state, the newest first: of one version, or of all."""
    with db.connect() as connection:
        rows = connection.execute(
            "SELECT version, from_state, to_state, actor, reasons, at FROM model_events"
            " WHERE %(version)s::text IS NULL OR version = %(version)s ORDER BY id DESC LIMIT %(limit)s",
            {"version": version, "limit": limit},
        ).fetchall()
    return [
        ModelEvent(event_of, before, after, actor, tuple(reasons), at)
        for event_of, before, after, actor, reasons, at in rows
    ]


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


def set_state(
    connection: Connection, version: str, state: State, actor: str, reasons: Sequence[str] = ()
) -> State:
    """Moves `version` to `state` in the caller's transaction, records why, and returns the state it had.

    One version serves and at most one is approved to follow it: setting either retires the one before it.
    What serves goes on serving until another takes its place: an index that serves has a model that does.
    Saying what already holds, with the same reasons as last time, records nothing, unless a person says it:
    they mean that it be tried again.

    Raises:
        BadInputError: no such version is registered, or it serves, perhaps since a moment ago.
        ValueError: 'base' and 'candidate' are where a version starts; none comes back to them.
    """
    if state not in STATES:
        raise ValueError(f"no such state: {state}")
    row = connection.execute(
        "SELECT state FROM model_versions WHERE version = %s FOR UPDATE", [version]
    ).fetchone()
    if row is None:
        raise BadInputError(
            f"No model version {version} is registered.", hint="`honeloop models` lists the known ones."
        )
    before = cast("State", row[0])
    if state == before:
        last = connection.execute(
            "SELECT reasons FROM model_events WHERE version = %s ORDER BY id DESC LIMIT 1", [version]
        ).fetchone()
        said_before = last is not None and last[0] == list(reasons)
        if not reasons or (said_before and actor in BY_RULE):
            return before
    elif state in ("base", "candidate"):
        raise ValueError(f"a version starts as {state}, and never becomes it: {version} is {before}")
    elif before == "serving":
        raise BadInputError(
            f"{version[:12]} serves, so it does not become {state}.",
            hint="It retires when another takes its place, by `honeloop promote` or `honeloop rollback`.",
        )
    if state in ("serving", "approved"):
        retired = connection.execute(
            "UPDATE model_versions SET state = 'retired' WHERE state = %s AND version <> %s"
            " RETURNING version",
            [state, version],
        ).fetchall()
        for (other,) in retired:
            _record_event(
                connection, other, (state, "retired"), actor, [f"{version[:12]} took its place", *reasons]
            )
    connection.execute("UPDATE model_versions SET state = %s WHERE version = %s", [state, version])
    _record_event(connection, version, (before, state), actor, reasons)
    return before


def approved_by_a_person(connection: Connection, version: str) -> bool:
    """Whether a person approved `version`, or confirmed that it is, since it became approved last."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM model_events WHERE version = %(version)s AND to_state = 'approved'"
        " AND actor NOT IN ('gate', 'index', 'registry') AND id >="
        "  (SELECT max(id) FROM model_events WHERE version = %(version)s AND to_state = 'approved'"
        "   AND from_state IS DISTINCT FROM to_state))",
        {"version": version},
    ).fetchone()
    assert row is not None  # EXISTS
    return row[0]


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


def _record_event(
    connection: Connection,
    version: str,
    change: tuple[str | None, str],
    actor: str,
    reasons: Sequence[str],
) -> None:
    connection.execute(
        "INSERT INTO model_events (version, from_state, to_state, actor, reasons)"
        " VALUES (%s, %s, %s, %s, %s)",
        [version, *change, actor, Jsonb(list(reasons))],
    )


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
