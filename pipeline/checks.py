"""Every check there is, with what it is about: one list for Dagster and for `honeloop check`.

What does not belong here: how anything is checked; that stands in `checks.py` of the room it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pipeline.checking import NothingToCheckError, Outcome
from pipeline.corpus import checks as corpus
from pipeline.corpus.repositories import Repository, list_repositories
from pipeline.errors import HoneloopError
from pipeline.evaluation import checks as evaluation
from pipeline.evaluation.results import Evaluation
from pipeline.evaluation.store import find_evaluation
from pipeline.index import checks as index
from pipeline.promotion import checks as promotion
from pipeline.promotion.judging import learned_before
from pipeline.promotion.registry import ModelRecord, serving_model
from pipeline.promotion.sanity import sanity_of
from pipeline.training import checks as training
from pipeline.training.account import Account

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.workbench import Workbench

T = TypeVar("T")
Scope = Literal["repository", "training", "model", "index"]


@dataclass(frozen=True)
class Subject:
    """What a check looks at. What is None is not known, or was never made."""

    bench: Workbench
    repository: Repository | None = None
    training_set_id: int | None = None
    account: Account | None = None  # of the training
    model: ModelRecord | None = None
    against: str | None = None  # the version the model was measured against
    test_set: str | None = None
    embedded_by: ModelRecord | None = None  # who made the vectors; None: whose index should serve
    embedded: str | None = None  # the fingerprint of the snippets that a run has embedded
    again: bool = False  # whether what cannot have changed is found out again too

    def the_repository(self) -> Repository:
        """Raises NothingToCheckError without one."""
        return _there(self.repository, "No repository is registered.")

    def the_embedder(self) -> ModelRecord:
        """Who made the vectors."""
        return self.embedded_by or self.bench.target_model()

    def the_training_set(self) -> int:
        """Raises NothingToCheckError without one."""
        return _there(self.training_set_id, "No training set was built yet.")

    def the_account(self) -> Account:
        """Raises NothingToCheckError without one."""
        return _there(self.account, "No fine-tuned model serves, or its training left no account.")

    def the_model(self) -> ModelRecord:
        """Raises NothingToCheckError without one."""
        return _there(self.model, "No fine-tuned model serves.")

    def the_test_set(self) -> str:
        """What the model was measured on. Raises NothingToCheckError without one."""
        return _there(self.test_set, f"{self.the_model().name} was promoted without being measured.")

    def learned_from(self) -> frozenset[bytes]:
        """The queries of it that are no test of the model. Raises NothingToCheckError without one."""
        return learned_before(self.bench, self.the_model(), self.the_test_set())

    def recall_queries(self, version: str) -> NDArray[np.float32]:
        """What people might ask, embedded by the model version."""
        return self.bench.recall_queries(self.bench.model(version))

    def evaluations(self) -> tuple[Evaluation, Evaluation]:
        """Of the model, and of what it was measured against. Raises NothingToCheckError without them."""
        model, test_set = self.the_model(), self.the_test_set()
        against = _there(self.against, f"{model.name} was not compared with another.")
        found = find_evaluation(self.bench.db, model.version, test_set)
        other = find_evaluation(self.bench.db, against, test_set)
        return (
            _there(found, f"{model.name} was not measured on this test set."),
            _there(other, f"{against[:12]} was not measured on this test set."),
        )


@dataclass(frozen=True)
class Check:
    """One check: of which asset, what it says, and how it is found out."""

    asset: str
    name: str
    scope: Scope
    description: str
    body: Callable[[Subject], Outcome]
    blocking: bool = True


@dataclass(frozen=True)
class CheckResult:
    """What a check found of one subject. `outcome` is None where there was nothing to check."""

    asset: str
    name: str
    blocking: bool
    subject: str
    message: str
    outcome: Outcome | None

    @property
    def failed(self) -> bool:
        """Whether something is wrong; what is only behind is not."""
        return self.outcome is not None and not self.outcome.passed and not self.outcome.warning

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "asset": self.asset,
            "check": self.name,
            "of": self.subject,
            "blocking": self.blocking,
            "passed": None if self.outcome is None else self.outcome.passed,
            "warning": self.outcome is not None and self.outcome.warning,
            "message": self.message,
            "figures": {} if self.outcome is None else dict(self.outcome.figures),
        }


def _of_repository(check: Callable[..., Outcome]) -> Callable[[Subject], Outcome]:
    return lambda s: check(s.bench.db, s.bench.settings, s.the_repository())


def _of_training_set(check: Callable[..., Outcome]) -> Callable[[Subject], Outcome]:
    return lambda s: check(s.bench.db, s.bench.settings, s.the_training_set())


def _of_account(check: Callable[..., Outcome]) -> Callable[[Subject], Outcome]:
    return lambda s: check(s.the_account(), s.bench.settings)


def _check(
    asset: str, scope: Scope, function: Callable[..., Outcome], body: Callable[[Subject], Outcome]
) -> Check:
    return Check(asset, function.__name__, scope, " ".join((function.__doc__ or "").split()), body)


CHECKS: tuple[Check, ...] = (
    *(
        _check("snippets", "repository", function, _of_repository(function))
        for function in (corpus.parse_errors, corpus.no_empty_snippet, corpus.counts_do_not_collapse)
    ),
    *(
        _check("training_set", "training", function, _of_training_set(function))
        for function in (training.enough_pairs, training.no_leakage, training.triplets_differ)
    ),
    *(
        _check("fine_tuned_model", "training", function, _of_account(function))
        for function in (training.loss_fell, training.validation_held)
    ),
    _check(
        "model_checkpoint",
        "model",
        promotion.files_match,
        lambda s: promotion.files_match(s.the_model()),
    ),
    _check(
        "model_checkpoint",
        "model",
        promotion.same_vectors_again,
        lambda s: promotion.same_vectors_again(s.bench, s.the_model(), again=s.again),
    ),
    _check(
        "model_evaluation",
        "model",
        evaluation.sanity_holds,
        lambda s: evaluation.sanity_holds(sanity_of(s.bench, s.the_model(), again=s.again)),
    ),
    _check(
        "model_evaluation",
        "model",
        evaluation.metrics_reach_thresholds,
        lambda s: evaluation.metrics_reach_thresholds(s.evaluations()[0], s.bench.settings),
    ),
    _check(
        "model_evaluation",
        "model",
        promotion.no_significant_regression,
        lambda s: promotion.no_significant_regression(*s.evaluations(), s.learned_from(), s.bench.settings),
    ),
    _check(
        "promoted_model",
        "model",
        promotion.gate_agrees,
        lambda s: promotion.gate_agrees(s.bench, s.the_model()),
    ),
    _check(
        "snippet_embeddings",
        "repository",
        index.vectors_are_sound,
        lambda s: index.vectors_are_sound(s.bench.db, s.bench.settings, s.the_embedder(), s.the_repository()),
    ),
    _check(
        "snippet_embeddings",
        "repository",
        index.none_left_out,
        lambda s: index.none_left_out(
            s.bench.db, s.bench.settings, s.the_embedder(), s.the_repository(), s.embedded
        ),
    ),
    _check(
        "search_index",
        "index",
        index.recall_is_enough,
        # A build has just measured with queries itself: for that no encoder is loaded once more.
        lambda s: index.recall_is_enough(s.bench.db, s.bench.settings, s.recall_queries if s.again else None),
    ),
    _check(
        "search_index",
        "index",
        index.rows_are_equal,
        lambda s: index.rows_are_equal(s.bench.db, s.bench.settings),
    ),
)


def run_checks(bench: Workbench) -> list[CheckResult]:
    """Runs every check on the present state: each repository, the newest training set, what serves."""
    present = present_subject(bench)
    results: list[CheckResult] = []
    with bench.progress.stage("Checking", len(CHECKS)) as advance:
        for check in CHECKS:
            results += [_run(check, subject, name) for subject, name in _subjects(check, present)]
            advance(1)
    return results


def present_subject(bench: Workbench) -> Subject:
    """The newest training set and the fine-tuned model that serves, as far as there are any."""
    with bench.db.connect() as connection:
        row = connection.execute("SELECT max(id) FROM training_sets").fetchone()
    subject = Subject(bench, training_set_id=row[0] if row else None, again=True)
    serving = serving_model(bench.db)
    if serving is None or serving.base_version is None:
        return subject
    verdict = serving.metrics.get("verdict", {})
    return replace(
        subject,
        model=serving,
        account=Account.found_in(serving.lineage),
        against=verdict.get("serving_version"),
        test_set=verdict.get("test_set"),
    )


def _subjects(check: Check, present: Subject) -> Iterator[tuple[Subject, str]]:
    if check.scope == "repository":
        for repository in list_repositories(present.bench.db):
            yield replace(present, repository=repository), repository.name
    elif check.scope == "training" and present.training_set_id is not None:
        yield present, f"training set {present.training_set_id}"
    elif check.scope == "model" and present.model is not None:
        yield present, present.model.version[:12]
    else:
        yield present, ""


def _run(check: Check, subject: Subject, name: str) -> CheckResult:
    try:
        outcome = check.body(subject)
    except NothingToCheckError as nothing:
        return CheckResult(check.asset, check.name, check.blocking, name, str(nothing), None)
    except HoneloopError as error:
        outcome = Outcome(False, error.message, hint=error.hint)
    return CheckResult(check.asset, check.name, check.blocking, name, outcome.message, outcome)


def _there(value: T | None, otherwise: str) -> T:
    if value is None:
        raise NothingToCheckError(otherwise)
    return value
