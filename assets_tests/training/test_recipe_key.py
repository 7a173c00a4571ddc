"""The recipe's key changes with whatever changes the model, and with nothing else."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from assets_tests.training.click_pairs import plain_pairs
from pipeline.config import Settings
from pipeline.training.pairs import TrainingSet
from pipeline.training.recipe_key import recipe_key

SET = TrainingSet(1, "a" * 64, "b" * 64, "c" * 64, {}, ())
BASE = "d" * 64


def test_the_same_recipe_has_the_same_key() -> None:
    key = recipe_key(SET, BASE, Settings())
    assert len(key) == 64
    assert key == recipe_key(replace(SET, id=9, reused=True, counts={"pairs": 3}), BASE, Settings())


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 18},
        {"learning_rate": 1e-5},
        {"train_epochs": 2},
        {"train_batch_size": 16},
        {"train_max_tokens": 64},
        {"recipe": "triplet"},
        {"recipe": "two-stage"},
        {"temperature": 0.02},
        {"dropout": 0.1},
        {"weight_decay": 0.01},
        {"warmup_share": 0.2},
        {"max_grad_norm": 2.0},
        {"validations_per_epoch": 2},
        {"early_stopping_patience": 1},
        {"early_stopping_tolerance": 0},
        {"early_stopping_pairs": 10},
    ],
)
def test_whatever_decides_the_weights_changes_the_key(change: dict[str, Any]) -> None:
    assert recipe_key(SET, BASE, Settings(**change)) != recipe_key(SET, BASE, Settings())


@pytest.mark.parametrize(
    ("recipe", "change"),
    [
        ("cached", {"cached_batch_size": 64}),
        ("guided", {"guide_margin": 0.1}),
        ("guided", {"guide": "qodo"}),
        ("matryoshka", {"matryoshka_halvings": 1}),
        ("two-stage", {"first_stage_epochs": 3}),
        ("two-stage", {"replay_share": 0.5}),
        ("merged", {"feedback_epochs": 3}),
        ("merged", {"feedback_learning_rate": 2e-4}),
        ("merged", {"feedback_min_pairs": 30}),
        ("averaged", {"averaging_shares": (0.5, 1.0)}),
        ("averaged", {"averaging_max_loss": 0.1}),
        ("multiple-negatives", {"early_stopping_min_feedback": 50}),
    ],
)
def test_what_a_recipe_leaves_open_is_part_of_the_key(recipe: str, change: dict[str, Any]) -> None:
    key = recipe_key(SET, BASE, Settings(recipe=recipe))
    assert recipe_key(SET, BASE, Settings(recipe=recipe, **change)) != key


def test_another_guide_or_other_earlier_pairs_are_another_recipe() -> None:
    settings = Settings(recipe="guided")
    key = recipe_key(SET, BASE, settings)
    (pair,) = plain_pairs(1, "train")
    assert recipe_key(SET, BASE, settings, guide_version="e" * 64) != key
    assert recipe_key(SET, BASE, settings, earlier=[pair]) != key


@pytest.mark.parametrize(
    "change",
    [
        {"guide": "qodo"},
        {"guide_margin": 0.3},
        {"cached_batch_size": 64},
        {"matryoshka_halvings": 1},
        {"first_stage_epochs": 3},
        {"averaging_shares": (0.5,)},
        {"averaging_max_loss": 0.1},
        {"feedback_epochs": 3},
    ],
)
def test_settings_of_other_recipes_do_not_matter(change: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"recipe": "multiple-negatives"}
    assert recipe_key(SET, BASE, Settings(**plain, **change)) == recipe_key(SET, BASE, Settings(**plain))


@pytest.mark.parametrize("change", [{"search_port": 9000}, {"embed_batch_size": 4}, {"max_loss_rise": 1.5}])
def test_what_does_not_decide_them_does_not(change: dict[str, Any]) -> None:
    assert recipe_key(SET, BASE, Settings(**change)) == recipe_key(SET, BASE, Settings())


def test_other_data_or_another_base_is_another_recipe() -> None:
    key = recipe_key(SET, BASE, Settings())
    assert recipe_key(replace(SET, fingerprint="e" * 64), BASE, Settings()) != key
    assert recipe_key(SET, "f" * 64, Settings()) != key


def test_asking_whether_something_was_trained_before_loads_no_torch() -> None:
    code = (
        "import sys, pipeline.training.recipe_key, pipeline.training.checkpoints\n"
        "import pipeline.training.fine_tuning\n"
        "print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
