"""The registry: names, lineage, states and their history."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.types.json import Jsonb

from pipeline.config import Settings
from pipeline.errors import BadInputError, HoneloopError
from pipeline.promotion import registry
from pipeline.promotion.registry import State
from pipeline.store.connections import Database

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder


def add(db: Database, version: str, state: State = "candidate", name: str = "made") -> str:
    """A row as a training run elsewhere would have left it."""
    version = version.ljust(64, "0")
    with db.connect() as connection:
        connection.execute(
            "INSERT INTO model_versions (version, name, spec, dims, location, state)"
            " VALUES (%s, %s, %s, 384, '/nowhere', %s)",
            [version, name, Jsonb({}), state],
        )
    return version


def set_state(db: Database, version: str, state: State, actor: str = "gate", *reasons: str) -> State:
    with db.connect() as connection:
        return registry.set_state(connection, version, state, actor, reasons)


def state_of(db: Database, version: str) -> str:
    return registry.get_record(db, version).state


def test_registering_twice_changes_nothing(db: Database, minilm: Encoder) -> None:
    first = registry.ensure_registered(db, minilm, "minilm")
    assert (first.version, first.name, first.dims) == (minilm.version, "minilm", minilm.dims)
    assert (first.state, first.location, first.base_version) == ("base", "minilm", None)
    assert first.spec == minilm.spec.model_dump(mode="json")
    set_state(db, first.version, "serving")
    again = registry.ensure_registered(db, minilm, "minilm", state="candidate", lineage={"seed": 1})
    assert (again.state, again.lineage, again.created_at) == ("serving", {}, first.created_at)
    assert [event.to_state for event in registry.list_events(db)] == ["serving", "base"]


def test_a_fine_tuned_model_carries_its_lineage_and_the_name_of_its_line(
    db: Database, minilm: Encoder, blurred: Encoder
) -> None:
    registry.ensure_registered(db, minilm, "minilm")
    middle = add(db, "d", name="minilm-dddddddddddd")
    with db.connect() as connection:
        connection.execute(
            "UPDATE model_versions SET base_version = %s WHERE version = %s", [minilm.version, middle]
        )
    record = registry.ensure_registered(
        db, blurred, "/somewhere", "candidate", base_version=middle, lineage={"seed": 17}
    )
    assert record.name == f"minilm-{blurred.version[:12]}"
    assert (record.state, record.base_version, record.lineage) == ("candidate", middle, {"seed": 17})


def test_what_it_grew_from_must_be_known(db: Database, blurred: Encoder) -> None:
    with pytest.raises(BadInputError, match="is not registered"):
        registry.ensure_registered(db, blurred, "/somewhere", "candidate", base_version="e" * 64)


def test_a_model_that_moved_is_found_where_it_was_loaded_from(
    db: Database, blurred: Encoder, blurred_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.ensure_registered(db, blurred, "/old/place")
    monkeypatch.chdir(blurred_directory.parent)
    record = registry.ensure_registered(db, blurred, "blurred")
    assert record.location == str(blurred_directory.resolve())


def test_base_and_presets_resolve_without_loading_once_they_are_known(
    db: Database, minilm: Encoder, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A fresh registry: asking registers.
    assert registry.resolve(db, "base", settings).version == minilm.version
    # From here on loading would fail: nothing but the files' hashes may be needed.
    monkeypatch.setitem(sys.modules, "pipeline.encoders.encoder", None)
    assert registry.resolve(db, "base", settings).version == minilm.version
    assert registry.resolve(db, "minilm", settings).location == "minilm"


def test_a_directory_resolves_to_the_model_in_it(
    db: Database, settings: Settings, blurred: Encoder, blurred_directory: Path
) -> None:
    record = registry.resolve(db, str(blurred_directory), settings)
    assert (record.version, record.state) == (blurred.version, "base")
    as_base = settings.model_copy(update={"encoder": str(blurred_directory)})
    assert registry.resolve(db, "base", as_base).version == blurred.version


def test_serving_resolves_to_what_serves(db: Database, settings: Settings) -> None:
    with pytest.raises(HoneloopError, match="nothing is indexed") as raised:
        registry.resolve(db, "serving", settings)
    assert raised.value.exit_code == 1
    assert "honeloop run" in raised.value.hint
    version = add(db, "a1b2c3")
    set_state(db, version, "serving")
    assert registry.resolve(db, "serving", settings).version == version
    assert registry.serving_model(db) == registry.get_record(db, version)


def test_versions_resolve_by_a_unique_beginning_and_by_name(db: Database, settings: Settings) -> None:
    first, second = add(db, "abcdef1", name="one"), add(db, "abcdef2", name="two")
    assert registry.resolve(db, "abcdef1", settings).version == first
    assert registry.resolve(db, "ABCDEF2", settings).version == second
    assert registry.resolve(db, second, settings).version == second
    assert registry.resolve(db, "two", settings).version == second
    with pytest.raises(BadInputError, match="may mean 2 models") as raised:
        registry.resolve(db, "abcdef", settings)
    assert first[:16] in raised.value.hint
    assert second[:16] in raised.value.hint


@pytest.mark.parametrize("name", ["abcde", "ffffff", "no-such-model", "", "abc%", "abcdef_"])
def test_what_nothing_goes_by_is_bad_input_that_lists_what_is_known(
    db: Database, settings: Settings, name: str
) -> None:
    version = add(db, "abcdef1")
    with pytest.raises(BadInputError) as raised:
        registry.resolve(db, name, settings)
    assert version[:12] in raised.value.hint
    assert "minilm" in raised.value.hint


def test_one_serves_and_one_is_approved(db: Database) -> None:
    first, second, third = add(db, "a"), add(db, "b"), add(db, "c")
    set_state(db, first, "serving")
    set_state(db, second, "approved")
    set_state(db, third, "approved")
    assert [state_of(db, v) for v in (first, second, third)] == ["serving", "retired", "approved"]
    assert set_state(db, third, "serving", "index", "recall@10 0.99") == "approved"
    assert [state_of(db, v) for v in (first, second, third)] == ["retired", "retired", "serving"]
    last = registry.list_events(db, first)[0]
    assert (last.from_state, last.to_state, last.actor) == ("serving", "retired", "index")
    assert last.reasons == (f"{third[:12]} took its place", "recall@10 0.99")


def test_what_serves_leaves_that_state_only_for_another(db: Database) -> None:
    version = add(db, "a", "serving")
    for state in ("approved", "rejected", "retired"):
        with pytest.raises(BadInputError, match=f"{version[:12]} serves, so it does not become {state}"):
            set_state(db, version, state)
    assert state_of(db, version) == "serving"
    assert registry.list_events(db, version) == []
    assert set_state(db, version, "serving", "index", "another index of it serves") == "serving"


def test_a_promotion_that_meets_a_flip_waits_for_it_and_is_refused(db: Database) -> None:
    """`promote` looks before it checks the model, which takes a while: it may serve by then."""
    version = add(db, "a", "retired")
    refused: list[HoneloopError] = []

    def promote() -> None:
        try:
            set_state(db, version, "approved")
        except HoneloopError as error:
            refused.append(error)

    promoting = threading.Thread(target=promote)
    with db.connect() as connection:
        registry.set_state(connection, version, "serving", "person", ["rolled back"])
        promoting.start()
        promoting.join(0.3)
        assert promoting.is_alive()
    promoting.join()
    assert [str(error.message) for error in refused] == [
        f"{version[:12]} serves, so it does not become approved."
    ]
    assert state_of(db, version) == "serving"


def test_the_database_itself_allows_one_serving_model(db: Database) -> None:
    add(db, "a", "serving")
    with pytest.raises(psycopg.errors.UniqueViolation):
        add(db, "b", "serving")


def test_a_change_of_state_is_undone_with_its_transaction(db: Database) -> None:
    version = add(db, "a")

    def fails() -> None:
        with db.connect() as connection:
            registry.set_state(connection, version, "approved", "gate", ["better"])
            raise HoneloopError("the flip failed")

    with pytest.raises(HoneloopError):
        fails()
    assert state_of(db, version) == "candidate"
    assert registry.list_events(db) == []


def test_saying_the_same_again_records_nothing_but_new_reasons_are_kept(db: Database) -> None:
    version = add(db, "a")
    set_state(db, version, "rejected", "gate", "worse")
    set_state(db, version, "rejected", "gate", "worse")
    set_state(db, version, "rejected", "gate")
    assert len(registry.list_events(db, version)) == 1
    set_state(db, version, "rejected", "gate", "still worse")
    assert [event.reasons for event in registry.list_events(db, version)] == [("still worse",), ("worse",)]


def test_a_person_who_says_the_same_again_means_it_again(db: Database) -> None:
    version = add(db, "a")
    for _ in range(2):
        set_state(db, version, "approved", "person", "I mean it")
    first, second = reversed(registry.list_events(db, version))
    assert (first.from_state, second.from_state) == ("candidate", "approved")
    assert first.reasons == second.reasons == ("I mean it",)
    assert first.at < second.at
    set_state(db, version, "approved", "gate", "I mean it")  # no decision of its own
    assert len(registry.list_events(db, version)) == 2


def test_no_version_goes_back_to_where_it_started(db: Database) -> None:
    version = add(db, "a", "retired")
    for state in ("base", "candidate"):
        with pytest.raises(ValueError, match=f"starts as {state}"):
            set_state(db, version, state)
    with pytest.raises(BadInputError, match="No model version"):
        set_state(db, "f" * 64, "approved")


def test_listing_gives_lineage_metrics_and_index_versions(db: Database) -> None:
    first, second = add(db, "a"), add(db, "b")
    with db.connect() as connection:
        connection.execute(
            "INSERT INTO index_versions (model_version, state, dims, row_count, recall_at_10)"
            " VALUES (%s, 'retired', 384, 10, 0.97), (%s, 'serving', 384, 12, 0.99)",
            [first, first],
        )
    registry.record_metrics(db, second, {"evaluation": {"queries": 3}})
    registry.record_metrics(db, second, {"sanity": []})
    listed = registry.list_models(db)
    assert [model.version for model in listed] == [first, second]
    assert [(i.state, i.rows, i.recall_at_10) for i in listed[0].index_versions] == [
        ("retired", 10, 0.97),
        ("serving", 12, 0.99),
    ]
    assert listed[1].index_versions == ()
    assert listed[1].metrics == {"evaluation": {"queries": 3}, "sanity": []}
