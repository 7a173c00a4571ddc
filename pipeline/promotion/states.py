"""The states of model versions: what becomes what, by whom and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast, get_args

from psycopg.types.json import Jsonb

from pipeline.errors import BadInputError
from pipeline.store.connections import Connection, Database

State = Literal["base", "candidate", "approved", "serving", "retired", "rejected"]
STATES: tuple[State, ...] = get_args(State)
# Who decides by rule; all others are persons.
BY_RULE = frozenset(("gate", "index", "registry"))


@dataclass(frozen=True)
class ModelEvent:
    """One change of a model version's state: who decided it (gate, index, person, registry) and why."""

    version: str
    from_state: str | None
    to_state: str
    actor: str
    reasons: tuple[str, ...]
    at: datetime


def set_state(
    connection: Connection, version: str, state: State, actor: str, reasons: Sequence[str] = ()
) -> State:
    """Moves `version` to `state` in the caller's transaction, records why, and returns the state it had.

    One version serves and at most one is approved to follow it: setting either retires the one before it.
    What serves goes on serving until another takes its place: an index that serves has a model that does.
    Saying what already holds, with the same reasons as last time, records nothing, unless a person says it:
    they mean that it be tried again.

    What a person approved waits until they approve another, or it serves: no rule puts another in its place.

    Raises:
        BadInputError: no such version is registered, it serves, perhaps since a moment ago, or a rule
            approves it while another waits that a person approved.
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
    if state == "approved" and actor in BY_RULE and (waiting := waiting_for_people(connection, version)):
        raise BadInputError(
            f"{waiting[:12]}, which a person approved, waits for its index; {version[:12]} is not approved.",
            hint="`honeloop promote` lets the one or the other serve.",
        )
    if state in ("serving", "approved"):
        retired = connection.execute(
            "UPDATE model_versions SET state = 'retired' WHERE state = %s AND version <> %s"
            " RETURNING version",
            [state, version],
        ).fetchall()
        for (other,) in retired:
            record_event(
                connection, other, (state, "retired"), actor, [f"{version[:12]} took its place", *reasons]
            )
    connection.execute("UPDATE model_versions SET state = %s WHERE version = %s", [state, version])
    record_event(connection, version, (before, state), actor, reasons)
    return before


def approved_by_a_person(connection: Connection, version: str) -> bool:
    """Whether a person approved `version`, or confirmed that it is, since it became approved last."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM model_events WHERE version = %(version)s AND to_state = 'approved'"
        " AND actor <> ALL(%(rules)s) AND id >="
        "  (SELECT max(id) FROM model_events WHERE version = %(version)s AND to_state = 'approved'"
        "   AND from_state IS DISTINCT FROM to_state))",
        {"version": version, "rules": sorted(BY_RULE)},
    ).fetchone()
    assert row is not None  # EXISTS
    return row[0]


def waiting_for_people(connection: Connection, besides: str) -> str | None:
    """The version that a person approved and that waits for its index, if it is not `besides`."""
    waiting = connection.execute(
        "SELECT version FROM model_versions WHERE state = 'approved' AND version <> %s FOR UPDATE", [besides]
    ).fetchall()
    return next((version for (version,) in waiting if approved_by_a_person(connection, version)), None)


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


def record_event(
    connection: Connection,
    version: str,
    change: tuple[str | None, str],
    actor: str,
    reasons: Sequence[str],
) -> None:
    """Notes that a version came from a state, None where it begins, to another; in the same transaction."""
    connection.execute(
        "INSERT INTO model_events (version, from_state, to_state, actor, reasons)"
        " VALUES (%s, %s, %s, %s, %s)",
        [version, *change, actor, Jsonb(list(reasons))],
    )
