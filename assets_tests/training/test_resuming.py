"""A training that was killed goes on from its last saved step, and ends as if it had not been."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

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


@pytest.fixture(scope="module")
def staged(click_pairs: list[Pair]) -> TrainingSet:
    """Sixteen pairs of documentation, sixteen that pass for feedback, eight to validate."""
    training = [pair for pair in click_pairs if pair.split == "train"][:32]
    pairs = [replace(pair, origin="feedback") if i % 2 else pair for i, pair in enumerate(training)]
    return make_set([*pairs, *(pair for pair in click_pairs if pair.split == "validation")][:40])


# In a process of its own: what other tests leave behind in this one, such as a library's own rounding, would
# make the killed training another than the one that goes on.
TRAINING = """
import json, pickle, sys
from pathlib import Path
from safetensors.torch import save_file
from assets_tests.training import test_resuming as tests
from pipeline.config import Settings
from pipeline.encoders.loading import load_encoder
from pipeline.training.fine_tuning import fine_tune

settings, training_set, work, step, result = sys.argv[1:]
progress = tests.KilledBySignal(int(step)) if int(step) else tests.Notes()
trained = fine_tune(
    load_encoder("minilm", device="cpu"),
    pickle.loads(Path(training_set).read_bytes()),
    Settings.model_validate_json(settings),
    Path(work),
    progress,
)
save_file(trained.model.state_dict(), result)
account = {name: getattr(trained, name) for name in ("history", "best_step", "resumed_at")}
print(json.dumps(account | {"notes": progress.notes, "done": progress.done}))
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


class Trainings:
    """Trainings of the same pairs in two stages, with dropout, whose random numbers have to go on where they
    were; each in a process of its own, and in a directory of its own under `path`.
    """

    def __init__(self, path: Path, staged: TrainingSet) -> None:
        self._path = path
        settings = Settings(
            home=path / "home",
            device="cpu",
            train_batch_size=8,
            train_max_tokens=32,
            recipe="two-stage",
            dropout=0.1,
            validations_per_epoch=1,
        )
        self._settings = settings.model_copy(update=ALWAYS).model_dump_json()
        self._pairs = path / "staged"
        self._pairs.write_bytes(pickle.dumps(staged))

    def work(self, name: str) -> Path:
        return self._path / name

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        return load_file(self._path / f"{name}.safetensors")

    def run(self, name: str, killed_in: int = 0) -> subprocess.CompletedProcess[str]:
        arguments = (
            self._settings,
            self._pairs,
            self.work(name),
            killed_in,
            self._path / f"{name}.safetensors",
        )
        return subprocess.run(
            [sys.executable, "-c", TRAINING, *map(str, arguments)],
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def account(self, name: str) -> dict[str, Any]:
        """What it tells of itself, having come to its end."""
        ended = self.run(name)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def trainings(staged: TrainingSet, tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(tmp_path_factory.mktemp("trainings"), staged)


@pytest.fixture(scope="module")
def unkilled(trainings: Trainings) -> dict[str, Any]:
    """The account of one that was left alone; its weights go by this name."""
    account = trainings.account("unkilled")
    assert account["resumed_at"] == []
    assert [row["step"] for row in account["history"] if row.get("stage", "feedback") != "feedback"][-1] == 2
    return account


# In the second stage, and in its first step: the random numbers are each stage's own, so what is gone on from
# is the first stage's last step but one.
@pytest.mark.parametrize(("killed_in", "saved"), [(4, 3), pytest.param(3, 1, marks=pytest.mark.slow)])
def test_a_killed_training_ends_with_the_model_of_an_unkilled_one(
    trainings: Trainings, unkilled: dict[str, Any], killed_in: int, saved: int
) -> None:
    name = f"killed in {killed_in}"
    killed = trainings.run(name, killed_in)
    assert killed.returncode == -9, killed.stderr
    work = trainings.work(name)
    assert (work / STATE).is_file()
    resumed = trainings.account(name)

    assert resumed["resumed_at"] == [saved], "\n".join(resumed["notes"])
    assert any(note.startswith(f"Resumed at step {saved} of 5") for note in resumed["notes"])
    ours, theirs = trainings.weights(name), trainings.weights("unkilled")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[each], theirs[each]) for each in ours)
    assert resumed["history"] == unkilled["history"]
    assert [row["step"] for row in resumed["history"] if "loss" in row] == [1, 2, 3, 4, 5]
    assert resumed["best_step"] == unkilled["best_step"]
    # The steps of the killed training count as done.
    assert resumed["done"] == 5
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


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 4])
def test_what_was_learned_apart_is_resumed_with_its_parts(
    minilm: Encoder, staged: TrainingSet, small: Settings, tmp_path: Path, rank: int
) -> None:
    settings = small.model_copy(
        update={
            **ALWAYS,
            "recipe": "merged",
            "lora_rank": rank,
            "train_batch_size": 16,
            "cached_batch_size": 8,
            "feedback_min_pairs": 8,
            "feedback_epochs": 2,
            "dropout": 0.1,
        }
    )
    work = tmp_path / "training.work"
    with pytest.raises(KilledError):
        fine_tune(minilm, staged, settings, work, KilledAt(5))
    assert (work / "ended-0.safetensors").is_file()
    resumed = fine_tune(minilm, staged, settings, work, Silent())
    assert resumed.resumed_at == [4]
    unkilled = fine_tune(minilm, staged, settings, tmp_path / "other.work", Silent())
    assert same(resumed, unkilled)
    assert (resumed.history, resumed.merging) == (unkilled.history, unkilled.merging)


@pytest.mark.slow
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
