"""Carries decisions into the registry: the gate's verdict, and a person's own promotion."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from pipeline.config import Settings
from pipeline.errors import BadInputError, HoneloopError
from pipeline.progress import Progress
from pipeline.promotion import registry
from pipeline.promotion.registry import ModelRecord, State
from pipeline.promotion.verdict import Verdict
from pipeline.promotion.verdicts import store_verdict
from pipeline.promotion.weights import require_weights, weights_in_use
from pipeline.store.connections import Connection, Database


def apply_verdict(db: Database, verdict: Verdict, version: str) -> ModelRecord:
    """Writes the gate's verdict on `version` to the registry, with its reasons, and returns its new record.

    Approved and rejected change its state; "not enough evidence" and "already serving" leave it. Three things
    outrank the gate: what serves is not taken down by a verdict, what a person approved waits on for its
    index, whichever version the verdict is about, and a version that a person took out of service comes back
    by a person only. Applying a verdict twice changes no state and records nothing again.

    Raises:
        HoneloopError: another model serves than the one the verdict was found against, or the verdict is
            about another version.
    """
    if verdict.candidate_version != version:
        raise HoneloopError(
            f"The verdict is about {verdict.candidate_version[:12]}, not about {version[:12]}.",
            hint="Evaluate it again.",
        )
    with db.connect() as connection:
        record = registry.get_model(connection, version)
        reasons = list(verdict.reasons)
        if record.state != "serving" and verdict.decision != "already serving":
            _require_still_serving(connection, verdict.serving_version)
            state: State | None = record.state
            if state == "approved" and registry.approved_by_a_person(connection, version):
                state = None  # nor is it an event: each that says approved begins a backfill of its own
                if not verdict.approved:
                    reasons.append("A person approved it before, so it serves as soon as its index is built.")
            elif verdict.approved and _taken_down_by_a_person(connection, version):
                reasons.append("A person took it out of service before; only `honeloop promote` revives it.")
            elif verdict.approved and (waiting := registry.waiting_for_people(connection, version)):
                reasons.append(
                    f"{waiting[:12]}, which a person approved, waits for its index and is to serve first; "
                    "`honeloop promote` prefers this one."
                )
            elif verdict.approved:
                state = "approved"
            elif verdict.decision == "rejected" and state != "retired":
                state = "rejected"
            if state is not None:
                registry.set_state(connection, version, state, "gate", reasons)
        said = verdict.to_json() | {"reasons": reasons, "at": datetime.now(UTC).isoformat()}
        registry.store_metrics(connection, version, {"verdict": said})
        store_verdict(connection, replace(verdict, reasons=tuple(reasons)))
        return registry.get_model(connection, version)


def promote(
    db: Database,
    settings: Settings,
    version: str,
    reason: str,
    *,
    actor: str = "person",
    progress: Progress | None = None,
) -> ModelRecord:
    """Approves `version` by a person's decision, whatever the gate said; the next index build lets it serve.

    It is loaded first, which verifies its files, and must pass the sanity checks: a person may overrule
    figures, but not a broken model.

    Args:
        db: The database.
        settings: Where and how to load it.
        version: Anything `registry.resolve` understands.
        reason: Recorded with the decision; not empty.
        actor: Who decided.
        progress: Told of an export, should one be made.

    Raises:
        BadInputError: no reason is given, no such version is known, or it serves already.
        HoneloopError: its checkpoint is missing or damaged or was given up, or a sanity check failed.
    """
    if not reason.strip():
        raise BadInputError("A promotion needs a reason.", hint="Say why with --reason.")
    record = registry.resolve(db, version, settings, progress)
    if record.state == "serving":
        raise BadInputError(f"{record.name} ({record.version[:12]}) serves already.")
    with weights_in_use(db, record.version):
        passed = require_sound(db, record, settings, progress)
        reasons = [reason.strip(), f"It passed all {passed} sanity checks."]
        if record.state in ("rejected", "retired"):
            reasons.append(f"It was {record.state} before.")
        with db.connect() as connection:
            registry.set_state(connection, record.version, "approved", actor, reasons)
            return registry.get_model(connection, record.version)


def require_sound(
    db: Database, record: ModelRecord, settings: Settings, progress: Progress | None = None
) -> int:
    """Loads the version, which hashes its files, and runs the sanity checks; returns how many passed.

    Raises:
        HoneloopError: its weights were given up, it cannot be loaded, its files are another version's by now,
            or it is not sane.
    """
    from pipeline.encoders.loading import load_as_set
    from pipeline.promotion.sanity import check_anew, require_sane

    require_weights(registry.get_record(db, record.version))
    try:
        encoder = load_as_set(record.location, settings, progress)
    except BadInputError as error:  # the name was good; what it stood for is gone
        raise HoneloopError(
            f"{record.name} ({record.version[:12]}) cannot be loaded: {error.message}",
            hint=f"Restore {record.location} from a copy, or train again.",
        ) from error
    if encoder.version != record.version:
        raise HoneloopError(
            f"{record.location} no longer holds {record.version[:12]} but {encoder.version[:12]}.",
            hint="Restore it from a copy, or promote the version it holds now.",
        )
    results = check_anew(db, settings, encoder)
    require_sane(record, results)
    return len(results)


def _require_still_serving(connection: Connection, expected: str) -> None:
    row = connection.execute(
        "SELECT version FROM model_versions WHERE state = 'serving' FOR SHARE"
    ).fetchone()
    serving = None if row is None else row[0]
    if serving != expected:
        now = "nothing" if serving is None else serving[:12]
        raise HoneloopError(
            f"The verdict was found against {expected[:12]}, and {now} serves now.",
            hint="Evaluate the candidate against the model that serves.",
        )


def _taken_down_by_a_person(connection: Connection, version: str) -> bool:
    """Whether its last change of state was a rollback."""
    row = connection.execute(
        "SELECT from_state, to_state, actor FROM model_events"
        " WHERE version = %s AND from_state IS DISTINCT FROM to_state ORDER BY id DESC LIMIT 1",
        [version],
    ).fetchone()
    return row == ("serving", "retired", "person")
