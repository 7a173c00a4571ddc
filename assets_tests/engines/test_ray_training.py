"""Training over Ray, on a real cluster of this machine: the same model, whatever becomes of a node."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assets_tests.engines.clusters import GivesBack, RealCluster, real_cluster
from assets_tests.training.click_pairs import make_pairs, make_set, plain_pairs
from assets_tests.training.notes import Notes
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.engines import patience
from pipeline.engines.cluster import Cluster
from pipeline.engines.ray_training import train_on_cluster
from pipeline.errors import BadInputError, HoneloopError, UnavailableError
from pipeline.progress import Silent
from pipeline.training.fine_tuning import FineTuned
from pipeline.training.handover import handed_over, take_over
from pipeline.training.history import losses
from pipeline.training.launching import Job, launch_for
from pipeline.training.processes import train_together
from pipeline.training.training_state import STATE, StateStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

# Every step is saved. Adapters, as their state is small.
ALWAYS = {"state_seconds": 0, "state_max_share": 1, "lora_rank": 2}


@pytest.fixture
def cluster() -> Iterator[RealCluster]:
    with real_cluster() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ray gives a worker of one processor; the same sums round alike only in as many threads."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def job(minilm: Encoder, tmp_path: Path) -> Job:
    """Six steps of training."""
    pairs = [*make_pairs(minilm, 48, "train"), *make_pairs(minilm, 16, "validation", 48)]
    settings = Settings(
        home=tmp_path / "home",
        device="cpu",
        train_batch_size=8,
        train_max_tokens=32,
        validations_per_epoch=2,
        train_processes=2,
    )
    return Job("minilm", None, make_set(pairs), (), settings, tmp_path / "key.work", tmp_path / "key")


def over(cluster: RealCluster, job: Job, name: str = "ray", **said: Any) -> Job:
    """The same job on the cluster, with places of its own."""
    used = {"engine": "ray", "ray_address": cluster.address, "ray_patience_seconds": 900, **said}
    directory = job.directory.with_name(name)
    return replace(
        job,
        settings=job.settings.model_copy(update=used),
        work_dir=directory.with_name(f"{name}.work"),
        directory=directory,
    )


def same(one: FineTuned, other: FineTuned) -> bool:
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def all_is_free(processors: int) -> bool:
    """Whether the cluster has all its processors back, in a while."""
    ray = import_module("ray")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if ray.available_resources().get("CPU") == processors:
            return True
        time.sleep(0.5)
    return False


def test_it_makes_the_model_that_as_many_local_processes_make(
    cluster: RealCluster, job: Job, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.add_node()
    for count in (2, 1):
        here = replace(
            job,
            settings=job.settings.model_copy(update={"train_processes": count}),
            directory=job.directory.with_name(f"here-{count}"),
            work_dir=job.directory.with_name(f"here-{count}.work"),
        )
        told_here, told_there = Notes(), Notes()
        train_together(here, told_here, count=count)
        there = over(cluster, here, f"there-{count}")
        launch = launch_for(there.settings)
        assert launch is not None
        capfd.readouterr()
        launch(there, told_there)
        assert capfd.readouterr() == ("", "")

        local, remote = take_over(here.directory, "cpu"), take_over(there.directory, "cpu")
        assert same(local, remote)
        assert local.recipe_key == remote.recipe_key
        assert local.history == remote.history
        assert remote.processes == count
        assert (told_there.totals, told_there.done) == ({"Fine-tuning": 6}, 6)
        steps = [
            [note for note in told.notes if note.startswith("Step ")] for told in (told_here, told_there)
        ]
        assert steps[0] == steps[1]
        assert len(steps[0]) > 1
        assert all_is_free(2)


class Notices(Notes):
    """Does something once, after the third step is saved."""

    def __init__(self, work_dir: Path, do: Callable[[], None]) -> None:
        super().__init__()
        self._state = work_dir / STATE
        self._do: Callable[[], None] | None = do

    def note(self, message: str) -> None:
        super().note(message)
        if message.startswith("Step 3 of 6") and self._do is not None:
            do, self._do = self._do, None
            do()


def test_a_node_killed_while_it_trains_costs_no_saved_step(
    cluster: RealCluster, job: Job, minilm: Encoder
) -> None:
    del minilm
    kill = cluster.add_node().kill
    here = replace(job, settings=job.settings.model_copy(update=ALWAYS))
    train_together(here, Silent(), count=2)
    there = over(cluster, here)
    progress = Notices(there.work_dir, kill)
    train_on_cluster(there, progress)

    assert progress.notes[0] == "Training on the Ray cluster in 2 processes."
    assert "Training on the Ray cluster in one process." in progress.notes
    assert any("was lost" in note for note in progress.notes)
    resumed = [note for note in progress.notes if note.startswith("Resumed at step")]
    assert len(resumed) == 1
    local, remote = take_over(here.directory, "cpu"), take_over(there.directory, "cpu")
    assert remote.resumed_at
    assert [row["step"] for row in remote.history] == [row["step"] for row in local.history]
    # The last steps were of one process: the same but for rounding.
    assert losses(remote.history) == pytest.approx(losses(local.history), rel=1e-4)
    texts = [pair.query for pair in job.training_set.pairs[:8]]
    np.testing.assert_allclose(remote.model.encode(texts), local.model.encode(texts), atol=1e-4)
    assert sorted(path.name for path in there.directory.parent.glob("ray*")) == ["ray", "ray.work"]
    assert all_is_free(1)


def test_a_training_waits_for_what_others_have_taken(
    cluster: RealCluster, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than its patience, which is for a cluster that has too little."""
    monkeypatch.setattr(patience, "SAY_SECONDS", 5)
    alone = over(cluster, job, ray_patience_seconds=60, train_processes=1)
    Cluster(alone.settings)
    progress = GivesBack(70)
    train_on_cluster(alone, progress)
    assert len(progress.waited) > 2
    assert handed_over(alone.directory)
    assert all_is_free(1)


