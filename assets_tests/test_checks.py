"""Each check fails when what it is about is wrong, and says what; the whole loop's tests see them pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from psycopg import sql

from assets_tests.evaluation.made import CANDIDATE, SERVING, Slice
from assets_tests.evaluation.made import evaluation as evaluation_of
from assets_tests.index.ageing import measured_before
from assets_tests.training.accounts import account
from pipeline.checking import NothingToCheckError, Outcome
from pipeline.checks import CHECKS, Subject
from pipeline.config import Settings
from pipeline.corpus import checks as corpus
from pipeline.corpus.extraction import extract_repository
from pipeline.corpus.repositories import Repository, add_repository, get_repository
from pipeline.corpus.state import live_fingerprint
from pipeline.encoders.deferred import DeferredEncoder
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.loading import token_budget
from pipeline.encoders.sanity import SanityResult
from pipeline.errors import HoneloopError
from pipeline.evaluation import checks as evaluation
from pipeline.evaluation.compare import compare
from pipeline.evaluation.results import Evaluation
from pipeline.index import checks as index
from pipeline.index.building import build_index
from pipeline.index.embeddings import embed_missing
from pipeline.index.flipping import flip
from pipeline.index.serving import serving_index
from pipeline.index.verifying import Recall, measure_recall
from pipeline.progress import Silent
from pipeline.promotion import checks as promotion
from pipeline.promotion import registry
from pipeline.promotion.gate import GateThresholds, Measurements, decide
from pipeline.promotion.registry import ModelRecord
from pipeline.store.connections import Database
from pipeline.training import checks as training
from pipeline.workbench import Workbench

FUNCTION = '''def function_{number}(x):
    """Adds the number {number} to what it is given."""
    return x + {number}


'''


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A directory with 24 functions in two files."""
    directory = tmp_path / "code"
    directory.mkdir()
    for name, numbers in (("a.py", range(18)), ("b.py", range(18, 24))):
        (directory / name).write_text("".join(FUNCTION.format(number=number) for number in numbers))
    return directory


@pytest.fixture
def read(db: Database, settings: Settings, code: Path) -> Callable[[], Repository]:
    """Reads the directory, again if asked again."""
    add_repository(db, "mine", str(code))

    def extract() -> Repository:
        extract_repository(db, get_repository(db, "mine"), settings, token_budget("minilm"), Silent())
        return get_repository(db, "mine")

    return extract


@pytest.fixture
def model(db: Database, minilm: Encoder) -> ModelRecord:
    return registry.ensure_registered(db, minilm, "minilm")


def failed(outcome: Outcome, *said: str) -> None:
    assert not outcome.passed
    for words in said:
        assert words in outcome.message


class TestSnippets:
    def test_what_was_never_read_is_not_judged(self, db: Database, settings: Settings, code: Path):
        with pytest.raises(NothingToCheckError, match="honeloop index"):
            corpus.parse_errors(db, settings, add_repository(db, "mine", str(code)))

    def test_good_code_passes(self, db: Database, settings: Settings, read: Callable[[], Repository]):
        repository = read()
        for check in (corpus.parse_errors, corpus.no_empty_snippet, corpus.counts_do_not_collapse):
            assert check(db, settings, repository).passed

    def test_too_many_broken_files(
        self, db: Database, settings: Settings, code: Path, read: Callable[[], Repository]
    ):
        (code / "c.py").write_text("def broken(:\n    return ]\n\ndef fine():\n    return 1\n")
        failed(corpus.parse_errors(db, settings, read()), "1 of 3", "33.3%")

    def test_an_empty_snippet(self, db: Database, settings: Settings, read: Callable[[], Repository]):
        repository = read()
        with db.connect() as connection:
            connection.execute("UPDATE snippets SET code = E' \\n' WHERE symbol = 'function_3'")
        failed(corpus.no_empty_snippet(db, settings, repository), "1 of 24")

    def test_a_loss_of_most_of_it(
        self, db: Database, settings: Settings, code: Path, read: Callable[[], Repository]
    ):
        read()
        (code / "a.py").unlink()
        outcome = corpus.counts_do_not_collapse(db, settings, read())
        failed(outcome, "6 snippets now, 24 before", "75%")
        assert "HONELOOP_MAX_SNIPPET_DROP_SHARE" in outcome.hint


