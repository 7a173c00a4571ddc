"""The recipe's key changes with whatever changes the model, and with nothing else."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

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
        {"early_stopping_pairs": 10},
    ],
)
def test_whatever_decides_the_weights_changes_the_key(change: dict[str, Any]) -> None:
    assert recipe_key(SET, BASE, Settings(**change)) != recipe_key(SET, BASE, Settings())


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
