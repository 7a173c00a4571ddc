"""Decisions in the registry: the gate's verdict, a person's promotion, and which outranks the other."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from psycopg.types.json import Jsonb

from assets_tests.evaluation.made import CANDIDATE, SERVING, TEST_SET
from assets_tests.evaluation.small_corpus import minilm_directory
from pipeline.config import Settings
from pipeline.errors import BadInputError, HoneloopError
from pipeline.evaluation.online import challenger
from pipeline.evaluation.statistics import Difference
from pipeline.promotion import registry
from pipeline.promotion.deciding import apply_verdict, promote
from pipeline.promotion.gate import Decision, Verdict
from pipeline.promotion.models_view import last_words
from pipeline.promotion.registry import State
from pipeline.promotion.verdicts import list_verdicts
from pipeline.store.connections import Database

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder


def verdict(decision: Decision, *reasons: str) -> Verdict:
    return Verdict(
        decision=decision,
        reasons=reasons or (f"it was {decision}",),
        primary="all",
        difference=Difference(0.02, 0.01, 0.03, 0.001, 60),
        candidate_version=CANDIDATE,
        serving_version=SERVING,
        test_set=TEST_SET,
        metric="ndcg@10",
    )


@pytest.fixture
def two(db: Database) -> Database:
    """A registry in which one model serves and one is a candidate."""
    with db.connect() as connection:
        for version, state in ((SERVING, "serving"), (CANDIDATE, "candidate")):
            connection.execute(
                "INSERT INTO model_versions (version, name, spec, dims, location, state)"
                " VALUES (%s, 'made', %s, 384, '/nowhere', %s)",
                [version, Jsonb({}), state],
            )
    return db


def state(db: Database, version: str = CANDIDATE) -> str:
    return registry.get_record(db, version).state


def move(db: Database, version: str, to: State, actor: str = "index") -> None:
    with db.connect() as connection:
        registry.set_state(connection, version, to, actor, [f"made {to}"])


@pytest.mark.parametrize(
    ("decision", "becomes"),
    [
        ("approved", "approved"),
        ("rejected", "rejected"),
        ("not enough evidence", "candidate"),
        ("already serving", "candidate"),
    ],
)
def test_a_verdict_becomes_a_state_with_its_reasons(two: Database, decision: Decision, becomes: str) -> None:
    record = apply_verdict(two, verdict(decision), CANDIDATE)
    assert record.state == becomes
    assert record.metrics["verdict"]["decision"] == decision
    assert Verdict.from_json(record.metrics["verdict"]) == verdict(decision)
    events = registry.list_events(two, CANDIDATE)
    if decision == "already serving":
        assert events == []
    else:
        assert [(e.actor, e.to_state, e.reasons) for e in events] == [
            ("gate", becomes, (f"it was {decision}",))
        ]
    assert state(two, SERVING) == "serving"


def test_applying_a_verdict_twice_records_it_once(two: Database) -> None:
    for _ in range(2):
        apply_verdict(two, verdict("rejected"), CANDIDATE)
    assert len(registry.list_events(two, CANDIDATE)) == 1
    assert len(list_verdicts(two, CANDIDATE)) == 1


def test_every_verdict_is_kept_with_its_numbers(two: Database) -> None:
    first, second = verdict("not enough evidence"), verdict("approved", "better beyond chance")
    for each in (first, second):
        apply_verdict(two, each, CANDIDATE)
    assert [given.verdict for given in list_verdicts(two, CANDIDATE)] == [second, first]
    assert list_verdicts(two, SERVING) == []
    assert len(list_verdicts(two)) == 2


def test_people_are_shown_only_a_candidate_that_is_neither_proven_nor_refused(two: Database) -> None:
    def shown() -> tuple[str, str] | None:
        with two.connect() as connection:
            return challenger(connection)

    assert shown() is None  # the gate was not asked yet
    apply_verdict(two, verdict("not enough evidence"), CANDIDATE)
    assert shown() == (CANDIDATE, "/nowhere")
    apply_verdict(two, verdict("rejected"), CANDIDATE)
    assert shown() is None


def test_not_enough_evidence_leaves_it_a_candidate_and_is_shown(two: Database) -> None:
    apply_verdict(two, verdict("not enough evidence", "Only 7 test queries."), CANDIDATE)
    assert state(two) == "candidate"
    records, (given,) = registry.list_models(two), list_verdicts(two)
    lines = last_words(records, registry.list_events(two), {CANDIDATE: given}, ())
    assert [str(line) for line in lines if "gate:" in str(line)] == [
        f"{CANDIDATE[:12]} gate: not enough evidence. Only 7 test queries."
    ]


def test_new_evidence_can_turn_a_rejection(two: Database) -> None:
    apply_verdict(two, verdict("rejected"), CANDIDATE)
    assert apply_verdict(two, verdict("approved"), CANDIDATE).state == "approved"
    apply_verdict(two, verdict("rejected", "worse after all"), CANDIDATE)
    assert state(two) == "rejected"


def test_what_serves_is_not_taken_down_by_a_verdict(two: Database) -> None:
    move(two, CANDIDATE, "serving")
    assert apply_verdict(two, verdict("rejected"), CANDIDATE).state == "serving"


def test_a_verdict_against_a_model_that_no_longer_serves_is_refused(two: Database) -> None:
    stale = replace(verdict("approved"), serving_version="d" * 64)
    with pytest.raises(HoneloopError, match=f"against dddddddddddd, and {SERVING[:12]} serves now"):
        apply_verdict(two, stale, CANDIDATE)
    assert state(two) == "candidate"
    assert "verdict" not in registry.get_record(two, CANDIDATE).metrics


def test_a_verdict_about_another_version_is_refused(two: Database) -> None:
    with pytest.raises(HoneloopError, match="is about"):
        apply_verdict(two, verdict("approved"), SERVING)


def test_after_a_rollback_only_a_person_brings_a_version_back(two: Database) -> None:
    apply_verdict(two, verdict("approved"), CANDIDATE)
    move(two, CANDIDATE, "serving")
    move(two, SERVING, "serving", actor="person")  # a rollback
    assert state(two) == "retired"
    record = apply_verdict(two, verdict("approved"), CANDIDATE)
    assert record.state == "retired"
    last = registry.list_events(two, CANDIDATE)[0]
    assert "honeloop promote" in last.reasons[-1]
    # Saying so does not lift the bar.
    assert apply_verdict(two, verdict("approved", "again"), CANDIDATE).state == "retired"


@pytest.mark.parametrize("decision", ["approved", "rejected", "not enough evidence"])
def test_what_a_person_approved_waits_on_whatever_the_gate_says(two: Database, decision: Decision) -> None:
    move(two, CANDIDATE, "approved", actor="person")
    before = registry.list_events(two, CANDIDATE)
    record = apply_verdict(two, verdict(decision), CANDIDATE)
    assert record.state == "approved"
    # Another approval on record would begin its backfill anew.
    assert registry.list_events(two, CANDIDATE) == before
    (given,) = list_verdicts(two, CANDIDATE)
    assert given.verdict.decision == decision
    said = "A person approved it before" in given.verdict.reasons[-1]
    assert said == (decision != "approved")


def a_third(db: Database, state: State) -> str:
    """Another model version, in a state to begin with."""
    version = "d" * 64
    with db.connect() as connection:
        connection.execute(
            "INSERT INTO model_versions (version, name, spec, dims, location, state)"
            " VALUES (%s, 'third', %s, 384, '/nowhere', %s)",
            [version, Jsonb({}), state],
        )
    return version


def test_what_a_person_approved_waits_on_when_the_gate_approves_another(two: Database) -> None:
    chosen = a_third(two, "rejected")
    move(two, chosen, "approved", actor="person")
    record = apply_verdict(two, verdict("approved"), CANDIDATE)
    assert (record.state, state(two, chosen)) == ("candidate", "approved")
    assert record.metrics["verdict"]["decision"] == "approved"
    assert f"{chosen[:12]}, which a person approved, waits" in record.metrics["verdict"]["reasons"][-1]
    # The registry keeps to it, whoever asks; and to what the person decides next.
    with pytest.raises(BadInputError, match="which a person approved, waits"):
        move(two, CANDIDATE, "approved", actor="gate")
    move(two, CANDIDATE, "approved", actor="person")
    assert (state(two), state(two, chosen)) == ("approved", "retired")


def test_what_the_gate_approved_gives_way_to_what_it_approves_next(two: Database) -> None:
    before = a_third(two, "candidate")
    move(two, before, "approved", actor="gate")
    assert apply_verdict(two, verdict("approved"), CANDIDATE).state == "approved"
    assert state(two, before) == "retired"


def test_a_person_may_confirm_what_the_gate_approved_and_that_does_not_outlast_its_approval(
    two: Database,
) -> None:
    apply_verdict(two, verdict("approved"), CANDIDATE)
    move(two, CANDIDATE, "approved", actor="person")
    assert apply_verdict(two, verdict("rejected"), CANDIDATE).state == "approved"
    move(two, CANDIDATE, "serving")
    move(two, SERVING, "serving")
    assert apply_verdict(two, verdict("approved", "again"), CANDIDATE).state == "approved"
    assert apply_verdict(two, verdict("rejected", "and not"), CANDIDATE).state == "rejected"


def test_a_version_that_was_overtaken_may_come_back_by_the_gate(two: Database) -> None:
    move(two, CANDIDATE, "serving")
    move(two, SERVING, "serving")
    assert state(two) == "retired"
    assert apply_verdict(two, verdict("approved"), CANDIDATE).state == "approved"


@pytest.fixture
def real(db: Database, minilm: Encoder, blurred: Encoder, blurred_directory: Path) -> Database:
    """A registry in which MiniLM serves and another real model was rejected."""
    registry.ensure_registered(db, minilm, "minilm")
    registry.ensure_registered(db, blurred, str(blurred_directory), "candidate", base_version=minilm.version)
    move(db, minilm.version, "serving")
    move(db, blurred.version, "rejected", actor="gate")
    return db


def test_a_person_can_overrule_a_rejection_on_the_record(
    real: Database, blurred: Encoder, settings: Settings
) -> None:
    record = promote(real, settings, blurred.version[:8], "  the test set is too old  ")
    assert (record.version, record.state) == (blurred.version, "approved")
    event = registry.list_events(real, blurred.version)[0]
    assert (event.actor, event.from_state, event.to_state) == ("person", "rejected", "approved")
    assert event.reasons[0] == "the test set is too old"
    assert "It was rejected before." in event.reasons
    assert "sanity checks" in event.reasons[1]


def test_a_promotion_needs_a_reason_and_a_version_that_does_not_serve(
    real: Database, minilm: Encoder, blurred: Encoder, settings: Settings
) -> None:
    with pytest.raises(BadInputError, match="needs a reason"):
        promote(real, settings, blurred.version, "  ")
    with pytest.raises(BadInputError, match="serves already"):
        promote(real, settings, minilm.version, "because")
    with pytest.raises(BadInputError, match="No model goes by"):
        promote(real, settings, "0123456789", "because")
    assert state(real, blurred.version) == "rejected"


def test_a_missing_model_is_refused(real: Database, blurred: Encoder, settings: Settings) -> None:
    with real.connect() as connection:
        connection.execute(
            "UPDATE model_versions SET location = '/gone' WHERE version = %s", [blurred.version]
        )
    with pytest.raises(HoneloopError, match="cannot be loaded") as raised:
        promote(real, settings, blurred.version, "because")
    assert raised.value.exit_code == 1
    assert "/gone" in raised.value.hint


def test_a_damaged_or_exchanged_model_is_refused(
    real: Database, blurred: Encoder, blurred_directory: Path, settings: Settings, tmp_path: Path
) -> None:
    place = tmp_path / "model"
    with real.connect() as connection:
        connection.execute(
            "UPDATE model_versions SET location = %s WHERE version = %s", [str(place), blurred.version]
        )
    shutil.copytree(minilm_directory(), place)  # sound, but another model
    with pytest.raises(HoneloopError, match="no longer holds"):
        promote(real, settings, blurred.version, "because")
    weights = place / "model.safetensors"
    weights.write_bytes((blurred_directory / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(HoneloopError, match=r"model\.safetensors"):
        promote(real, settings, blurred.version, "because")
    assert state(real, blurred.version) == "rejected"


def test_an_unsound_model_is_refused_whoever_asks(
    db: Database, minilm: Encoder, settings: Settings, tmp_path: Path
) -> None:
    """A model that gives every text nearly the same vector: its files are whole, it is of no use."""
    from safetensors.numpy import load_file, save_file

    from pipeline.encoders.loading import load_encoder

    directory = tmp_path / "collapsed"
    shutil.copytree(minilm_directory(), directory)
    weights = load_file(directory / "model.safetensors")
    for name, values in weights.items():
        if name.endswith(("output.LayerNorm.weight", "embeddings.LayerNorm.weight")):
            weights[name] = values * 0
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    collapsed = load_encoder(str(directory), device="cpu")
    registry.ensure_registered(db, collapsed, str(directory))
    with pytest.raises(HoneloopError, match="failed its sanity checks"):
        promote(db, settings, collapsed.version, "because")
    assert state(db, collapsed.version) == "base"