class TestIndex:
    @pytest.fixture
    def serving(
        self,
        db: Database,
        settings: Settings,
        minilm: Encoder,
        model: ModelRecord,
        read: Callable[[], Repository],
    ) -> Repository:
        repository = read()
        embed_missing(db, minilm, settings, Silent())
        built = build_index(db, model.version, settings, Silent())
        flip(db, built.index_version_id, actor="index", reasons=[], settings=settings)
        return repository

    def test_a_sound_index_passes(
        self, db: Database, settings: Settings, model: ModelRecord, serving: Repository
    ):
        assert index.vectors_are_sound(db, settings, model, serving).passed
        assert index.none_left_out(db, settings, model, serving).passed
        assert index.recall_is_enough(db, settings).passed
        assert index.rows_are_equal(db, settings).passed
        assert index.is_up_to_date(db, model.version)

    def test_vectors_of_another_length(
        self, db: Database, settings: Settings, model: ModelRecord, serving: Repository
    ):
        change(db, model, "UPDATE {} SET embedding = embedding + embedding")
        failed(index.vectors_are_sound(db, settings, model, serving), "unit length")

    def test_a_missing_vector(
        self, db: Database, settings: Settings, model: ModelRecord, serving: Repository
    ):
        change(db, model, "DELETE FROM {} WHERE content_hash = (SELECT min(content_hash) FROM {})")
        missing = index.none_left_out(db, settings, model, serving, live_fingerprint(db, serving.id))
        failed(missing, "1 texts of mine")
        assert not missing.warning  # a run said that it had embedded exactly these

    def test_a_vector_that_is_to_come(
        self,
        *,
        db: Database,
        settings: Settings,
        model: ModelRecord,
        code: Path,
        serving: Repository,
        read: Callable[[], Repository],
    ):
        embedded = live_fingerprint(db, serving.id)
        (code / "c.py").write_text(FUNCTION.format(number=99))
        read()
        missing = index.none_left_out(db, settings, model, serving, embedded)
        failed(missing, "1 texts of mine have no vector", "yet.")
        assert missing.warning

    @pytest.mark.usefixtures("serving")
    def test_recall_below_what_is_asked_for(self, db: Database, settings: Settings):
        impossible = settings.model_copy(update={"min_recall": 1.01})
        failed(index.recall_is_enough(db, impossible), "1.01 is asked for")

    @pytest.mark.usefixtures("serving")
    def test_recall_that_was_measured_lately_is_believed(
        self, db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ):
        measured: list[Recall] = []

        def noted(*arguments: Any, **options: Any) -> Recall:
            measured.append(measure_recall(*arguments, **options))
            return measured[-1]

        monkeypatch.setattr(index, "measure_recall", noted)
        assert index.recall_is_enough(db, settings).figures["queries"] == 24
        assert not measured
        for hours, times in ((23, 0), (-1, 1), (25, 2)):
            measured_before(db, hours)
            for _ in range(2):  # the first notes when it measured
                assert index.recall_is_enough(db, settings).passed
                assert len(measured) == times, hours
        measured_before(db, 25)
        impossible = settings.model_copy(update={"min_recall": 1.01})
        for times in (3, 4):  # what is not enough stays to be measured
            failed(index.recall_is_enough(db, impossible), "1.01 is asked for")
            assert len(measured) == times

    @pytest.mark.usefixtures("serving")
    def test_recall_is_measured_with_what_people_ask_where_there_is_something(
        self, db: Database, settings: Settings, minilm: Encoder, monkeypatch: pytest.MonkeyPatch
    ):
        asked: list[str] = []

        def queries(self: Workbench, model: ModelRecord, count: int = 7) -> NDArray[np.float32]:
            asked.append(model.version)
            return minilm.embed_queries([f"add the number {number}" for number in range(count)])

        monkeypatch.setattr(Workbench, "recall_queries", queries)
        (check,) = [check for check in CHECKS if check.name == "recall_is_enough"]
        bench = Workbench(settings, database=db)
        assert check.body(Subject(bench, again=True)).figures["queries"] == 7
        assert asked == [minilm.version]
        assert check.body(Subject(bench)).figures["queries"] == 24  # after a build, which asked itself
        nothing = np.empty((0, minilm.dims), dtype=np.float32)
        assert index.recall_is_enough(db, settings, lambda _: nothing).figures["queries"] == 24
        assert asked == [minilm.version]

    @pytest.mark.usefixtures("serving")
    def test_code_that_is_not_indexed_yet(
        self,
        db: Database,
        settings: Settings,
        model: ModelRecord,
        code: Path,
        read: Callable[[], Repository],
    ):
        (code / "c.py").write_text(FUNCTION.format(number=99))
        read()
        behind = index.rows_are_equal(db, settings)
        failed(behind, "24 rows for 25 live texts: 1 missing, 0 too many; it is of an earlier state")
        assert behind.warning
        assert not index.is_up_to_date(db, model.version)

    @pytest.mark.usefixtures("serving")
    @pytest.mark.parametrize(
        ("damage", "says"),
        [
            (
                "DELETE FROM {} WHERE content_hash = (SELECT min(content_hash) FROM {})",
                "1 missing, 0 too many.",
            ),
            (
                "UPDATE {} SET content_hash = sha256('x') WHERE content_hash ="
                " (SELECT min(content_hash) FROM {})",
                "1 missing, 1 too many.",
            ),
        ],
    )
    def test_an_index_that_is_not_what_was_built(
        self,
        *,
        db: Database,
        settings: Settings,
        model: ModelRecord,
        code: Path,
        read: Callable[[], Repository],
        damage: str,
        says: str,
    ):
        change(db, model, damage, serving_index(db).table_name)
        damaged = index.rows_are_equal(db, settings)
        failed(damaged, says)
        assert not damaged.warning
        # Nor is it taken for one of another moment when the code has changed, too.
        (code / "c.py").write_text(FUNCTION.format(number=99))
        read()
        assert not index.rows_are_equal(db, settings).warning

    def test_without_an_index_there_is_nothing_to_check(self, db: Database, settings: Settings):
        with pytest.raises(NothingToCheckError, match="honeloop run"):
            index.recall_is_enough(db, settings)


