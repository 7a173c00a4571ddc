"""The whole loop on real code, as `honeloop run` does it, from parsing to serving."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import dagster as dg
import numpy as np
import pygit2
import pytest
from typer.testing import CliRunner

from assets_tests.defs.ticking import tick
from assets_tests.end_to_end.tour import executed_tour, stored_outputs
from assets_tests.promotion.test_weights import add_model
from pipeline.checks import run_checks
from pipeline.cli import app
from pipeline.config import Settings
from pipeline.corpus.repositories import add_repository
from pipeline.defs import sensors
from pipeline.defs.building import build_defs
from pipeline.defs.dead_runs import IN_PROCESS_TAG
from pipeline.defs.in_process import Loop, run_loop
from pipeline.defs.instance import open_instance
from pipeline.defs.reporting import materialized
from pipeline.defs.results import RunResult
from pipeline.defs.upstream import feedback_learned
from pipeline.errors import HoneloopError
from pipeline.evaluation.frozen_sets import general_in_force, load_frozen
from pipeline.feedback.importing import import_feedback
from pipeline.feedback.news import newest_feedback_id
from pipeline.index.serving import serving_index
from pipeline.progress import Silent
from pipeline.promotion.registry import list_models
from pipeline.store.connections import Database
from pipeline.training.training_set import load_training_set
from pipeline.workbench import Workbench

# Little enough to embed in a moment; the others have enough documented functions to train on.
FILES = ("exceptions.py", "globals.py")
DOCUMENTED = ("utils.py", "decorators.py", "formatting.py")
TRAINING = ["training_set", "fine_tuned_model", "model_checkpoint", "model_evaluation", "promoted_model"]


@pytest.fixture
def small(settings: Settings) -> Settings:
    """Settings under which the loop takes half a minute."""
    return settings.model_copy(
        update={
            "min_pairs": 30,
            "max_documentation_pairs": 40,
            "train_max_tokens": 64,
            "gate_min_queries": 5,
            "bootstrap_resamples": 200,
            "validations_per_epoch": 1,
            "recall_sample": 50,
        }
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with a small part of click's source in its one commit."""
    path = tmp_path / "repository"
    path.mkdir()
    copy_from_click(FILES, path)
    commit_all(path, "Begin")
    return path


def copy_from_click(names: tuple[str, ...], path: Path) -> None:
    spec = importlib.util.find_spec("click")
    assert spec is not None
    assert spec.origin is not None
    for name in names:
        shutil.copy(Path(spec.origin).parent / name, path / name)


def commit_all(path: Path, message: str) -> None:
    repository = pygit2.init_repository(str(path))
    repository.index.add_all()
    repository.index.write()
    author = pygit2.Signature("A Tester", "tester@example.org")
    parents = [] if repository.head_is_unborn else [repository.head.target]
    repository.create_commit("HEAD", author, author, message, repository.index.write_tree(), parents)


def materialized_in(settings: Settings, result: RunResult) -> Iterator[tuple[str, bool]]:
    """The assets of each run, as Dagster recorded them, and whether the run succeeded."""
    with open_instance(settings) as instance:
        for run_id in result.run_ids:
            run = instance.get_run_by_id(run_id)
            assert run is not None
            for key in run.asset_selection or ():
                yield key.to_user_string(), run.is_success


