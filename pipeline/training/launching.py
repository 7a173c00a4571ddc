"""Where a training runs: in this process, in several of this machine, or on the nodes of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Settings
from pipeline.progress import Progress

if TYPE_CHECKING:
    from pipeline.training.pairs import Pair, TrainingSet


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


# Does a job, tells how far it is, and hands the model over.
Launch = Callable[[Job, Progress], None]


def launch_for(settings: Settings) -> Launch | None:
    """What does a job as the settings say; None if this process is to do it.

    Raises:
        HoneloopError: with the job: Ray is not installed, or its cluster cannot be reached.
    """
    if settings.engine == "ray":
        from pipeline.engines.ray_training import train_on_cluster

        return train_on_cluster
    from pipeline.training.processes import process_count, train_together

    count = process_count(settings)
    return None if count == 1 else partial(train_together, count=count)
