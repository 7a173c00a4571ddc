"""Fine-tuning on real code: it learns, it repeats itself bit for bit, and it fails where it must."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assets_tests.training.click_pairs import make_set
from assets_tests.training.notes import Notes
from pipeline.config import PROJECT_ROOT, Settings
from pipeline.encoders import devices
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.spec import EncoderSpec
from pipeline.errors import BadInputError, HoneloopError
from pipeline.progress import Silent
from pipeline.training.batches import token_table
from pipeline.training.fine_tuning import FineTuned, fine_tune
from pipeline.training.history import losses, validations
from pipeline.training.pairs import Pair, TrainingSet
from pipeline.training.recipe import recipe_of
from pipeline.training.stages import plan_stages
from pipeline.training.trainer import make_arguments
from pipeline.training.validation import Validation


def weights_of(fine_tuned: FineTuned) -> dict[str, torch.Tensor]:
    return fine_tuned.model.state_dict()


def same_weights(one: FineTuned, other: FineTuned) -> bool:
    ours, theirs = weights_of(one), weights_of(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_loss_falls_and_every_step_is_in_the_history(trained: tuple[FineTuned, Settings]) -> None:
    fine_tuned, _ = trained
    values = losses(fine_tuned.history)
    assert len(values) == 12
    assert sum(values[-4:]) < 0.8 * sum(values[:4])
    steps = [row["step"] for row in fine_tuned.history if "loss" in row]
    assert steps == list(range(1, 13))
    rates = [row["learning_rate"] for row in fine_tuned.history if "loss" in row]
    # It warms up over the first tenth, and then goes down to nothing.
    assert rates[0] < max(rates) == pytest.approx(5e-5)
    assert rates[-1] < 0.15 * max(rates)
    assert [row["step"] for row in validations(fine_tuned.history)] == [0, 6, 12]
    assert fine_tuned.device == "cpu"
    assert fine_tuned.seconds > 0


def test_the_weights_are_those_of_the_validation_that_was_chosen(
    trained: tuple[FineTuned, Settings], click_set: TrainingSet
) -> None:
    fine_tuned, settings = trained
    kept = next(row for row in validations(fine_tuned.history) if row["step"] == fine_tuned.best_step)
    validation = Validation(click_set.of("validation"), settings.early_stopping_pairs)
    tokens = token_table(fine_tuned.model, validation.texts, settings.train_max_tokens)
    measured = validation.measure(fine_tuned.model, tokens)
    assert measured["ndcg@10"] == pytest.approx(kept["ndcg@10"], abs=1e-6)
    assert measured["each"] == pytest.approx(fine_tuned.validation["values"])
    assert not fine_tuned.model.training


@pytest.mark.parametrize("rate", [pytest.param(1e-6, marks=pytest.mark.slow), 5e-3])
def test_the_last_weights_are_kept_unless_they_are_clearly_worse(
    minilm: Encoder, click_set: TrainingSet, small: Settings, tmp_path: Path, rate: float
) -> None:
    settings = small.model_copy(
        update={"learning_rate": rate, "warmup_share": 0.9, "validations_per_epoch": 6, "max_loss_rise": 1e9}
    )
    tuned = fine_tune(minilm, click_set, settings, tmp_path, Silent())
    found = {row["step"]: row["ndcg@10"] for row in validations(tuned.history)[1:]}
    # Too fast, and the ranking falls apart on the way.
    ruined = rate > 1e-3
    assert (found[max(found)] < 0.7 * max(found.values())) == ruined
    assert (tuned.best_step == max(found)) != ruined


def test_texts_are_embedded_with_the_bases_own_limit_afterwards(
    trained: tuple[FineTuned, Settings], minilm: Encoder
) -> None:
    assert trained[0].model.max_seq_length == minilm.max_tokens > trained[1].train_max_tokens


@pytest.mark.usefixtures("several_threads")
def test_the_same_data_and_seed_give_the_same_model_and_another_seed_another(
    minilm: Encoder,
    click_pairs: list[Pair],
    small: Settings,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    few = make_set([*click_pairs[:16], *click_pairs[48:]])
    texts = [pair.positive_text for pair in few.pairs[:4]]
    version, vectors = minilm.version, minilm.embed_documents(texts)
    random.seed(3)
    expected_draw = random.Random(3).random()
    deterministic = torch.are_deterministic_algorithms_enabled()
    progress = Notes()

    once = fine_tune(minilm, few, small, tmp_path / "1", progress)
    torch.rand(7)  # whatever was drawn before decides nothing
    shuffled = replace(few, pairs=few.pairs[::-1])
    again = fine_tune(minilm, shuffled, small, tmp_path / "2", Silent())
    other = fine_tune(minilm, few, small.model_copy(update={"seed": 18}), tmp_path / "3", Silent())

    assert same_weights(once, again)
    assert once.history == again.history
    assert not same_weights(once, other)
    # The base and the caller's random numbers are as they were.
    assert minilm.version == version
    np.testing.assert_array_equal(minilm.embed_documents(texts), vectors)
    assert random.random() == expected_draw
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    # Nothing is printed: `--json` owns stdout.
    assert capfd.readouterr() == ("", "")
    # Nothing pickled is left.
    left = [path for path in tmp_path.rglob("*") if path.suffix in (".pt", ".bin", ".pth", ".pkl")]
    assert left == []
    assert progress.totals == {"Fine-tuning": 2}
    assert progress.done == 2
    assert [note.partition(":")[0] for note in progress.notes[:4]] == [
        "The training set has no pairs of feedback",
        "Before training",
        "Step 1 of 2",
        "Step 2 of 2",
    ]
    assert "ndcg@10" in progress.notes[2]
    assert "on cpu" in progress.notes[-1]


def test_a_loss_that_is_not_a_number_stops_the_run_at_once(
    minilm: Encoder, click_set: TrainingSet, small: Settings, tmp_path: Path
) -> None:
    absurd = small.model_copy(update={"learning_rate": 1e38, "warmup_share": 0.0})
    progress = Notes()
    with pytest.raises(HoneloopError, match=r"became (nan|inf) at step [123]\b") as failure:
        fine_tune(minilm, click_set, absurd, tmp_path, progress)
    assert "HONELOOP_LEARNING_RATE" in failure.value.hint
    assert progress.done < 6


def test_a_rising_loss_fails_the_run(
    minilm: Encoder, click_pairs: list[Pair], small: Settings, tmp_path: Path
) -> None:
    absurd = small.model_copy(
        update={"learning_rate": 0.03, "warmup_share": 0.5, "train_epochs": 2, "validations_per_epoch": 1}
    )
    pairs = make_set([pair for pair in click_pairs if pair.split == "train"][:32])
    with pytest.raises(HoneloopError, match=r"the loss rose from .* to "):
        fine_tune(minilm, pairs, absurd, tmp_path, Silent())


def test_a_run_that_does_not_improve_stops_early(
    minilm: Encoder, click_set: TrainingSet, small: Settings, tmp_path: Path
) -> None:
    # At this rate nothing changes by so much that the ranking would.
    still = small.model_copy(
        update={"learning_rate": 1e-12, "early_stopping_patience": 1, "validations_per_epoch": 6}
    )
    progress = Notes()
    fine_tuned = fine_tune(minilm, click_set, still, tmp_path, progress)
    assert losses(fine_tuned.history) == losses(fine_tuned.history)[:2]
    assert any("Stopped early at step 2" in note for note in progress.notes)
    assert fine_tuned.best_step == 2


def test_the_triplet_loss_trains_on_pairs_with_a_negative_only(
    minilm: Encoder, click_pairs: list[Pair], small: Settings, tmp_path: Path
) -> None:
    triplet = small.model_copy(update={"recipe": "triplet", "validations_per_epoch": 1})
    training = [pair for pair in click_pairs if pair.split == "train"][:24]
    progress = Notes()
    fine_tuned = fine_tune(minilm, make_set(training), triplet, tmp_path, progress)
    assert progress.notes[0].startswith("6 of 24 training pairs have no negative")
    assert progress.notes[1].startswith("There are no validation pairs")
    # 18 pairs in batches of 8; without validation pairs the last weights are kept.
    assert len(losses(fine_tuned.history)) == fine_tuned.best_step == 3
    assert 0 < losses(fine_tuned.history)[0] < 1


def test_without_anything_to_train_on_it_says_what_to_do(
    minilm: Encoder, click_pairs: list[Pair], small: Settings, tmp_path: Path
) -> None:
    alone = [replace(pair, negatives=()) for pair in click_pairs]
    with pytest.raises(HoneloopError, match="no pairs that the triplet loss could train on") as failure:
        fine_tune(minilm, make_set(alone), small.model_copy(update={"recipe": "triplet"}), tmp_path, Silent())
    assert "feedback import" in failure.value.hint
    with pytest.raises(BadInputError, match="'hinge' is not a recipe"):
        fine_tune(minilm, make_set(alone), small.model_copy(update={"recipe": "hinge"}), tmp_path, Silent())


def test_a_frozen_encoder_is_refused(
    minilm: Encoder, click_set: TrainingSet, small: Settings, tmp_path: Path
) -> None:
    member = minilm.spec.members[0].model_copy(update={"trainable": False})
    frozen = Encoder(EncoderSpec(name="frozen", members=(member,)), [], minilm.files)
    frozen._members = minilm._members
    with pytest.raises(HoneloopError, match="cannot be fine-tuned"):
        fine_tune(frozen, click_set, small, tmp_path, Silent())


@pytest.mark.slow
def test_in_bfloat16_weights_and_vectors_stay_float32(
    minilm: Encoder,
    click_pairs: list[Pair],
    small: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What happens on a GPU that has it, on a CPU: torch can compute it there too.
    monkeypatch.setattr(devices, "supports_bf16", lambda _: True)
    pairs = make_set(click_pairs[:8])
    in_bf16 = fine_tune(minilm, pairs, small, tmp_path / "1", Silent())
    monkeypatch.undo()
    in_float32 = fine_tune(minilm, pairs, small, tmp_path / "2", Silent())
    assert {tensor.dtype for tensor in weights_of(in_bf16).values()} == {torch.float32}
    assert losses(in_bf16.history) == pytest.approx(losses(in_float32.history), rel=0.1)
    assert losses(in_bf16.history) != losses(in_float32.history)
    # The model that comes back computes in float32 again: no autocast is left around it.
    in_float32.model.load_state_dict(weights_of(in_bf16))
    texts = [pair.query for pair in pairs.pairs[:3]]
    np.testing.assert_array_equal(in_bf16.model.encode(texts), in_float32.model.encode(texts))


def test_training_elsewhere_than_asked_is_refused(
    click_set: TrainingSet, small: Settings, tmp_path: Path
) -> None:
    recipe = recipe_of(small)
    planned = plan_stages(click_set, recipe, Silent().note)[0]
    with pytest.raises(HoneloopError, match="cuda:77 was asked for"):
        make_arguments(str(tmp_path), planned, recipe, device="cuda:77", bf16=False)


ANOTHER_PROCESS = """
import sys, hashlib
from pathlib import Path
from assets_tests.training.click_pairs import make_pairs, make_set
from pipeline.config import Settings
from pipeline.encoders.loading import load_encoder
from pipeline.progress import Silent
from pipeline.training.fine_tuning import fine_tune

base = load_encoder("minilm", device="cpu")
pairs = [*make_pairs(base, 48, "train"), *make_pairs(base, 16, "validation", 48)]
settings = Settings(home=Path(sys.argv[1]), device="cpu", train_batch_size=8, train_max_tokens=32)
tuned = fine_tune(base, make_set(pairs), settings, Path(sys.argv[1]), Silent())
weights = tuned.model.state_dict()
print(hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights))).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.usefixtures("several_threads")
def test_two_processes_make_the_same_model(tmp_path: Path) -> None:
    def run(name: str) -> Any:
        command = [sys.executable, "-c", ANOTHER_PROCESS, str(tmp_path / name)]
        return subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True).stdout

    digest = run("1")
    assert len(digest.strip()) == 64
    assert run("2") == digest