def test_the_whole_loop_and_again(
    small: Settings, db: Database, repository: Path, monkeypatch: pytest.MonkeyPatch
):
    copy_from_click(DOCUMENTED, repository)
    commit_all(repository, "Add more")
    add_repository(db, "clicked", str(repository))

    first = run_loop(small, Silent())

    assert first.failures == []
    source = first.sources["clicked"]
    assert source["snippets_live"] > 60
    assert source["embedded"] > 0
    assert first.index["action"] == "built"
    assert list(first.training) == TRAINING
    decision = first.training["promoted_model"]["decision"]
    assert decision in {"approved", "rejected"}
    candidate = first.training["model_checkpoint"]["model_version"]
    states = {model.version: model.state for model in list_models(db)}
    serving = serving_index(db)
    if decision == "approved":
        assert serving.model_version == candidate
        assert states[candidate] == "serving"
    else:
        assert serving.model_version == first.training["model_evaluation"]["base_version"]
        assert states[candidate] == "rejected"
    assert all(succeeded for _, succeeded in materialized_in(small, first))

    assert [
        check for check in run_checks(Workbench(small)) if check.outcome and not check.outcome.passed
    ] == []

    second = run_loop(small, Silent())

    assert second.failures == []
    assert second.sources["clicked"]["files_parsed"] == 0
    assert (second.sources["clicked"]["embedded"], second.index["action"]) == (0, "reused")
    assert all(second.training[asset]["reused"] for asset in TRAINING[:-1])
    assert second.training["model_checkpoint"]["model_version"] == candidate
    assert serving_index(db) == serving

    cells = executed_tour(small, monkeypatch)
    pictures = [out for cell in cells for out in cell.outputs if "image/png" in out.get("data", {})]
    assert len(pictures) >= 5
    assert not stored_outputs()

    runner = CliRunner(env=as_environment(small))
    compared = json.loads(runner.invoke(app, ["train", "--json"]).stdout)
    assert compared["model_version"] == candidate
    assert set(compared["evaluations"]) == {"base", "serving", "candidate"}
    moved = compared["comparison"]["improved"] + compared["comparison"]["harmed"]
    assert all(each["answer"].startswith("clicked ") for each in moved)

    measured = first.training["model_evaluation"]
    assert load_frozen(db, measured["test_set"]).queries
    in_force = general_in_force(db)
    assert in_force is not None
    assert in_force.name == measured["general_test_set"]
    shown = runner.invoke(app, ["models", candidate[:12]]).stdout
    for said in (decision.capitalize(), "gain over serving", "floor ndcg@10", "general set over base"):
        assert said in shown
    (model,) = json.loads(runner.invoke(app, ["models", candidate[:12], "--json"]).stdout)["models"]
    given = [each["decision"] for each in model["verdicts"]]
    assert given[-1] == decision
    assert model["verdicts"][-1]["thresholds"]["min_improvement"] == small.gate_min_improvement

    # A person may overrule the gate, either way.
    if decision == "rejected":
        promoted = runner.invoke(app, ["promote", candidate[:12], "--reason", "a test", "--json"])
        assert json.loads(promoted.stdout)["state"] == "serving"
    assert serving_index(db).model_version == candidate
    with (small.checkpoints_path / candidate / "model" / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        weights.write(b"\x55")
    wrong = {
        check.name for check in run_checks(Workbench(small)) if check.outcome and not check.outcome.passed
    }
    assert {"files_match", "same_vectors_again"} <= wrong
    back = runner.invoke(app, ["rollback", "--json"])
    assert json.loads(back.stdout)["model_version"] == first.training["model_evaluation"]["base_version"]
    assert serving_index(db).model_version != candidate


def as_environment(settings: Settings) -> dict[str, str]:
    """The variables that make these settings."""
    values = settings.model_dump(exclude_defaults=True)
    return {f"HONELOOP_{name.upper()}": str(value) for name, value in values.items()}


def assert_margins_and_thresholds_are_told(settings: Settings, db: Database) -> None:
    """What Dagster holds of the training set materialized last, against the set itself."""
    with open_instance(settings) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("training_set"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    built = load_training_set(db, int(str(metadata["training_set_id"].value)))

    def rows(title: str) -> list[list[str]]:
        (text,) = [str(value.value) for name, value in metadata.items() if name.startswith(title)]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()][2:]

    margins = [
        negative.positive_score - negative.negative_score
        for pair in built.pairs
        for negative in pair.negatives
        if negative.positive_score is not None and negative.negative_score is not None
    ]
    assert len(margins) > 15
    (mined,) = rows("margins before training")
    assert mined[:3] == ["mined", str(len(margins)), "0"]
    assert float(mined[5]) == pytest.approx(float(np.median(margins)), abs=1e-3)
    bars = rows("histogram of the margins")
    assert sum(int(count) for _, count, _ in bars) == len(margins)
    for span, count, bar in bars:
        low, high = map(float, span.split(" to "))
        assert int(count) == sum(low <= margin < high for margin in margins)
        assert bool(bar) == bool(int(count))
    thresholds = rows("what thresholds reject")
    assert {origin for origin, *_ in thresholds} == {"docstring"}
    assert [each[1] for each in thresholds if "in force" in each[1]] == ["0.95 (in force)"]
    rejected = [int(each[2].split(" of ")[0].replace(",", "")) for each in thresholds]
    assert rejected == sorted(rejected, reverse=True)
    assert rejected[0] > rejected[-1] > 0


@pytest.mark.slow
def test_recipes_are_compared_and_no_model_comes_of_it(small: Settings, db: Database, repository: Path):
    copy_from_click(DOCUMENTED, repository)
    commit_all(repository, "Add more")
    add_repository(db, "clicked", str(repository))
    few = small.model_copy(update={"max_documentation_pairs": 16, "train_max_tokens": 32})
    with Loop.running(few, Silent()) as loop:
        assert loop.index()
    names = ["multiple-negatives", "triplet"]

    ran = CliRunner(env=as_environment(few)).invoke(app, ["train", "--compare", ",".join(names), "--json"])

    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)
    assert [each["recipe"] for each in told["recipes"]] == names
    assert [each["made"] for each in told["recipes"]] == ["trained", "trained"]
    assert told["failed"] == {}
    (base,) = list_models(db)  # nothing else was registered
    assert told["base_version"] == base.version
    measured = {each["recipe"]: each["validation"][told["metric"]] for each in told["recipes"]}
    assert told["best"] == max(names, key=measured.__getitem__)  # of equals the first
    assert not few.checkpoints_path.exists()
    assert_margins_and_thresholds_are_told(few, db)

    # Again it is only looked up, whoever asks, and in the order they ask in.
    with Loop.running(few, Silent()) as loop:
        comparison = loop.compare(names[::-1])
        built = loop.result.training["training_set"]
    assert [(each.name, each.made) for each in comparison.compared] == [(n, "waiting") for n in names[::-1]]
    assert comparison.training_set_id == told["training_set_id"] == built["training_set_id"]
    assert {each.name: each.validation[told["metric"]] for each in comparison.compared} == measured
    assert comparison.best is not None
    assert comparison.best.name == max(names[::-1], key=measured.__getitem__)
    assert list_models(db) == [base]


