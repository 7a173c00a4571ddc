"""Runs a training in several processes at once, on a GPU each or on a share of the processors each.

They are started anew and do what one would (see `parallel`); the first of them tells how far it is and writes
the result. None outlives its parent.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Settings
from pipeline.errors import BadInputError, HoneloopError
from pipeline.progress import Advance, Progress, Silent
from pipeline.training.fine_tuning import fine_tune
from pipeline.training.handover import hand_over

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from pipeline.training.pairs import Pair, TrainingSet

# Seconds that a process is given to end when it is told to.
_PATIENCE = 10.0


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        base: where the base encoder is loaded from, as `load_encoder` takes it.
        guide: where the guide is; None for the base.
        training_set: see `fine_tune`.
        earlier: likewise.
        settings: likewise.
        work_dir: likewise.
        directory: where the model is handed over.
    """

    base: str
    guide: str | None
    training_set: TrainingSet
    earlier: tuple[Pair, ...]
    settings: Settings
    work_dir: Path
    directory: Path


def train_together(job: Job, count: int, progress: Progress) -> None:
    """Fine-tunes in several processes; the first of them hands the model over.

    Args:
        job: what is to be done.
        count: how many processes.
        progress: told how far it is.

    Raises:
        HoneloopError, BadInputError: as `fine_tune`; or a process ended before it was done.
    """
    progress.note(f"Training in {count} processes.")
    context = multiprocessing.get_context("spawn")
    port = _free_port()
    workers: list[SpawnProcess] = []
    ends: list[Connection] = []
    try:
        for rank in range(count):
            ours, theirs = context.Pipe()
            worker = context.Process(
                target=_work, args=(job, rank, count, port, theirs), name=f"honeloop-train-{rank}"
            )
            worker.start()
            theirs.close()
            workers.append(worker)
            ends.append(ours)
        _follow(workers, ends, progress)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join(_PATIENCE)
            if worker.is_alive():
                worker.kill()
                worker.join()


def process_count(settings: Settings) -> int:
    """How many processes the settings ask for."""
    if settings.train_processes > 0:
        return settings.train_processes
    import torch

    from pipeline.encoders.devices import best_device

    on_gpus = torch.device(best_device(settings.device)).type == "cuda"
    return torch.cuda.device_count() if on_gpus else 1


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _follow(workers: list[SpawnProcess], ends: list[Connection], progress: Progress) -> None:
    """Passes on what the processes tell, until all are done. Raises what one of them raised."""
    open_ends = dict(zip(ends, workers, strict=True))
    with ExitStack() as stages:
        advance: Advance | None = None
        while open_ends:
            for end in wait(list(open_ends)):
                assert isinstance(end, Connection)
                try:
                    kind, *told = end.recv()
                except EOFError:
                    worker = open_ends[end]
                    worker.join(_PATIENCE)
                    raise _ended(worker) from None
                if kind == "note":
                    progress.note(*told)
                elif kind == "stage":
                    advance = stages.enter_context(progress.stage(*told))
                elif kind == "advance" and advance is not None:
                    advance(*told)
                elif kind == "left":
                    stages.close()
                    advance = None
                elif kind == "failed":
                    message, hint, bad_input = told
                    raise (BadInputError if bad_input else HoneloopError)(message, hint=hint)
                elif kind == "done":
                    del open_ends[end]


def _ended(worker: SpawnProcess) -> HoneloopError:
    code = worker.exitcode
    how = (
        f"by signal {signal.Signals(-code).name}"
        if code is not None and code < 0
        else f"with exit code {code}"
    )
    return HoneloopError(
        f"A training process ({worker.name}) ended {how}.",
        hint="Start it again: it goes on from the last saved step. If memory ran out, set a smaller "
        "HONELOOP_TRAIN_BATCH_SIZE or HONELOOP_TRAIN_PROCESSES.",
    )


class _Relayed:
    """A progress that tells the parent."""

    def __init__(self, end: Connection) -> None:
        self._end = end

    def stage(self, description: str, total: int | None = None) -> AbstractContextManager[Advance]:
        return self._stage(description, total)

    @contextmanager
    def _stage(self, description: str, total: int | None) -> Generator[Advance]:
        self._end.send(("stage", description, total))
        yield lambda steps: self._end.send(("advance", steps))
        self._end.send(("left",))

    def note(self, message: str) -> None:
        self._end.send(("note", message))


def _work(job: Job, rank: int, count: int, port: int, end: Connection) -> None:
    """What each process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the others
    _end_with_parent()
    _be_silent()
    # The number of threads is Accelerate's to share out, where OMP_NUM_THREADS does not say it.
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
    }
    try:
        _train_together(job, rank, _Relayed(end) if rank == 0 else Silent())
        end.send(("done",))
    except HoneloopError as error:
        end.send(("failed", error.message, error.hint, isinstance(error, BadInputError)))
    except Exception:
        hint = "This is a defect. Set HONELOOP_TRAIN_PROCESSES=1 to train without it."
        end.send(("failed", f"Training process {rank} failed: {traceback.format_exc()}", hint, False))
    end.close()


def _train_together(job: Job, rank: int, progress: Progress) -> None:
    import torch
    from accelerate import PartialState
    from torch import distributed

    from pipeline.encoders.devices import best_device
    from pipeline.encoders.loading import load_encoder

    device = best_device(job.settings.device)
    if torch.device(device).type == "cuda":
        device = f"cuda:{rank}"
    PartialState(cpu=device == "cpu")
    batch_size = job.settings.embed_batch_size
    base = load_encoder(job.base, device=device, batch_size=batch_size)
    guide = None if job.guide is None else load_encoder(job.guide, device=device, batch_size=batch_size)
    tuned = fine_tune(
        base, job.training_set, job.settings, job.work_dir, progress, guide=guide, earlier=job.earlier
    )
    if rank == 0:
        hand_over(tuned, job.directory)
    # Whoever ends first would take the connection from the others.
    distributed.barrier()
    distributed.destroy_process_group()


def _end_with_parent() -> None:
    """Ends this process as soon as its parent is gone, however that died."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _be_silent() -> None:
    """Libraries below Python report on stdout, which `--json` owns; what matters goes to the parent."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    os.close(nothing)
