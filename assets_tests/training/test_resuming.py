"""A training that was killed goes on from its last saved step, and ends as if it had not been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from assets_tests.training.click_pairs import make_set
from assets_tests.training.notes import Notes
from pipeline.config import PROJECT_ROOT, Settings
from pipeline.encoders.encoder import Encoder
from pipeline.progress import Advance, Silent
from pipeline.training.fine_tuning import FineTuned, fine_tune
from pipeline.training.pairs import Pair, TrainingSet
from pipeline.training.training_state import STATE

# Every step is saved.
ALWAYS = {"state_seconds": 0, "state_max_share": 1}


class KilledError(BaseException):
    """Nothing catches it."""


class KilledAt(Notes):
    """A progress that ends the training in its `step`th step, before that is saved."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step = step

    @contextmanager
    def stage(self, description: str, total: int | None = None) -> Generator[Advance]:
        def advance(steps: int) -> None:
            self.done += steps
            if self.done >= self._step:
                raise KilledError

        yield advance


def same(one: FineTuned, other: FineTuned) -> bool:
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def staged_set(click_pairs: list[Pair]) -> TrainingSet:
    """Sixteen pairs of documentation, sixteen that pass for feedback, eight to validate."""
    training = [pair for pair in click_pairs if pair.split == "train"][:32]
    pairs = [replace(pair, origin="feedback") if i % 2 else pair for i, pair in enumerate(training)]
    return make_set([*pairs, *(pair for pair in click_pairs if pair.split == "validation")][:40])


@pytest.fixture(scope="module")
def staged(click_pairs: list[Pair]) -> TrainingSet:
    return staged_set(click_pairs)


KILLED = """
import sys
from pathlib import Path
from assets_tests.training import test_resuming as tests
from assets_tests.training.click_pairs import make_pairs
from pipeline.config import Settings
from pipeline.encoders.loading import load_encoder
from pipeline.training.fine_tuning import fine_tune

base = load_encoder("minilm", device="cpu")
pairs = [*make_pairs(base, 48, "train"), *make_pairs(base, 16, "validation", 48)]
settings = Settings.model_validate_json(sys.argv[1])
fine_tune(base, tests.staged_set(pairs), settings, Path(sys.argv[2]), tests.KilledBySignal(4))
"""


class KilledBySignal(KilledAt):
    """The same by `kill -9`: nothing of this process runs after it."""

    @contextmanager
    def stage(self, description: str, total: int | None = None) -> Generator[Advance]:
        with super().stage(description, total) as told:

            def advance(steps: int) -> None:
                try:
                    told(steps)
                except KilledError:
                    os.kill(os.getpid(), signal.SIGKILL)

            yield advance


def test_a_killed_training_ends_with_the_model_of_an_unkilled_one(
    minilm: Encoder, staged: TrainingSet, small: Settings, tmp_path: Path
) -> None:
    # Two stages, and dropout, whose random numbers have to go on where they were.
    settings = small.model_copy(
        update={**ALWAYS, "recipe": "two-stage", "dropout": 0.1, "validations_per_epoch": 1}
    )
    work = tmp_path / "training.work"
    command = [sys.executable, "-c", KILLED, settings.model_dump_json(), str(work)]
    killed = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    assert (work / STATE).is_file()

    progress = Notes()
    resumed = fine_tune(minilm, staged, settings, work, progress)
    unkilled = fine_tune(minilm, staged, settings, tmp_path / "other.work", Silent())

    assert same(resumed, unkilled)
    assert resumed.history == unkilled.history
    assert [row["step"] for row in resumed.history if "loss" in row] == [1, 2, 3, 4, 5]
    assert resumed.best_step == unkilled.best_step
    assert (resumed.resumed_at, unkilled.resumed_at) == ([3], []), progress.notes
    assert any(note.startswith("Resumed at step 3 of 5") for note in progress.notes)
    # The steps of the killed training count as done.
    assert progress.done == 5
    # Nothing pickled, and nothing but the last state.
    kept = sorted(path.suffix for path in work.iterdir() if path.name != ".lock")
    assert set(kept) == {".json", ".safetensors"}
    assert len(kept) <= 5


def test_adapters_are_resumed_and_early_stopping_goes_on_counting(
    minilm: Encoder, click_set: TrainingSet, small: Settings, tmp_path: Path
) -> None:
    still = small.model_copy(
        update={
            **ALWAYS,
            "lora_rank": 4,
            # At this rate nothing changes by so much that the ranking would.
            "learning_rate": 1e-12,
            "early_stopping_patience": 2,
            "validations_per_epoch": 6,
        }
    )
    work = tmp_path / "training.work"
    with pytest.raises(KilledError):
        fine_tune(minilm, click_set, still, work, KilledAt(3))
    # Of the encoder's weights, which do not change, nothing is saved.
    assert sum(path.stat().st_size for path in work.iterdir()) < 10_000_000
    progress = Notes()
    resumed = fine_tune(minilm, click_set, still, work, progress)
    assert resumed.resumed_at == [2]
    assert "Stopped early at step 3" in " ".join(progress.notes)
    unkilled = fine_tune(minilm, click_set, still, tmp_path / "other.work", Silent())
    assert same(resumed, unkilled)
    assert resumed.history == unkilled.history


def test_killed_twice_it_is_resumed_twice(
    minilm: Encoder, click_set: TrainingSet, small: Settings, tmp_path: Path
) -> None:
    settings = small.model_copy(update={**ALWAYS, "lora_rank": 2})
    work = tmp_path / "training.work"
    for step in (2, 5):
        with pytest.raises(KilledError):
            fine_tune(minilm, click_set, settings, work, KilledAt(step))
    resumed = fine_tune(minilm, click_set, settings, work, Silent())
    assert resumed.resumed_at == [1, 4]
    assert [row["step"] for row in resumed.history if "loss" in row] == [1, 2, 3, 4, 5, 6]


def test_other_settings_or_a_damaged_state_begin_anew_and_say_so(
    minilm: Encoder, click_set: TrainingSet, small: Settings, tmp_path: Path
) -> None:
    settings = small.model_copy(update={**ALWAYS, "lora_rank": 2})
    work = tmp_path / "training.work"
    for step in (2, 3):
        with pytest.raises(KilledError):
            fine_tune(minilm, click_set, settings, work, KilledAt(step))
    progress = Notes()
    with pytest.raises(KilledError):
        fine_tune(minilm, click_set, settings.model_copy(update={"seed": 3}), work, KilledAt(2))
    weights = next(work.glob("weights-*"))
    weights.write_bytes(weights.read_bytes()[:-1])
    progress = KilledAt(1)
    with pytest.raises(KilledError):
        fine_tune(minilm, click_set, settings.model_copy(update={"seed": 3}), work, progress)
    said = next(note for note in progress.notes if "cannot be resumed" in note)
    assert "begins anew" in said
    assert weights.name in said


def test_a_full_disk_does_not_end_a_training(
    minilm: Encoder, click_set: TrainingSet, small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.training import training_state

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(training_state, "force_to_disk", full)
    settings = small.model_copy(update={**ALWAYS, "lora_rank": 2, "validations_per_epoch": 1})
    progress = KilledAt(3)
    with pytest.raises(KilledError):
        fine_tune(minilm, click_set, settings, tmp_path / "training.work", progress)
    assert any("could not be saved" in note and "No space left" in note for note in progress.notes)
