"""The gate applied to what is stored: measurements from the database, sanity from the candidate's weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.errors import HoneloopError
from pipeline.evaluation.frozen_sets import learned_from, load_frozen
from pipeline.evaluation.results import Evaluation
from pipeline.evaluation.store import find_evaluation
from pipeline.promotion.gate import GateThresholds, GeneralMeasurements, Measurements, Verdict, decide
from pipeline.promotion.registry import ModelRecord
from pipeline.promotion.sanity import sanity_of
from pipeline.training.earlier_sets import earlier_sets
from pipeline.training.pairs import TrainingSet
from pipeline.training.training_set import load_training_set

if TYPE_CHECKING:
    from pipeline.workbench import Workbench


def judge(bench: Workbench, candidate: ModelRecord, test_set: str, general: str | None = None) -> Verdict:
    """The gate's verdict on `candidate` by stored measurements: against what serves now, and the base.

    Args:
        bench: The workbench.
        candidate: Whom it is about.
        test_set: What the three were measured on.
        general: The general set they were measured on; None without one.

    Raises:
        HoneloopError: one of them was not measured on one of the sets, or the candidate cannot be loaded.
    """
    serving, base = bench.serving_model(), bench.base_model()
    measured = measurements(bench, candidate, (serving.version, base.version), test_set, general)
    sanity = [] if candidate.version == serving.version else sanity_of(bench, candidate)
    return decide(measured, GateThresholds.from_settings(bench.settings), sanity)


def judge_again(bench: Workbench, candidate: ModelRecord, before: Verdict) -> Verdict:
    """What the gate says now of the very measurements that `before` was found on.

    Raises:
        HoneloopError: they are no longer there, or the candidate cannot be loaded.
    """
    base = before.base_version or _root(bench, candidate).version
    measured = measurements(
        bench, candidate, (before.serving_version, base), before.test_set, before.general_test_set
    )
    return decide(measured, GateThresholds.from_settings(bench.settings), sanity_of(bench, candidate))


def measurements(
    bench: Workbench, candidate: ModelRecord, others: tuple[str, str], test_set: str, general: str | None
) -> Measurements:
    """What is stored of the candidate, of what serves and of the base (`others`).

    Raises:
        HoneloopError: something is not.
    """
    versions = (candidate.version, *others)
    first, second, third = (_evaluation(bench, version, test_set) for version in versions)
    own = candidate.training_set_id
    earlier = list(earlier_sets(bench.db, candidate, own))  # see `learned_before`
    learned = _learned_from(bench, test_set, earlier)
    measured = Measurements(first, second, third, learned_from=learned)
    if general is None:
        return measured
    if general != test_set:
        sets = earlier if own is None else [load_training_set(bench.db, own), *earlier]
        learned = _learned_from(bench, general, sets)
    of_general = (_evaluation(bench, version, general) for version in versions)
    return replace(measured, general=GeneralMeasurements(*of_general, learned_from=learned))


def learned_before(bench: Workbench, candidate: ModelRecord, test_set: str) -> frozenset[bytes]:
    """The queries of the candidate's own test set that are no test of it.

    The set was kept free of what the candidate learned from when it was made, but not of what the models
    before it did: a pair may be gone since, or have given way to one that tests.

    Raises:
        HoneloopError: the test set is no longer there.
    """
    return _learned_from(bench, test_set, list(earlier_sets(bench.db, candidate, candidate.training_set_id)))


def _learned_from(bench: Workbench, test_set: str, sets: Sequence[TrainingSet]) -> frozenset[bytes]:
    return learned_from(load_frozen(bench.db, test_set), *sets) if sets else frozenset()


def _evaluation(bench: Workbench, version: str, test_set: str) -> Evaluation:
    found = find_evaluation(bench.db, version, test_set)
    if found is None:
        raise HoneloopError(
            f"{bench.model(version).name} ({version[:12]}) was not measured on the test set in question.",
            hint="Evaluate again: `honeloop train` or `honeloop run`.",
        )
    return found


def _root(bench: Workbench, model: ModelRecord) -> ModelRecord:
    """The encoder that the line of `model` began with."""
    while model.base_version is not None:
        model = bench.model(model.base_version)
    return model