def change(db: Database, model: ModelRecord, statement: str, name: str | None = None) -> None:
    """Runs a statement on the model's vectors or the table of that name, stating that they are its own."""
    with db.connect() as connection:
        row = connection.execute(
            "SELECT table_name FROM embedding_tables WHERE model_version = %s", [model.version]
        ).fetchone()
        assert row is not None
        table = sql.Identifier(name or row[0])
        connection.execute("SELECT set_config('honeloop.model_version', %s, true)", [model.version])
        connection.execute(sql.SQL(statement).format(*[table] * statement.count("{}")))  # type: ignore[arg-type]


class TestTraining:
    def test_a_falling_loss(self, settings: Settings):
        history = [{"step": step, "loss": 2 / step} for step in range(1, 17)]
        assert training.loss_fell(account(history), settings).passed

    def test_a_rising_loss(self, settings: Settings):
        history = [{"step": step, "loss": step / 4} for step in range(1, 17)]
        failed(training.loss_fell(account(history), settings), "rose")

    @pytest.mark.parametrize("loss", [float("nan"), float("inf")])
    def test_a_loss_that_is_no_number(self, settings: Settings, loss: float):
        failed(
            training.loss_fell(account([{"step": 1, "loss": 1.0}, {"step": 2, "loss": loss}]), settings),
            "1 of 2",
        )

    def test_no_loss_at_all(self, settings: Settings):
        failed(training.loss_fell(account([]), settings), "0 of 0")

    @pytest.mark.parametrize(("kept", "passes"), [(0.7, True), (0.56, True), (0.5, False)])
    def test_a_collapsed_validation(self, settings: Settings, kept: float, passes: bool):
        history = [{"step": 0, "ndcg@10": 0.6}, {"step": 4, "ndcg@10": kept}, {"step": 8, "ndcg@10": 0.1}]
        assert training.validation_held(account(history, best_step=4), settings).passed is passes

    def test_what_was_kept_is_what_counts_and_not_the_best_that_was_seen(self, settings: Settings):
        history = [{"step": 0, "ndcg@10": 0.6}, {"step": 4, "ndcg@10": 0.7}, {"step": 8, "ndcg@10": 0.1}]
        merging = [{"part": "all pairs", "ndcg@10": 0.7}, {"part": "merged", "ndcg@10": 0.2}]
        failed(training.validation_held(account(history, merging=merging), settings), "0.600 to 0.200")

    def test_without_validation_pairs(self, settings: Settings):
        assert training.validation_held(account([{"step": 1, "loss": 1.0}]), settings).passed

    def test_parts_are_told_one_by_one(self, settings: Settings):
        history = [
            {"step": step, "stage": stage, "loss": loss}
            for step, (stage, loss) in enumerate([("all pairs", 2.0), ("all pairs", 1.0), ("alone", 3.0)], 1)
        ]
        told = training.loss_fell(account(history, recipe={"apart": True}), settings)
        assert told.figures == {
            "steps": 3,
            "first of all pairs": 2.0,
            "last of all pairs": 1.0,
            "first of alone": 3.0,
            "last of alone": 3.0,
        }
        assert told.message == (
            "The loss went from 2.000 to 1.000 in 2 steps of all pairs, and from 3.000 to 3.000 in 1 steps of"
            " alone."
        )