def test_what_train_made_lets_nothing_serve_and_the_night_asks_the_gate(
    small: Settings, db: Database, repository: Path, tmp_path: Path
):
    copy_from_click(DOCUMENTED, repository)
    commit_all(repository, "Add more")
    add_repository(db, "clicked", str(repository))
    few = small.model_copy(update={"max_documentation_pairs": 16, "train_max_tokens": 32})
    assert run_loop(few, Silent(), only_index=True).failures == []
    judged = {"query": "wrap a stream", "repository": "clicked", "path": "utils.py", "judgement": "accept"}
    (tmp_path / "judged.jsonl").write_text(json.dumps(judged))
    assert import_feedback(db, tmp_path / "judged.jsonl").added == 1

    trained = CliRunner(env=as_environment(few)).invoke(app, ["train", "--json"])

    assert trained.exit_code == 0, trained.output
    candidate = json.loads(trained.stdout)["model_version"]
    few = few.model_copy(update={"keep_rejected_checkpoints": 1})
    bench = Workbench(few, database=db)
    rejected = [few.checkpoints_path.resolve() / (digit * 64) for digit in "12"]
    for day, place in enumerate(rejected):
        add_model(db, place.name, "rejected", place, bench.base_model().version, day=day)
    with open_instance(few) as instance:
        skipped = tick(sensors.passed_evaluation, bench, instance)
        assert skipped.run_requests == []
        assert "`honeloop train`, which lets nothing serve" in skipped.skip_message
        assert feedback_learned(instance) == 0  # so that the night has something to ask about

        resource = dg.ResourceDefinition.hardcoded_resource(bench)
        night = build_defs({"workbench": resource}).resolve_job_def("fine_tune")
        night.execute_in_process(instance=instance, raise_on_error=False)

        made = materialized(instance, "model_checkpoint")
        assert made is not None
        assert (made["model_version"], made["reused"]) == (candidate, True)
        assert feedback_learned(instance) == newest_feedback_id(db) == 1
        (request,) = tick(sensors.passed_evaluation, bench, instance).run_requests
        assert candidate in str(request.run_key)
    assert bench.model(candidate).state == "candidate"
    assert serving_index(db).model_version != candidate
    assert [place.exists() for place in rejected] == [False, True]


def test_two_runs_do_not_meet(settings: Settings):
    with Loop.running(settings, Silent()), pytest.raises(HoneloopError, match="Another run is under way"):
        run_loop(settings, Silent())


def test_a_change_is_indexed_and_nothing_else_is_done_again(small: Settings, db: Database, repository: Path):
    add_repository(db, "clicked", str(repository))
    before = run_loop(small, Silent(), only_index=True)
    (repository / "new.py").write_text("def brand_new(x):\n    '''Doubles a number.'''\n    return 2 * x\n")
    commit_all(repository, "Add a file")

    after = run_loop(small, Silent(), only_index=True)

    assert after.training == {}
    assert after.sources["clicked"]["files_parsed"] == 1
    assert after.sources["clicked"]["embedded"] == 1
    assert after.sources["clicked"]["reused"] == before.sources["clicked"]["embedded"]
    assert after.index["action"] == "extended"
    assert after.index["rows"] == before.index["rows"] + 1


