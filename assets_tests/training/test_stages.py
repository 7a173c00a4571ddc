"""Which pairs are trained on when, and what of the earlier ones comes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from assets_tests.training.click_pairs import make_set, plain_pairs
from assets_tests.training.notes import Notes
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.errors import HoneloopError
from pipeline.training.fine_tuning import fine_tune
from pipeline.training.lineage import metrics_of
from pipeline.training.pairs import Negative, Pair, TrainingSet
from pipeline.training.recipe import recipe_of
from pipeline.training.stages import PlannedStage, plan_stages

TWO = Settings(recipe="two-stage", train_batch_size=8, first_stage_epochs=2, replay_share=0.25)


def mixed(documentation: int, feedback: int, commits: int = 0) -> TrainingSet:
    """Real pairs, the last of which pass for feedback and commits."""
    pairs = plain_pairs(documentation + feedback + commits, "train")
    return make_set(
        [
            *pairs[:documentation],
            *(replace(pair, origin="feedback") for pair in pairs[documentation : documentation + feedback]),
            *(replace(pair, origin="commit", weight=0.5) for pair in pairs[documentation + feedback :]),
        ]
    )


def planned(training_set: TrainingSet, settings: Settings = TWO) -> tuple[list[PlannedStage], list[str]]:
    progress = Notes()
    return plan_stages(training_set, recipe_of(settings), progress.note), progress.notes


def ids(pairs: tuple[Pair, ...] | list[Pair]) -> set[int]:
    return {pair.id for pair in pairs}


def test_documentation_and_commits_come_first_then_feedback_with_a_share_of_them() -> None:
    training_set = mixed(20, 12, 8)
    (first, second), notes = planned(training_set)
    assert notes == []
    assert first.to_json() == {
        "name": "documentation and commits",
        "pairs": 28,
        "origins": {"commit": 8, "docstring": 20},
        "replayed": 0,
        "steps": 8,
        "batch_pairs": 7,
        "batch_documents": 7,
    }
    # 12 of feedback and 4 replayed: a quarter of 16.
    assert (len(second.pairs), second.replayed) == (16, 4)
    assert sum(pair.origin == "feedback" for pair in second.pairs) == 12
    assert len(ids(second.pairs)) == 16
    assert ids([pair for pair in second.pairs if pair.origin != "feedback"]) < ids(first.pairs)


def test_what_is_replayed_is_drawn_from_the_seed_and_not_from_the_order() -> None:
    training_set = mixed(20, 12)
    turned = replace(training_set, pairs=training_set.pairs[::-1])
    ours, again = planned(training_set)[0][1], planned(turned)[0][1]
    other = planned(training_set, TWO.model_copy(update={"seed": 5}))[0][1]
    assert ours == again
    assert ids(ours.pairs) != ids(other.pairs)
    assert planned(training_set, TWO.model_copy(update={"replay_share": 0.0}))[0][1].replayed == 0


def test_nothing_is_replayed_where_feedback_is_alone() -> None:
    settings = Settings(recipe="merged", feedback_min_pairs=12, replay_share=0.25)
    earlier = plain_pairs(8, "train", 40)
    whole, alone = plan_stages(mixed(20, 12), recipe_of(settings), Notes().note, earlier)
    assert (whole.replayed, alone.replayed) == (8, 0)
    assert {pair.origin for pair in alone.pairs} == {"feedback"}


def test_no_more_is_replayed_than_there_is() -> None:
    assert planned(mixed(2, 30))[0][1].replayed == 2


@pytest.mark.parametrize(
    ("training_set", "stage", "missing"),
    [
        (mixed(9, 0), "documentation and commits", "feedback"),
        (mixed(0, 9), "feedback", "docstring or commit"),
    ],
)
def test_a_stage_without_pairs_is_left_out_and_said(
    training_set: TrainingSet, stage: str, missing: str
) -> None:
    (only,), notes = planned(training_set)
    assert only.stage.name == stage
    assert notes == [f"The training set has no pairs of {missing}: that stage is left out."]


def test_without_any_pairs_there_is_nothing_to_train_on() -> None:
    with pytest.raises(HoneloopError, match="no pairs that the multiple-negatives loss could train on"):
        planned(make_set(plain_pairs(3, "validation")))


def test_two_stages_are_trained_one_after_the_other_with_their_own_rates(
    minilm: Encoder, tmp_path: Path
) -> None:
    training_set = mixed(16, 16)
    training_set = replace(training_set, pairs=(*training_set.pairs, *plain_pairs(12, "validation", 32)))
    settings = TWO.model_copy(
        update={
            "first_stage_epochs": 1,
            "first_stage_learning_rate": 2e-5,
            "device": "cpu",
            "train_max_tokens": 32,
            "validations_per_epoch": 1,
        }
    )
    progress = Notes()
    tuned = fine_tune(minilm, training_set, settings, tmp_path, progress)
    steps = [row for row in tuned.history if "loss" in row]
    assert [(row["step"], row["stage"]) for row in steps] == [
        *((step, "documentation and commits") for step in (1, 2)),
        *((step, "feedback") for step in (3, 4, 5)),
    ]
    rates = [row["learning_rate"] for row in steps]
    assert max(rates[:2]) == pytest.approx(2e-5)
    assert max(rates[2:]) == pytest.approx(5e-5)
    assert [row["step"] for row in tuned.history if "loss" not in row] == [0, 2, 5]
    assert [stage["replayed"] for stage in tuned.stages] == [0, 5]
    assert (progress.totals, progress.done) == ({"Fine-tuning": 5}, 5)
    assert any(note.startswith("Stage feedback: 21 pairs, 5 of them replayed") for note in progress.notes)
    # The second stage went on from what the first had learned.
    alone = replace(training_set, pairs=tuple(p for p in training_set.pairs if p.origin == "feedback"))
    without = fine_tune(minilm, alone, settings, tmp_path, Notes())
    name = next(name for name in tuned.model.state_dict() if name.endswith("word_embeddings.weight"))
    assert not torch.equal(tuned.model.state_dict()[name], without.model.state_dict()[name])


def test_what_is_merged_is_the_average_of_what_each_part_learns_from_the_base(
    minilm: Encoder, tmp_path: Path
) -> None:
    base = mixed(16, 16)
    mined = Negative(b"n" * 32, "def unrelated(): ...", "mined", None, None)
    training_set = replace(
        base,
        pairs=(
            *(replace(pair, negatives=(mined,)) for pair in base.pairs),
            *plain_pairs(12, "validation", 32),
        ),
    )
    settings = Settings(
        recipe="merged",
        train_batch_size=8,
        cached_batch_size=16,
        feedback_min_pairs=16,
        feedback_epochs=2,
        feedback_learning_rate=2e-4,
        device="cpu",
        train_max_tokens=32,
        validations_per_epoch=1,
    )
    progress = Notes()
    tuned = fine_tune(minilm, training_set, settings, tmp_path / "merged", progress)
    steps = [row for row in tuned.history if "loss" in row]
    assert [row["stage"] for row in steps] == ["all pairs"] * 4 + ["feedback alone"] * 2
    assert [(stage["replayed"], stage["batch_documents"]) for stage in tuned.stages] == [(0, 9), (0, 16)]

    whole = settings.model_copy(update={"recipe": "multiple-negatives"})
    alone = settings.model_copy(
        update={"recipe": "cached", "train_epochs": 2, "learning_rate": 2e-4, "hard_negatives": 0}
    )
    feedback = tuple(
        replace(pair, negatives=())
        for pair in training_set.pairs
        if pair.origin == "feedback" or pair.split == "validation"
    )
    parts = [
        fine_tune(minilm, training_set, whole, tmp_path / "whole", Notes()),
        fine_tune(minilm, replace(training_set, pairs=feedback), alone, tmp_path / "alone", Notes()),
    ]
    weights = [part.model.state_dict() for part in parts]
    for name, tensor in tuned.model.state_dict().items():
        torch.testing.assert_close(tensor, (weights[0][name] + weights[1][name]) / 2, rtol=0, atol=1e-7)
    assert [row["part"] for row in tuned.merging] == ["all pairs", "feedback alone", "merged"]
    lasts = [[row for row in part.history if "loss" not in row][-1] for part in parts]
    assert [row["ndcg@10"] for row in tuned.merging[:2]] == [row["ndcg@10"] for row in lasts]
    assert metrics_of(tuned)["validation"]["best"]["mrr@10"] == tuned.merging[-1]["mrr@10"]
    assert any(note.startswith("Learned apart, and merged: all pairs: ndcg@10") for note in progress.notes)


@pytest.mark.parametrize(
    ("feedback", "why"),
    [
        (0, "The training set has no pairs of feedback: that stage is left out."),
        (15, "15 training pairs of feedback are too few to learn from alone, 16 are needed"),
    ],
)
def test_without_enough_feedback_nothing_is_merged(
    minilm: Encoder, tmp_path: Path, feedback: int, why: str
) -> None:
    settings = Settings(train_batch_size=8, device="cpu", train_max_tokens=32, feedback_min_pairs=16)
    progress = Notes()
    tuned = fine_tune(minilm, mixed(16, feedback), settings, tmp_path, progress)
    assert (tuned.recipe["name"], tuned.merging) == ("merged", [])
    assert [stage["pairs"] for stage in tuned.stages] == [16 + feedback]
    assert any(note.startswith(why) for note in progress.notes)
