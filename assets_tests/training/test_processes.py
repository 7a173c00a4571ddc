"""Two processes train one model: the same one, as one process would, but for rounding."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch

from assets_tests.training.notes import Notes
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.errors import BadInputError, HoneloopError
from pipeline.progress import Silent
from pipeline.training import parallel
from pipeline.training.fine_tuning import FineTuned, fine_tune
from pipeline.training.handover import handed_over, take_over
from pipeline.training.history import losses
from pipeline.training.launching import Job
from pipeline.training.pairs import TrainingSet
from pipeline.training.processes import _free_port, process_count, train_together


def exchange(rank: int, port: int, end: Connection) -> None:
    """What each of two processes does in the test of `parallel`."""
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
    }
    from accelerate import PartialState

    PartialState(cpu=True)
    torch.manual_seed(0)
    layer, unused = torch.nn.Linear(3, 2), torch.nn.Linear(2, 2)
    inputs = torch.rand(5, 3)
    # Each embeds every second row; the loss is of all of them.
    own = torch.stack([layer(row) if parallel.is_own(i) else torch.zeros(2) for i, row in enumerate(inputs)])
    vectors = parallel.exchanged(own)
    (vectors @ vectors.T).square().sum().backward()
    # Only the first process used this one.
    if rank == 0:
        unused(torch.ones(2)).sum().backward()
    modules = torch.nn.ModuleList([layer, unused, torch.nn.Linear(1, 1)])
    parallel.sum_gradients(modules.parameters())
    parallel.check_equal({name: p.grad for name, p in layer.named_parameters() if p.grad is not None})
    try:
        parallel.check_equal({"weight": torch.tensor([1.0 + rank * 1e-7])})
        refused = ""
    except HoneloopError as error:
        refused = error.message
    weight, bias = unused.weight.grad, layer.weight.grad
    assert weight is not None
    assert bias is not None
    end.send((parallel.processes(), vectors.tolist(), bias.tolist(), weight.tolist(), refused))
    assert modules[2].weight.grad is None
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_vectors_are_exchanged_and_gradients_are_those_of_the_whole_batch() -> None:
    context = multiprocessing.get_context("spawn")
    port, told = _free_port(), []
    workers = []
    for rank in range(2):
        ours, theirs = context.Pipe()
        worker = context.Process(target=exchange, args=(rank, port, theirs))
        worker.start()
        theirs.close()
        workers.append(worker)
        told.append(ours)
    results = [end.recv() for end in told]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0

    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    torch.nn.Linear(2, 2)
    vectors = layer(torch.rand(5, 3))
    (vectors @ vectors.T).square().sum().backward()
    assert layer.weight.grad is not None
    for count, found, gradient, unused, refused in results:
        assert count == 2
        np.testing.assert_allclose(found, vectors.detach().numpy(), rtol=1e-6)
        np.testing.assert_allclose(gradient, layer.weight.grad.numpy(), rtol=1e-5)
        np.testing.assert_array_equal(unused, np.ones((2, 2)))
        assert "ended with different weights" in refused
    assert results[0][1:3] == results[1][1:3]


def test_one_process_exchanges_nothing() -> None:
    vectors = torch.ones(2, 2, requires_grad=True)
    assert parallel.exchanged(vectors) is vectors
    assert (parallel.processes(), parallel.rank(), parallel.is_own(7)) == (1, 0, True)
    parallel.check_equal({"weight": vectors})


@pytest.fixture
def job(click_set: TrainingSet, small: Settings, tmp_path: Path) -> Job:
    settings = small.model_copy(update={"train_processes": 2})
    return Job("minilm", None, click_set, (), settings, tmp_path / "key.work", tmp_path / "key")


def by_one_process(base: Encoder, job: Job) -> FineTuned:
    """What the same job comes to in this process alone."""
    settings = job.settings.model_copy(update={"train_processes": 1})
    return fine_tune(base, job.training_set, settings, job.work_dir.with_name("alone.work"), Silent())


@pytest.mark.slow
def test_two_processes_make_the_model_that_one_makes(
    minilm: Encoder, job: Job, capfd: pytest.CaptureFixture[str]
) -> None:
    progress = Notes()
    train_together(job, progress, count=2)
    assert progress.notes[0] == "Training in 2 processes."
    assert (progress.totals, progress.done) == ({"Fine-tuning": 6}, 6)
    assert multiprocessing.active_children() == []
    assert capfd.readouterr() == ("", "")
    together = take_over(job.directory, "cpu")
    assert together.processes == 2
    alone = by_one_process(minilm, job)
    assert losses(together.history) == pytest.approx(losses(alone.history), rel=1e-4)
    assert [row["step"] for row in together.history] == [row["step"] for row in alone.history]
    texts = [pair.query for pair in job.training_set.pairs[:8]]
    np.testing.assert_allclose(together.model.encode(texts), alone.model.encode(texts), atol=1e-4)


@pytest.fixture
def apart(job: Job) -> Job:
    """By the default recipe, with feedback enough to be learned from apart as well."""
    pairs = job.training_set.pairs
    feedback = [pair for pair in pairs if pair.split == "train"][:24]
    mixed = tuple(replace(pair, origin="feedback") if pair in feedback else pair for pair in pairs)
    learns = {"feedback_min_pairs": 24, "cached_batch_size": 12, "feedback_epochs": 2}
    return replace(
        job,
        training_set=replace(job.training_set, pairs=mixed),
        settings=job.settings.model_copy(update=learns),
    )


@pytest.mark.slow
def test_two_processes_merge_what_they_learned_apart_as_one_does(minilm: Encoder, apart: Job) -> None:
    train_together(apart, Silent(), count=2)
    together = take_over(apart.directory, "cpu")
    alone = by_one_process(minilm, apart)
    assert [row["part"] for row in together.merging] == ["all pairs", "feedback alone", "merged"]
    assert [row["stage"] for row in together.history if "loss" in row] == ["all pairs"] * 6 + [
        "feedback alone"
    ] * 4
    assert losses(together.history) == pytest.approx(losses(alone.history), rel=1e-3)
    texts = [pair.query for pair in apart.training_set.pairs[:8]]
    learned = alone.model.encode(texts)
    np.testing.assert_allclose(together.model.encode(texts), learned, atol=1e-4)
    # That is closer than what was learned is to where it began.
    assert np.abs(learned - minilm.embed_queries(texts)).max() > 1e-2


class Murderous(Notes):
    """Kills the second process after a step."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self._step = step

    def note(self, message: str) -> None:
        super().note(message)
        if message.startswith(self._step):
            victim = next(p for p in multiprocessing.active_children() if p.name.endswith("-1"))
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize(("which", "step"), [("job", "Step 3 of 6"), ("apart", "Step 8 of 10")])
def test_a_killed_process_ends_the_others_and_the_training_is_resumed(
    which: str, step: str, request: pytest.FixtureRequest
) -> None:
    job: Job = request.getfixturevalue(which)
    # Adapters, as their state is small, saved after every step.
    settings = job.settings.model_copy(update={"lora_rank": 2, "state_seconds": 0, "state_max_share": 1})
    job = replace(job, settings=settings)
    with pytest.raises(HoneloopError, match=r"honeloop-train-1\) ended by signal SIGKILL") as failure:
        train_together(job, Murderous(step), count=2)
    assert "goes on from the last saved step" in failure.value.hint
    assert multiprocessing.active_children() == []
    assert not handed_over(job.directory)
    progress = Notes()
    train_together(job, progress, count=2)
    (resumed,) = [note for note in progress.notes if note.startswith("Resumed at step")]
    # A stage's last step is not saved, and this step may not have been.
    assert int(resumed.split()[3]) in {int(step.split()[1]), int(step.split()[1]) - 1}
    assert handed_over(job.directory)


@pytest.mark.slow
def test_what_a_process_refuses_is_said_by_the_parent(job: Job) -> None:
    wrong = replace(job, settings=job.settings.model_copy(update={"recipe": "guesswork"}))
    with pytest.raises(BadInputError, match="'guesswork' is not"):
        train_together(wrong, Silent(), count=2)


def test_how_many_processes_is_a_setting(small: Settings) -> None:
    assert process_count(small) == 1
    assert process_count(small.model_copy(update={"train_processes": 3})) == 3
    # 0 is one for each GPU; on the CPU that is one process.
    assert process_count(small.model_copy(update={"train_processes": 0})) == 1