def test_a_breadth_is_verified_with_what_people_ask_though_the_code_is_as_it_was(
    small: Settings, db: Database, repository: Path
):
    """Rows search for their neighbours with less trouble, so that too small a breadth would do."""
    add_repository(db, "clicked", str(repository))
    many = small.model_copy(update={"recall_sample": 1000})
    first = run_loop(many, Silent(), only_index=True).index
    documented = first["recall_sample"]
    assert documented < first["rows"]
    for changed, action in (({"hnsw_ef_search": 150}, "reused"), ({"hnsw_m": 20}, "built")):
        index = run_loop(many.model_copy(update=changed), Silent(), only_index=True).index
        assert (index["action"], index["rows"], index["recall_sample"]) == (
            action,
            first["rows"],
            documented,
        )


def test_too_few_pairs_leave_the_index_serving(settings: Settings, db: Database, tmp_path: Path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("def f(x):\n    return x + 1\n")
    add_repository(db, "tiny", str(tmp_path / "code"))

    result = run_loop(settings, Silent())

    (failure,) = result.failures
    assert failure.step == "training_set"
    assert "feedback" in failure.message
    assert "documentation" in failure.message
    assert "honeloop feedback import" in failure.hint
    assert serving_index(db).rows == 1
    with pytest.raises(HoneloopError, match="real pairs"):
        result.raise_for_failure()


def test_a_source_that_cannot_be_read_does_not_keep_the_others_away(
    settings: Settings, db: Database, repository: Path, tmp_path: Path
):
    gone = tmp_path / "gone"
    shutil.copytree(repository, gone)
    add_repository(db, "gone", str(gone))
    add_repository(db, "clicked", str(repository))
    shutil.rmtree(gone)

    result = run_loop(settings, Silent(), only_index=True)

    assert result.failures == []
    assert len(result.problems) == 1
    assert "gone" in result.problems[0]
    assert serving_index(db).rows > 10


def test_when_no_source_can_be_read_that_is_a_failure(settings: Settings, db: Database, tmp_path: Path):
    gone = tmp_path / "gone"
    gone.mkdir()
    add_repository(db, "gone", str(gone))
    gone.rmdir()
    result = run_loop(settings, Silent(), only_index=True)
    with pytest.raises(HoneloopError, match="gone"):
        result.raise_for_failure()


def test_a_blocking_check_keeps_bad_snippets_out_of_the_index(
    settings: Settings, db: Database, repository: Path
):
    add_repository(db, "clicked", str(repository))
    assert run_loop(settings, Silent(), only_index=True).failures == []
    rows = serving_index(db).rows
    (repository / FILES[0]).unlink()
    commit_all(repository, "Lose most of it")

    result = run_loop(settings, Silent(), only_index=True)

    (failure,) = result.failures
    assert failure.check
    assert "counts_do_not_collapse" in failure.message
    assert "HONELOOP_MAX_SNIPPET_DROP_SHARE" in failure.hint
    assert serving_index(db).rows == rows


def test_a_run_that_was_killed_is_not_shown_as_running(settings: Settings, db: Database, repository: Path):
    add_repository(db, "clicked", str(repository))
    run_id = str(uuid4())
    with open_instance(settings) as instance:
        killed = instance.create_run_for_job(
            job_def=dg.GraphDefinition("killed").to_job(),
            run_id=run_id,
            tags={IN_PROCESS_TAG: run_id},
            status=dg.DagsterRunStatus.STARTED,
        )
    run_loop(settings, Silent(), only_index=True)
    with open_instance(settings) as instance:
        found = instance.get_run_by_id(killed.run_id)
        assert found is not None
        assert found.status == dg.DagsterRunStatus.CANCELED


def test_an_unchanged_index_run_loads_no_torch(settings: Settings, db: Database, repository: Path):
    add_repository(db, "clicked", str(repository))
    run_loop(settings, Silent(), only_index=True)
    code = (
        "import json, sys; from pathlib import Path; from pipeline.config import Settings;"
        "from pipeline.defs.in_process import run_loop; from pipeline.progress import Silent;"
        f"settings = Settings(home=Path({str(settings.home)!r}), database_url={settings.database_url!r});"
        "result = run_loop(settings, Silent(), only_index=True);"
        "print(json.dumps([result.index['action'], 'torch' in sys.modules]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout.splitlines()[-1]) == ["reused", False]
