"""The flip: which index version serves changes in one transaction, and changes back in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from pipeline.config import Settings, load_settings
from pipeline.errors import BadInputError, HoneloopError, OvertakenError
from pipeline.index.challenging import dismiss_challenger
from pipeline.index.cleaning import drop_retired
from pipeline.index.tables import VectorTable
from pipeline.index.verifying import hnsw_name
from pipeline.promotion import registry
from pipeline.store.connections import Connection, Database


@dataclass(frozen=True)
class FlipReport:
    """What serves since the flip.

    Args:
        index_version_id: It.
        model_version: Its model.
        previous_index_version_id: What served before; None if nothing did.
        previous_model_version: Whose vectors that held.
        dropped: Retired index versions beyond those kept, whose tables were dropped afterwards.
    """

    index_version_id: int
    model_version: str
    previous_index_version_id: int | None
    previous_model_version: str | None
    dropped: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Version:
    id: int
    model_version: str
    table_name: str | None
    dims: int
    state: str
    previous_id: int | None
    recall_at_10: float | None
    model_state: str
    model_name: str
    location: str
    fine_tuned: bool


def flip(
    db: Database,
    index_version_id: int,
    *,
    actor: str,
    reasons: Sequence[str],
    settings: Settings | None = None,
    unless_overtaken: bool = False,
) -> FlipReport:
    """Lets a ready index version serve, and retires the one that did, in one transaction.

    A search sees either the one or the other. Flipping to what already serves changes nothing.

    Args:
        db: The database.
        index_version_id: From `build_index`.
        actor: Who decided it: gate, index, person.
        reasons: Why; recorded with the model's change of state.
        settings: Give how many retired index versions are kept; None: the settings in force.
        unless_overtaken: Whether it only follows a decision that was made before it was built, so that a
            later one, a promotion or a rollback, is not undone.

    Raises:
        BadInputError: there is no such index version.
        OvertakenError: its model neither serves nor is approved any more, or another index of it serves.
        HoneloopError: it is not ready, its table is not what it should be, or its model version has not been
            approved, or its files are missing or damaged.
    """
    keep = (settings or load_settings()).keep_retired_indexes
    with db.connect() as connection:
        _one_flip_at_a_time(connection)
        target = _get(connection, index_version_id)
        serving = _serving(connection)
        if serving is not None and serving.id == target.id:
            previous = _find(connection, target.previous_id)
            return FlipReport(
                target.id,
                target.model_version,
                target.previous_id,
                previous.model_version if previous else None,
            )
        if unless_overtaken:
            _require_wanted(target, serving)
        if target.state != "ready":
            raise HoneloopError(
                f"Index version {target.id} is {target.state}, not ready to serve.",
                hint="Build one with `honeloop index`, or go back with `honeloop rollback`.",
            )
        if target.recall_at_10 is None:
            raise HoneloopError(f"The recall of index version {target.id} was never measured.")
        _require_approved(target)
        previous_id = serving.id if serving else None
        _switch(connection, serving, target, actor=actor, reasons=reasons, previous=previous_id)
    return FlipReport(
        target.id,
        target.model_version,
        serving.id if serving else None,
        serving.model_version if serving else None,
        drop_retired(db, keep),
    )


def rollback(db: Database, *, actor: str = "person", reasons: Sequence[str] = ()) -> FlipReport:
    """Lets the index version serve again that served before this one, in one transaction.

    Rolling back again goes one further back, never forward. A model that waits for its index by the gate's
    approval was measured against what is taken down here, and retires with it; what a person approved waits
    on, as that is a decision, too.

    Raises:
        HoneloopError: nothing serves, or nothing served before, or it was dropped, or its model's files are
            missing or damaged.
    """
    with db.connect() as connection:
        _one_flip_at_a_time(connection)
        serving = _serving(connection)
        if serving is None:
            raise HoneloopError("Nothing serves yet.", hint="Run `honeloop run` or `honeloop index`.")
        target = _find(connection, serving.previous_id)
        if target is None:
            raise HoneloopError(
                f"Nothing served before index version {serving.id}, so there is nothing to go back to.",
                hint="`honeloop promote VERSION --reason TEXT` lets another model serve.",
            )
        if target.state != "retired":
            raise HoneloopError(
                f"Index version {target.id}, which served before, is {target.state}; it cannot serve again.",
                hint="Promote its model again with `honeloop promote`; raise HONELOOP_KEEP_RETIRED_INDEXES"
                " to keep more.",
            )
        why = [f"rolled back from index version {serving.id}", *reasons]
        _switch(connection, serving, target, actor=actor, reasons=why, previous=target.previous_id)
    return FlipReport(target.id, target.model_version, serving.id, serving.model_version)


def _one_flip_at_a_time(connection: Connection) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('honeloop.flip', 0))")


def _switch(
    connection: Connection,
    serving: _Version | None,
    target: _Version,
    *,
    actor: str,
    reasons: Sequence[str],
    previous: int | None,
) -> None:
    _require_sound_table(connection, target)
    if serving is None or serving.model_version != target.model_version:
        _require_whole_model(target)
    if serving is not None:
        connection.execute(
            "UPDATE index_versions SET state = 'retired', served_until = now() WHERE id = %s", [serving.id]
        )
    connection.execute(
        "UPDATE index_versions SET state = 'serving', served_from = now(), served_until = NULL,"
        " previous_id = %s WHERE id = %s",
        [previous, target.id],
    )
    dismiss_challenger(connection, target.model_version)  # what it was compared with no longer serves
    registry.set_state(
        connection,
        target.model_version,
        "serving",
        actor,
        [*reasons, f"index version {target.id} serves"],
    )
    _retire_overtaken(connection, target)


def _retire_overtaken(connection: Connection, serving: _Version) -> None:
    """Retires the model that waits by a verdict against another than what serves now: that holds no more."""
    row = connection.execute(
        "SELECT version, metrics -> 'verdict' ->> 'serving_version' FROM model_versions"
        " WHERE state = 'approved' FOR UPDATE"
    ).fetchone()
    if row is None:
        return
    version, against = row
    if against in (None, serving.model_version) or registry.approved_by_a_person(connection, version):
        return
    registry.set_state(
        connection,
        version,
        "retired",
        "index",
        [f"the gate approved it against {against[:12]}, and {serving.model_version[:12]} serves now"],
    )


def _require_wanted(target: _Version, serving: _Version | None) -> None:
    if serving is None or (target.state == "ready" and target.model_state in ("approved", "serving")):
        return
    raise OvertakenError(
        f"While index version {target.id} of {target.model_name} was built, index version {serving.id} of"
        f" {serving.model_name} took over; it goes on serving.",
        hint="Nothing is wrong: `honeloop index` brings it up to date, and `honeloop up` does so by itself.",
    )


def _require_approved(target: _Version) -> None:
    if target.model_state in ("candidate", "rejected"):
        raise HoneloopError(
            f"The model {target.model_name} ({target.model_version[:12]}) is {target.model_state}:"
            " it has not passed the gate, so its index does not serve.",
            hint="`honeloop promote VERSION --reason TEXT` approves it by hand.",
        )


def _require_whole_model(target: _Version) -> None:
    """What was fine-tuned here must lie there still, as its queries could not be embedded without it."""
    if not target.fine_tuned:
        return
    from pipeline.encoders.loading import version_of

    try:
        found = version_of(target.location)
    except HoneloopError as error:
        raise HoneloopError(
            f"Index version {target.id} cannot serve, as its model cannot: {error.message}",
            hint=f"{error.hint} What served goes on serving.".strip(),
        ) from error
    if found != target.model_version:
        raise HoneloopError(
            f"Index version {target.id} cannot serve: {target.location} holds {found[:12]}, not its model"
            f" {target.model_version[:12]}.",
            hint="Put the model's files back. What served goes on serving.",
        )


def _require_sound_table(connection: Connection, target: _Version) -> None:
    """The table must be there, with the registered dimensions, its guard and a valid HNSW index."""
    if target.table_name is None:
        raise HoneloopError(f"The table of index version {target.id} is gone.")
    table = VectorTable(target.table_name, target.model_version, target.dims)
    row = connection.execute(
        "SELECT format_type(a.atttypid, a.atttypmod), coalesce(x.indisvalid, false), EXISTS"
        " (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'only_its_model'"
        "  AND t.tgenabled = 'O' AND convert_from(rtrim(t.tgargs, '\\x00'::bytea), 'UTF8') = %(version)s)"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'embedding'"
        " LEFT JOIN pg_index x ON x.indrelid = c.oid AND x.indexrelid = to_regclass(quote_ident(%(hnsw)s))"
        " WHERE c.oid = to_regclass(quote_ident(%(table)s))",
        {"table": table.name, "hnsw": hnsw_name(table), "version": table.model_version},
    ).fetchone()
    if row is None:
        raise HoneloopError(f"The table {table.name} of index version {target.id} is gone.")
    kind, valid, guarded = row
    if kind != f"halfvec({table.dims})" or not valid or not guarded:
        raise HoneloopError(
            f"The table {table.name} is not the index of {table.dims} dimensions that was built: its column"
            f" is {kind}, its HNSW index is {'valid' if valid else 'missing'}, its guard against other"
            f" models' vectors is {'in force' if guarded else 'missing'}.",
            hint="Something else changed it; build a new one with `honeloop index`.",
        )


_SELECT = sql.SQL(
    "SELECT i.id, i.model_version, i.table_name, i.dims, i.state, i.previous_id, i.recall_at_10,"
    " m.state, m.name, m.location, m.base_version IS NOT NULL"
    " FROM index_versions i JOIN model_versions m ON m.version = i.model_version"
)


def _get(connection: Connection, index_version_id: int) -> _Version:
    found = _find(connection, index_version_id)
    if found is None:
        raise BadInputError(
            f"There is no index version {index_version_id}.", hint="`honeloop status` lists them."
        )
    return found


def _find(connection: Connection, index_version_id: int | None) -> _Version | None:
    row = connection.execute(
        _SELECT + sql.SQL(" WHERE i.id = %s FOR UPDATE OF i"), [index_version_id]
    ).fetchone()
    return None if row is None else _Version(*row)


def _serving(connection: Connection) -> _Version | None:
    row = connection.execute(_SELECT + sql.SQL(" WHERE i.state = 'serving' FOR UPDATE OF i")).fetchone()
    return None if row is None else _Version(*row)
