"""The gate on stored measurements of real models: on tonight's test set and on the general set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from assets_tests.evaluation.small_corpus import add_functions, add_snippet, blur, functions
from assets_tests.evaluation.test_evaluating import documentation_pair, feedback_pair
from pipeline.checks import CHECKS, Subject
from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.evaluation.evaluating import evaluate_on, freeze_test_set
from pipeline.evaluation.frozen_sets import general_set
from pipeline.progress import Silent
from pipeline.promotion import registry
from pipeline.promotion.checks import gate_agrees
from pipeline.promotion.deciding import apply_verdict
from pipeline.promotion.judging import judge
from pipeline.promotion.verdict import Verdict
from pipeline.store.connections import Database
from pipeline.training import store as training_store
from pipeline.training.earlier_sets import training_sets_of
from pipeline.training.pairs import TrainingSet
from pipeline.training.training_set import load_training_set
from pipeline.workbench import Workbench

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder


SMALL = {
    "bootstrap_resamples": 200,
    "permutations": 1000,
    "gate_min_queries": 5,
    "gate_slice_min_queries": 5,
    "general_min_queries": 5,
    "gate_floors": {},
    "min_metric": 0.0,
}


def stored(db: Database, model_version: str, fingerprint: str, *, learned: int, added: bool) -> TrainingSet:
    """A training set with ten documentation queries to test; people judged the code of some of them since."""
    asked = functions()[:10]
    pairs = [documentation_pair(each, functions()[-1]) for each in asked]
    pairs += [
        replace(feedback_pair(f"question {n}", each.content_hash, each.code), split="train", group_key=b"q")
        for n, each in enumerate(asked[:learned])
    ]
    if added:
        pairs = [*pairs[learned:], documentation_pair(functions()[20])]
    with db.connect() as connection:
        set_id = training_store.save_set(
            connection,
            fingerprint=fingerprint,
            pairs_fingerprint=fingerprint,
            model_version=model_version,
            counts={},
            settings={},
            pairs=pairs,
        )
    return load_training_set(db, set_id)


def begun(db: Database, minilm: Encoder, settings: Settings) -> Workbench:
    """The functions in the database, and the base registered."""
    add_functions(db, functions())
    bench = Workbench(settings.model_copy(update=SMALL), Silent(), db)
    assert bench.base_model().version == minilm.version
    return bench


def test_a_second_night_compares_with_what_serves_the_base_and_the_constant_set(
    db: Database, minilm: Encoder, settings: Settings, tmp_path: Path
) -> None:
    from pipeline.encoders.loading import load_encoder

    blur(tmp_path / "worse", noise=4)
    worse = load_encoder(str(tmp_path / "worse"), device="cpu")
    bench = begun(db, minilm, settings)
    small = bench.settings
    with db.connect() as connection:
        registry.set_state(connection, minilm.version, "serving", "index", ["it passed"])
    first = stored(db, minilm.version, "one", learned=0, added=False)
    general = general_set(db, freeze_test_set(db, first), first, small)
    assert general is not None

    add_snippet(db, "def quite_new(): ...", path="new.py", symbol="quite_new")
    second = stored(db, minilm.version, "two", learned=2, added=True)
    tonight = freeze_test_set(db, second)
    assert general_set(db, tonight, second, small) == general
    assert tonight.name != general.name
    candidate = registry.ensure_registered(
        db,
        worse,
        str(tmp_path / "worse"),
        "candidate",
        base_version=minilm.version,
        training_set_id=second.id,
    )
    with pytest.raises(HoneloopError, match="was not measured on the test set in question"):
        judge(bench, candidate, tonight.name, general.name)
    for encoder in (minilm, worse):
        for each in (general, tonight):
            evaluate_on(db, encoder, each, small, Silent())

    verdict = judge(bench, candidate, tonight.name, general.name)
    assert verdict.decision == "rejected"
    assert "that is no improvement" in verdict.reasons[0]
    assert (verdict.test_set, verdict.general_test_set) == (tonight.name, general.name)
    assert verdict.base_version == verdict.serving_version == minilm.version
    (of_general,) = [each for each in verdict.findings if each.about.startswith("general set")]
    assert of_general.difference is not None
    assert of_general.difference.count == 8  # of ten, two were learned from
    assert "2 left out as the candidate learned from their code" in of_general.sentence
    assert not of_general.passed

    record = apply_verdict(db, verdict, candidate.version)
    assert Verdict.from_json(record.metrics["verdict"]) == verdict
    outcome = gate_agrees(bench, record)
    assert outcome.passed, outcome.message
    forged = replace(
        record, metrics=record.metrics | {"verdict": verdict.to_json() | {"decision": "approved"}}
    )
    outcome = gate_agrees(bench, forged)
    assert not outcome.passed
    assert "The gate said 'approved' and says 'rejected' now" in outcome.message


def test_what_a_model_before_the_candidate_learned_from_is_no_test_of_it(
    db: Database, minilm: Encoder, blurred: Encoder, settings: Settings, tmp_path: Path
) -> None:
    from pipeline.encoders.loading import load_encoder

    blur(tmp_path / "tuned", noise=1)
    tuned = load_encoder(str(tmp_path / "tuned"), device="cpu")
    bench = begun(db, minilm, settings)
    small = bench.settings

    def registered(encoder: Encoder, of: TrainingSet, base: str) -> registry.ModelRecord:
        return registry.ensure_registered(
            db, encoder, str(tmp_path), "candidate", base_version=base, training_set_id=of.id
        )

    # What serves learned from the code of three functions that people had judged. They took that back since,
    # and the documentation of the same functions tests what is trained from it.
    first = stored(db, minilm.version, "one", learned=3, added=False)
    general = general_set(db, freeze_test_set(db, first), first, small)
    second = stored(db, minilm.version, "two", learned=0, added=False)
    add_snippet(db, "def quite_new(): ...", path="new.py", symbol="quite_new")
    tonight = freeze_test_set(db, second)
    assert general is not None
    assert general.name != tonight.name
    assert len(tonight.queries) == 10
    serving = registered(blurred, first, minilm.version)
    with db.connect() as connection:
        registry.set_state(connection, serving.version, "approved", "index", ["it passed"])
        registry.set_state(connection, serving.version, "serving", "index", ["it passed"])
    candidate = registered(tuned, second, serving.version)
    assert training_sets_of(db, candidate) == (second.id, first.id)
    for encoder in (minilm, blurred, tuned):
        for each in (general, tonight):
            evaluate_on(db, encoder, each, small, Silent())

    verdict = judge(bench, candidate, tonight.name, general.name)
    counts = {
        each.about: each.difference.count
        for each in verdict.findings
        if each.difference is not None and each.about.split()[0] in ("gain", "general")
    }
    assert counts == {
        "gain over serving": 7,
        "gain over base": 7,
        "general set over serving": 7,
        "general set over base": 7,
    }
    assert "(3 of all left out, as a model before it learned from their code)" in verdict.reasons[0]
    # Nor does the check of the evaluation ask them.
    (check,) = [each for each in CHECKS if each.name == "no_significant_regression"]
    subject = Subject(bench, model=candidate, against=serving.version, test_set=tonight.name)
    assert "on 7 test queries" in check.body(subject).message
    # The same set from the base is judged by all that it holds out.
    cousin = replace(candidate, base_version=minilm.version)
    verdict = judge(bench, cousin, tonight.name, general.name)
    assert verdict.difference is not None
    assert verdict.difference.count == 10
    # A general set of which too little is a test for the whole line is replaced.
    strict = small.model_copy(update={"general_min_queries": 8})
    more = stored(db, minilm.version, "three", learned=0, added=True)
    frozen = freeze_test_set(db, more)
    assert general_set(db, frozen, second, strict) == general
    replaced = general_set(db, frozen, second, strict, [first])
    assert replaced is not None
    assert replaced.name == frozen.name