class TestEvaluation:
    def test_sanity(self):
        good = SanityResult("unit norm", True, 0.0, 0.001, "")
        assert evaluation.sanity_holds([good]).passed
        failed(evaluation.sanity_holds([good, replace(good, passed=False, message="off by 2")]), "off by 2")
        assert not evaluation.sanity_holds([]).passed

    def test_a_model_that_finds_nothing(self, settings: Settings):
        found = evaluation_of(CANDIDATE, Slice([1, 3] * 20))
        assert evaluation.metrics_reach_thresholds(found, settings).passed
        lost = evaluation_of(CANDIDATE, Slice([500] * 39 + [1]))
        failed(evaluation.metrics_reach_thresholds(lost, settings), "0.025", "0.1")


class TestRegression:
    """The check's rule is the gate's: what the one approves, the other must not call a regression."""

    def test_beyond_chance(self, settings: Settings):
        serving = evaluation_of(SERVING, Slice([1, 2] * 20))
        worse = evaluation_of(CANDIDATE, Slice([4, 9] * 20))
        failed(regression(worse, serving, settings), "The whole test set loses", "-0.4")
        unclear = evaluation_of(CANDIDATE, Slice([1, 2] * 19 + [2, 1]))
        assert regression(unclear, serving, settings).passed
        assert regression(serving, serving, settings).passed

    def test_a_slice_that_loses_though_what_people_asked_gains(self, settings: Settings):
        serving = evaluation_of(SERVING, Slice([3] * 60, "feedback"), Slice([1] * 40))
        candidate = evaluation_of(CANDIDATE, Slice([1] * 60, "feedback"), Slice([2] * 40))
        assert not approved(candidate, serving, settings)
        failed(regression(candidate, serving, settings), "Origin docstring loses", "-0.3")

    def test_a_loss_on_the_whole_that_the_gate_allows(self, settings: Settings):
        """People's queries gain, and decide. More of documentation lose a little less than is allowed."""
        serving = evaluation_of(SERVING, Slice([6] * 60, "feedback"), Slice([8] * 200))
        candidate = evaluation_of(CANDIDATE, Slice([5] * 60, "feedback"), Slice([9] * 200))
        whole = compare(candidate, serving, settings).overall[settings.gate_metric]
        assert whole.high < 0
        assert approved(candidate, serving, settings)
        outcome = regression(candidate, serving, settings)
        assert outcome.passed
        assert "Origin feedback holds" in outcome.message
        strict = settings.model_copy(update={"gate_max_slice_regression": 0.01})
        assert not approved(candidate, serving, strict)
        failed(regression(candidate, serving, strict), "Origin docstring loses")

    def test_how_sure_it_has_to_be_is_the_gates_setting(self, settings: Settings):
        serving = evaluation_of(SERVING, Slice([1] * 12 + [3] * 4 + [2] * 34))
        candidate = evaluation_of(CANDIDATE, Slice([3] * 12 + [1] * 4 + [2] * 34))
        assert not regression(
            candidate, serving, settings.model_copy(update={"gate_significance": 0.2})
        ).passed
        assert regression(candidate, serving, settings.model_copy(update={"gate_significance": 0.001})).passed

    def test_queries_that_are_no_test_of_the_candidate(self, settings: Settings):
        serving = evaluation_of(SERVING, Slice([3] * 60, "feedback"), Slice([1] * 40))
        candidate = evaluation_of(CANDIDATE, Slice([1] * 60, "feedback"), Slice([9] * 40))
        learned = frozenset(each.query_key for each in serving.per_query if each.origin == "docstring")
        assert approved(candidate, serving, settings, learned)
        assert regression(candidate, serving, settings, learned).passed
        assert not regression(candidate, serving, settings).passed

    def test_without_the_gates_metric(self, settings: Settings):
        other = settings.model_copy(update={"gate_metric": "triplet_accuracy"})
        serving, candidate = (evaluation_of(version, Slice([1] * 40)) for version in (SERVING, CANDIDATE))
        with pytest.raises(NothingToCheckError, match="No test query has triplet_accuracy"):
            regression(candidate, serving, other)


