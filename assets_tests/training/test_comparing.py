"""Recipes side by side on a real model: trained once, told apart, and nothing registered for it."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from assets_tests.training.accounts import account
from assets_tests.training.click_pairs import make_set
from assets_tests.training.notes import Notes
from pipeline.config import Settings
from pipeline.errors import BadInputError, HoneloopError
from pipeline.promotion.registry import list_models
from pipeline.store.connections import Database
from pipeline.training.comparing import Compared, best_of, compare_recipes, with_chances
from pipeline.training.comparing_view import render_comparison
from pipeline.training.handover import handed_over
from pipeline.training.pairs import Pair, TrainingSet
from pipeline.training.recipe_words import names_of
from pipeline.training.runs import plan_run
from pipeline.workbench import Workbench

NAMES = ("multiple-negatives", "cached+matryoshka", "triplet")


@pytest.fixture
def tiny(small: Settings) -> Settings:
    return small.model_copy(
        update={"validations_per_epoch": 1, "cached_batch_size": 16, "train_batch_size": 4}
    )


@pytest.fixture
def tiny_set(click_pairs: list[Pair]) -> TrainingSet:
    """Sixteen training pairs without a negative, and eight validation pairs."""
    from dataclasses import replace

    return make_set([replace(pair, negatives=()) for pair in (*click_pairs[:16], *click_pairs[48:56])])


def test_recipes_are_trained_once_and_nothing_is_registered(
    db: Database, tiny: Settings, tiny_set: TrainingSet
) -> None:
    progress = Notes()
    bench = Workbench(tiny, progress, db)
    base = bench.base_model()
    comparison = compare_recipes(bench, tiny_set, base, NAMES)
    # Triplet needs negatives; the others are compared all the same.
    assert [(each.name, each.made) for each in comparison.compared] == [(n, "trained") for n in NAMES[:2]]
    assert list(comparison.failed) == ["triplet"]
    assert [model.version for model in list_models(db)] == [base.version]
    assert not tiny.checkpoints_path.exists()
    assert comparison.best is not None

    told = comparison.to_json()
    assert told["best"] == comparison.best.name
    assert told["queries"] == {"docstring": 8}
    plain, cached = told["recipes"]
    assert (plain["steps"], cached["steps"]) == (4, 1)
    assert [(s["batch_pairs"], s["batch_documents"]) for s in (*plain["stages"], *cached["stages"])] == [
        (4, 4),
        (16, 16),
    ]
    assert plain["peak_memory_bytes"] > 50_000_000
    assert plain["validation"]["by_origin"]["docstring"] == {
        metric: plain["validation"][metric] for metric in ("ndcg@10", "mrr@10")
    }

    done = progress.done
    again = compare_recipes(bench, tiny_set, base, NAMES[:2])
    assert [each.made for each in again.compared] == ["waiting", "waiting"]
    assert progress.done == done
    # What `honeloop train` would do by the recipe that was chosen: take the model over.
    chosen = plan_run(bench, tiny_set, base, tiny.model_copy(update={"recipe": comparison.best.name}))
    assert handed_over(chosen.directory)

    written = StringIO()
    Console(file=written, width=80, color_system=None).print(render_comparison(comparison))
    shown = written.getvalue()
    assert f"export HONELOOP_RECIPE={comparison.best.name}" in shown
    assert "triplet failed: The training set has no pairs" in shown
    assert "before training" in shown
    assert "…" not in shown
    assert f"{comparison.best.validation['ndcg@10']:.4f}" in shown


def test_if_every_recipe_fails_the_first_says_why(
    db: Database, tiny: Settings, tiny_set: TrainingSet
) -> None:
    bench = Workbench(tiny, Notes(), db)
    with pytest.raises(HoneloopError, match="no pairs that the triplet loss"):
        compare_recipes(bench, tiny_set, bench.base_model(), ("triplet", "triplet+cached"))


def compared(name: str, values: Sequence[float]) -> Compared:
    mean = sum(values) / len(values)
    row = {"step": 1, "stage": "all pairs", "epoch": 1.0, "ndcg@10": mean, "mrr@10": mean, "by_origin": {}}
    validation = {"decides": "all", "queries": {}, "values": list(values)}
    told = account([{**row, "step": 0}, row], recipe_key=name, validation=validation)
    return Compared(name, "trained", told)


def test_the_best_is_told_from_the_others_by_their_queries() -> None:
    best, close, far = (
        compared("b", [0.9] * 12),
        compared("c", [1.0, 0.5] + [0.9] * 10),
        compared("f", [0.5] * 12),
    )
    judged = with_chances([far, best, close], 1000, 3)
    assert best_of(judged) is judged[1]
    assert [each.name for each in judged] == ["f", "b", "c"]
    assert judged[0].p_value < 0.01
    assert judged[1].p_value == 1
    assert judged[2].p_value > 0.2


def test_of_equals_the_one_asked_for_first_is_best() -> None:
    one, other = compared("one", [0.5]), compared("other", [0.5])
    assert best_of([one, other]) is one
    assert best_of([other, one]) is other


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ("multiple-negatives,cached", ("multiple-negatives", "cached")),
        (" guided+cached , triplet,cached+guided", ("cached+guided", "triplet")),
    ],
)
def test_a_list_of_recipes_names_each_once(listed: str, names: tuple[str, ...]) -> None:
    assert names_of(listed) == names


@pytest.mark.parametrize(
    ("listed", "why"),
    [("cached", "nothing to compare cached"), ("cached,cached", "nothing to"), ("cached,", "'' is not")],
)
def test_a_list_of_fewer_than_two_recipes_is_refused(listed: str, why: str) -> None:
    with pytest.raises(BadInputError, match=why):
        names_of(listed)


def test_an_unknown_recipe_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from pipeline.cli import app

    home = tmp_path / "home"
    ran = CliRunner(env={"HONELOOP_HOME": str(home)}).invoke(app, ["train", "--compare", "cached,chached"])
    assert ran.exit_code == 2
    assert "'chached' is not known" in ran.stderr
    assert "guided (a frozen model" in ran.stderr
    assert not home.exists()
