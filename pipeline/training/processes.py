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
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.progress import Progress, Silent
from pipeline.training.following import RESUME_HINT, Following, Telling, crashed, failure
from pipeline.training.launching import Job
from pipeline.training.rank import Rank, take_part

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from pipeline.encoders.encoder import Encoder

# Seconds that a process is given to end when it is told to.
_PATIENCE = 10.0


def train_together(job: Job, progress: Progress, *, count: int) -> None:
    """Fine-tunes in several processes; the first of them hands the model over.

    Args:
        job: what is to be done.
        progress: told how far it is.
        count: how many processes.

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
                target=_work,
                args=(job, Rank(rank, count, rank, count, "127.0.0.1", port), theirs),
                name=f"honeloop-train-{rank}",
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
    with Following(progress) as following:
        while open_ends:
            for end in wait(list(open_ends)):
                assert isinstance(end, Connection)
                try:
                    message = end.recv()
                except EOFError:
                    worker = open_ends[end]
                    worker.join(_PATIENCE)
                    raise _ended(worker) from None
                if message[0] == "crashed":
                    raise crashed(ends.index(end), message)
                if message[0] == "done":
                    del open_ends[end]
                else:
                    following.take(message)


def _ended(worker: SpawnProcess) -> HoneloopError:
    code = worker.exitcode
    how = (
        f"by signal {signal.Signals(-code).name}"
        if code is not None and code < 0
        else f"with exit code {code}"
    )
    return HoneloopError(
        f"A training process ({worker.name}) ended {how}.",
        hint=f"{RESUME_HINT} If memory ran out, set a smaller HONELOOP_TRAIN_BATCH_SIZE or "
        "HONELOOP_TRAIN_PROCESSES.",
    )


def _work(job: Job, rank: Rank, end: Connection) -> None:
    """What each process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the others
    _end_with_parent()
    _be_silent()

    def load(device: str) -> tuple[Encoder, Encoder | None]:
        from pipeline.encoders.loading import load_encoder

        batch_size = job.settings.embed_batch_size
        base = load_encoder(job.base, device=device, batch_size=batch_size)
        guide = None if job.guide is None else load_encoder(job.guide, device=device, batch_size=batch_size)
        return base, guide

    try:
        take_part(
            rank,
            load,
            job.training_set,
            earlier=job.earlier,
            settings=job.settings,
            progress=Telling(end.send) if rank.number == 0 else Silent(),
            work_dir=job.work_dir,
            directory=job.directory,
        )
        end.send(("done",))
    except Exception as error:
        end.send(failure(error))
    end.close()


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
