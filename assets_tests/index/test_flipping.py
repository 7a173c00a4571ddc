"""The flip and its way back: one transaction each, only for what is sound and approved."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import (
    Function,
    add_functions,
    another_model,
    build,
    serve,
    store_vectors,
)
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.errors import BadInputError, HoneloopError, OvertakenError
from pipeline.index.building import build_index
from pipeline.index.flipping import flip, rollback
from pipeline.index.serving import index_counts, serving_index
from pipeline.progress import Silent
from pipeline.promotion.deciding import apply_verdict
from pipeline.promotion.registry import list_events, list_models, set_state
from pipeline.promotion.verdict import Verdict
from pipeline.search.query import search
from pipeline.store.connections import Database

Vectors = NDArray[np.float32]
Functions = tuple[Function, ...]


@pytest.fixture
def corpus(db: Database, minilm: Encoder, functions: Functions, vectors: Vectors) -> Functions:
    """60 live functions, with vectors of minilm."""
    add_functions(db, functions[:60])
    store_vectors(db, minilm, functions[:60], vectors[:60])
    return functions[:60]


def anew(settings: Settings, m: int) -> Settings:
    """Settings under which the index in hand is not reused."""
    return settings.model_copy(update={"hnsw_m": m})


def index_states(db: Database) -> dict[int, str]:
    return {count.index_version_id: count.state for count in index_counts(db)}


def model_states(db: Database) -> dict[str, str]:
    return {model.version: model.state for model in list_models(db)}


def approve(db: Database, version: str, state: str = "approved") -> None:
    with db.connect() as connection:
        connection.execute("UPDATE model_versions SET state = %s WHERE version = %s", [state, version])


@pytest.mark.usefixtures("corpus")
def test_nothing_serves_before_the_first_flip(db: Database, settings: Settings, minilm: Encoder) -> None:
    report = build(db, minilm, settings)
    with pytest.raises(HoneloopError, match="Nothing is indexed yet"):
        serving_index(db)
    flipped = flip(db, report.index_version_id, actor="index", reasons=["first"], settings=settings)
    assert flipped.previous_index_version_id is None
    serving = serving_index(db)
    assert (serving.index_version_id, serving.model_version) == (report.index_version_id, minilm.version)
    assert serving.location == "minilm"
    assert model_states(db) == {minilm.version: "serving"}
    event = list_events(db, minilm.version)[0]
    assert (event.from_state, event.to_state, event.actor) == ("base", "serving", "index")
    assert event.reasons == ("first", f"index version {report.index_version_id} serves")
    # Again: nothing changes.
    again = flip(db, report.index_version_id, actor="index", reasons=["again"], settings=settings)
    assert again.index_version_id == report.index_version_id
    assert list_events(db, minilm.version)[0] == event


def test_a_flip_to_another_model_and_back(
    db: Database, settings: Settings, minilm: Encoder, corpus: Functions, vectors: Vectors
) -> None:
    other = another_model(minilm)
    store_vectors(db, other, corpus, vectors[:60])
    approve(db, other.version)
    first = serve(db, minilm, settings)
    second = build(db, other, settings)
    flipped = flip(db, second.index_version_id, actor="gate", reasons=["better"], settings=settings)
    assert flipped.previous_index_version_id == first.index_version_id
    assert flipped.previous_model_version == minilm.version
    assert model_states(db) == {minilm.version: "retired", other.version: "serving"}
    assert index_states(db) == {first.index_version_id: "retired", second.index_version_id: "serving"}

    back = rollback(db, reasons=["worse after all"])
    assert (back.index_version_id, back.model_version) == (first.index_version_id, minilm.version)
    assert model_states(db) == {minilm.version: "serving", other.version: "retired"}
    assert index_states(db) == {first.index_version_id: "serving", second.index_version_id: "retired"}
    reasons = list_events(db, minilm.version)[0].reasons
    assert reasons[:2] == (f"rolled back from index version {second.index_version_id}", "worse after all")
    with pytest.raises(HoneloopError, match="Nothing served before index version"):
        rollback(db)


@pytest.mark.usefixtures("corpus")
def test_rolling_back_twice_goes_two_back_and_old_versions_are_dropped(
    db: Database, settings: Settings, minilm: Encoder
) -> None:
    with pytest.raises(HoneloopError, match="Nothing serves yet"):
        rollback(db)
    ids = [serve(db, minilm, anew(settings, m)).index_version_id for m in (8, 9, 10, 11)]
    # Two retired ones are kept.
    assert index_states(db) == dict(zip(ids, ["dropped", "retired", "retired", "serving"], strict=True))
    assert rollback(db).index_version_id == ids[2]
    assert rollback(db).index_version_id == ids[1]
    with pytest.raises(HoneloopError, match=f"Index version {ids[0]}, which served before, is dropped"):
        rollback(db)
    assert serving_index(db).index_version_id == ids[1]


@pytest.mark.usefixtures("corpus")
def test_what_a_rollback_wants_is_kept_before_what_was_rolled_back_from(
    db: Database, settings: Settings, minilm: Encoder
) -> None:
    first, second, bad = (serve(db, minilm, anew(settings, m)).index_version_id for m in (8, 9, 10))
    rollback(db)
    serve(db, minilm, anew(settings, 11))
    # Two are kept: not the one that was found bad, though it served later than the first.
    assert [index_states(db)[i] for i in (first, second, bad)] == ["retired", "retired", "dropped"]
    assert [rollback(db).index_version_id, rollback(db).index_version_id] == [second, first]


@pytest.mark.usefixtures("corpus")
def test_a_flip_to_what_is_not_ready_is_refused(db: Database, settings: Settings, minilm: Encoder) -> None:
    first = serve(db, minilm, settings)
    second = serve(db, minilm, anew(settings, 8))
    with pytest.raises(HoneloopError, match="is retired, not ready"):
        flip(db, first.index_version_id, actor="person", reasons=["x"], settings=settings)
    with pytest.raises(BadInputError, match="There is no index version 99"):
        flip(db, 99, actor="person", reasons=["x"], settings=settings)
    assert serving_index(db).index_version_id == second.index_version_id


@pytest.mark.parametrize("state", ["candidate", "rejected"])
def test_a_model_that_did_not_pass_the_gate_does_not_serve(
    db: Database, settings: Settings, minilm: Encoder, corpus: Functions, state: str
) -> None:
    other = another_model(minilm)
    store_vectors(db, other, corpus, other.embed_documents([f.code for f in corpus]))
    first = serve(db, minilm, settings)
    second = build(db, other, settings)
    approve(db, other.version, state)
    with pytest.raises(HoneloopError, match="has not passed the gate"):
        flip(db, second.index_version_id, actor="gate", reasons=["x"], settings=settings)
    assert serving_index(db).index_version_id == first.index_version_id


@pytest.mark.parametrize(
    ("tampering", "message"),
    [
        ("DROP TRIGGER only_its_model ON {table}", "vectors is missing"),
        ("ALTER TABLE {table} DISABLE TRIGGER only_its_model", "vectors is missing"),
        ("DROP INDEX {table}_hnsw", "HNSW index is missing"),
        ("DROP TABLE {table}", "is gone"),
        (
            "DROP TABLE {table}; CREATE TABLE {table} (content_hash bytea, embedding halfvec(3))",
            r"its column is halfvec\(3\)",
        ),
    ],
)
@pytest.mark.usefixtures("corpus")
def test_a_table_that_is_not_what_was_built_does_not_serve(
    db: Database, settings: Settings, minilm: Encoder, tampering: str, message: str
) -> None:
    first = serve(db, minilm, settings)
    second = build(db, minilm, anew(settings, 8))
    with db.connect() as connection:
        connection.execute(tampering.format(table=f"index_{second.index_version_id}").encode())
    with pytest.raises(HoneloopError, match=message):
        flip(db, second.index_version_id, actor="index", reasons=["x"], settings=settings)
    assert serving_index(db).index_version_id == first.index_version_id
    assert model_states(db)[minilm.version] == "serving"


def test_searches_during_flips_see_one_index_version_whole(
    db: Database, settings: Settings, minilm: Encoder, functions: Functions, vectors: Vectors
) -> None:
    """Searches run without a pause while the index is flipped and rolled back; each is of one version."""
    small, large = functions[:40], functions[:90]
    add_functions(db, small)
    store_vectors(db, minilm, large, vectors[:90])
    first = serve(db, minilm, settings)
    expected = {
        first.index_version_id: [r.code for r in search(db, minilm, "open a file", record=False).results]
    }
    add_functions(db, large[40:])
    stop = threading.Event()
    seen: dict[int, set[tuple[str, ...]]] = {}

    def keep_searching() -> int:
        count = 0
        while not stop.is_set():
            answer = search(db, minilm, "open a file", record=False)
            codes = tuple(result.code for result in answer.results)
            seen.setdefault(answer.index_version_id, set()).add(codes)
            count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        searching = pool.submit(keep_searching)
        try:
            for m in (7, 8, 9):
                report = build_index(db, minilm.version, anew(settings, m), Silent())
                flip(db, report.index_version_id, actor="index", reasons=[], settings=settings)
                expected[report.index_version_id] = [
                    r.code for r in search(db, minilm, "open a file", record=False).results
                ]
                if m == 8:
                    rollback(db)
        finally:
            stop.set()
        assert searching.result() > 3
    assert len(seen) > 1
    for index_id, answers in seen.items():
        assert answers == {tuple(expected[index_id])}


@pytest.mark.usefixtures("corpus")
def test_of_two_flips_at_once_one_waits(db: Database, settings: Settings, minilm: Encoder) -> None:
    serve(db, minilm, settings)
    report = build(db, minilm, anew(settings, 8))
    with ThreadPoolExecutor(2) as pool:
        flips = list(
            pool.map(
                lambda _: flip(db, report.index_version_id, actor="index", reasons=[], settings=settings),
                range(2),
            )
        )
    assert {each.index_version_id for each in flips} == {report.index_version_id}
    assert list(index_states(db).values()).count("serving") == 1


def test_a_flip_that_was_overtaken_undoes_nothing(
    db: Database, settings: Settings, minilm: Encoder, corpus: Functions, vectors: Vectors
) -> None:
    other = another_model(minilm)
    store_vectors(db, other, corpus, vectors[:60])
    first = serve(db, minilm, settings)
    second = build(db, minilm, anew(settings, 8))
    approve(db, other.version)
    follow = partial(flip, db, actor="index", reasons=["built"], settings=settings, unless_overtaken=True)
    # A model that is only approved took nobody's place yet.
    assert follow(second.index_version_id).previous_index_version_id == first.index_version_id
    third = build(db, minilm, anew(settings, 9))
    others = build(db, other, settings)
    assert follow(others.index_version_id).model_version == other.version
    for built in (second, third):  # retired meanwhile, and of a model that was
        with pytest.raises(OvertakenError, match=f"index version {others.index_version_id} of .* took over"):
            follow(built.index_version_id)
    assert serving_index(db).index_version_id == others.index_version_id
    # A person may: that is a decision.
    flip(db, third.index_version_id, actor="person", reasons=["after all"], settings=settings)
    assert serving_index(db).index_version_id == third.index_version_id


@pytest.fixture
def promoted(
    db: Database, settings: Settings, minilm: Encoder, corpus: Functions, vectors: Vectors
) -> tuple[Encoder, Encoder]:
    """MiniLM served; the first of these two took its place, and has two indexes; the other is a candidate."""
    two = another_model(minilm, "minilm-served"), another_model(minilm, "minilm-waiting")
    for encoder in two:
        store_vectors(db, encoder, corpus, vectors[:60])
    serve(db, minilm, settings)
    approve(db, two[0].version)
    serve(db, two[0], settings)
    serve(db, two[0], anew(settings, 8))
    approve(db, two[1].version, "candidate")
    return two


def passed(candidate: Encoder, serving: Encoder) -> Verdict:
    return Verdict(
        decision="approved",
        reasons=("better beyond chance",),
        primary="all",
        difference=None,
        candidate_version=candidate.version,
        serving_version=serving.version,
        test_set="ab" * 32,
        metric="ndcg@10",
    )


def test_what_the_gate_approved_does_not_undo_a_rollback(
    db: Database, settings: Settings, minilm: Encoder, promoted: tuple[Encoder, Encoder]
) -> None:
    """It was measured against what was found bad, and never against what serves again."""
    served, waiting = promoted
    apply_verdict(db, passed(waiting, served), waiting.version)
    follow = partial(flip, db, actor="index", reasons=["built"], settings=settings, unless_overtaken=True)
    rollback(db)  # to the index before of the same model, against which it was measured
    assert model_states(db)[waiting.version] == "approved"
    built = build(db, waiting, settings)
    back = rollback(db)
    assert back.model_version == minilm.version
    assert model_states(db)[waiting.version] == "retired"
    event = list_events(db, waiting.version)[0]
    assert (event.from_state, event.to_state, event.actor) == ("approved", "retired", "index")
    assert event.reasons == (
        f"the gate approved it against {served.version[:12]}, and {minilm.version[:12]} serves now",
    )
    with pytest.raises(OvertakenError, match="took over"):
        follow(built.index_version_id)
    assert serving_index(db).index_version_id == back.index_version_id
    # Measured against what serves now, it may come back.
    assert apply_verdict(db, passed(waiting, minilm), waiting.version).state == "approved"
    assert follow(built.index_version_id).model_version == waiting.version


def test_what_a_person_approved_waits_on_after_a_rollback(
    db: Database, settings: Settings, minilm: Encoder, promoted: tuple[Encoder, Encoder]
) -> None:
    served, waiting = promoted
    apply_verdict(db, passed(waiting, served), waiting.version)
    with db.connect() as connection:
        set_state(connection, waiting.version, "approved", "person", ["I want to see it"])
    assert [rollback(db).model_version for _ in range(2)] == [served.version, minilm.version]
    assert model_states(db)[waiting.version] == "approved"
    built = build(db, waiting, settings)
    flip(
        db,
        built.index_version_id,
        actor="index",
        reasons=["built"],
        settings=settings,
        unless_overtaken=True,
    )
    assert serving_index(db).model_version == waiting.version