def regression(
    candidate: Evaluation,
    serving: Evaluation,
    settings: Settings,
    learned_from: frozenset[bytes] = frozenset(),
) -> Outcome:
    return promotion.no_significant_regression(candidate, serving, learned_from, settings)


def approved(
    candidate: Evaluation,
    serving: Evaluation,
    settings: Settings,
    learned_from: frozenset[bytes] = frozenset(),
) -> bool:
    measured = Measurements(candidate, serving, serving, learned_from=learned_from)
    sane = SanityResult("finite", True, 0.0, 0.0, "")
    return decide(measured, GateThresholds.from_settings(settings), [sane]).approved


class TestDeferredEncoder:
    def test_it_is_loaded_when_a_text_needs_it(self, minilm: Encoder):
        loaded: list[Encoder] = []

        def load() -> Encoder:
            loaded.append(minilm)
            return minilm

        deferred = DeferredEncoder(minilm.spec, minilm.version, "minilm", load)
        assert (deferred.dims, deferred.max_tokens, deferred.version) == (
            minilm.dims,
            minilm.max_tokens,
            minilm.version,
        )
        assert loaded == []
        texts = ["def f(): pass", "def g(): return 1"]
        assert (deferred.embed_documents(texts) == minilm.embed_documents(texts)).all()
        assert (deferred.embed_queries(texts) == minilm.embed_queries(texts)).all()
        assert deferred.count_tokens(texts) == minilm.count_tokens(texts)
        assert (deferred.files, deferred.device) == (minilm.files, minilm.device)
        assert loaded == [minilm]

    def test_other_weights_than_registered_are_refused(self, minilm: Encoder):
        deferred = DeferredEncoder(minilm.spec, "0" * 64, "/somewhere", lambda: minilm)
        with pytest.raises(HoneloopError, match="/somewhere no longer holds"):
            deferred.embed_queries(["x"])


class TestWorkbench:
    def test_a_registered_preset_is_not_loaded_to_be_known(
        self, db: Database, settings: Settings, model: ModelRecord, monkeypatch: pytest.MonkeyPatch
    ):
        def refuse(*_: Any, **__: Any) -> Encoder:
            raise AssertionError("loaded for nothing")

        monkeypatch.setattr("pipeline.encoders.loading.load_encoder", refuse)
        bench = Workbench(settings, database=db)
        assert bench.base_model() == model
        assert bench.target_model() == model
        assert bench.encoder(model).dims == model.dims

    def test_encoders_are_loaded_once_and_only_the_last_are_kept(
        self, db: Database, settings: Settings, model: ModelRecord, minilm: Encoder
    ):
        bench = Workbench(settings.model_copy(update={"device": "cpu"}), database=db)
        first = bench.encoder_at("minilm")
        assert bench.encoder_at("minilm") is first
        assert first.version == minilm.version == model.version