class MakesRoom(Notes):
    """Puts a file where files arrive, as a stage begins, so that none can; takes it away when a state was
    lost to that. Notes what is kept here at each validation.
    """

    def __init__(self, work_dir: Path) -> None:
        super().__init__()
        self._place = work_dir / "arriving"
        self._store = StateStore(work_dir, "")
        self.kept: list[list[str]] = []

    def note(self, message: str) -> None:
        super().note(message)
        if message.startswith("Stage feedback alone"):
            shutil.rmtree(self._place, ignore_errors=True)
            self._place.touch()
        elif "could not be saved" in message:
            self._place.unlink()
        elif message.startswith("Step "):
            self.kept.append([path.name for path in self._store.files()])


def test_a_state_that_could_not_be_stored_here_is_made_good_by_the_next(
    cluster: RealCluster, job: Job, minilm: Encoder
) -> None:
    """The weights of the stage before go with the first state of the next one, which is lost."""
    pairs = [*make_pairs(minilm, 32, "train"), *make_pairs(minilm, 8, "validation", 48)]
    pairs = [replace(pair, origin="feedback") if number % 2 else pair for number, pair in enumerate(pairs)]
    merged = {"recipe": "merged", "cached_batch_size": 8, "feedback_min_pairs": 8, "feedback_epochs": 3}
    settings = job.settings.model_copy(update={**ALWAYS, **merged, "train_processes": 1})
    there = over(cluster, replace(job, training_set=make_set(pairs), settings=settings))
    progress = MakesRoom(there.work_dir)
    train_on_cluster(there, progress)
    assert len([note for note in progress.notes if "its state could not be saved" in note]) == 1
    assert "ended-0.safetensors" in progress.kept[-1]
    assert handed_over(there.directory)


class StoppedError(BaseException):
    """What ends this process's part."""


def interrupt() -> None:
    raise StoppedError


def test_what_ends_here_is_resumed_by_the_next_run_to_the_bit(cluster: RealCluster, job: Job) -> None:
    cluster.add_node()
    settings = job.settings.model_copy(update={**ALWAYS, "recipe": "guided"})
    here = replace(job, guide="minilm", settings=settings)
    train_together(here, Silent(), count=2)
    there = over(cluster, here)
    with pytest.raises(StoppedError):
        train_on_cluster(there, Notices(there.work_dir, interrupt))
    assert not handed_over(there.directory)
    assert (there.work_dir / STATE).is_file()
    assert not StateStore.busy(there.work_dir)
    assert all_is_free(2)
    progress = Notes()
    train_on_cluster(there, progress)
    assert any(note.startswith("Resumed at step") for note in progress.notes)
    assert same(take_over(here.directory, "cpu"), take_over(there.directory, "cpu"))


def test_a_cluster_without_room_says_so_and_what_a_worker_refuses_is_said_here(
    cluster: RealCluster, job: Job
) -> None:
    crowded = over(cluster, job, ray_patience_seconds=20)
    with pytest.raises(
        UnavailableError, match=r"For 20 s .* no room for 2 training .* have processors: 1, GPUs: 0"
    ):
        train_on_cluster(crowded, Silent())
    gpu = over(cluster, job, ray_patience_seconds=20, train_processes=1, device="cuda")
    with pytest.raises(UnavailableError, match=r"GPUs: 0, and HONELOOP_DEVICE=cuda asks for a GPU"):
        train_on_cluster(gpu, Silent())
    with pytest.raises(BadInputError, match="'guesswork' is not"):
        train_on_cluster(over(cluster, job, recipe="guesswork"), Silent())
    without_negatives = replace(job, training_set=make_set(plain_pairs(16, "train")))
    refused = over(cluster, without_negatives, train_processes=1, recipe="triplet")
    with pytest.raises(HoneloopError, match="no pairs that the triplet loss could train on"):
        train_on_cluster(refused, Silent())
    assert not handed_over(refused.directory)
    assert all_is_free(1)
