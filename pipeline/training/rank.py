"""What one of several training processes does, whoever started it: the same on this machine and on a node."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Settings
from pipeline.progress import Progress
from pipeline.training.fine_tuning import fine_tune
from pipeline.training.handover import hand_over
from pipeline.training.training_state import StateStore

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder
    from pipeline.training.pairs import Pair, TrainingSet

# The base and the guide, on a device.
Load = Callable[[str], "tuple[Encoder, Encoder | None]"]


@dataclass(frozen=True)
class Rank:
    """One of the processes that train together.

    Attributes:
        number: from 0; the first one writes the result.
        count: how many there are.
        local_number: the how manieth on its machine; of a GPU machine, which GPU of those that it sees.
        local_count: how many there are on its machine, which share its processors.
        address: of the first one's machine.
        port: free there.
    """

    number: int
    count: int
    local_number: int
    local_count: int
    address: str
    port: int

    def environment(self) -> dict[str, str]:
        """What Accelerate and torch go by."""
        return {
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
            "WORLD_SIZE": str(self.count),
            "LOCAL_WORLD_SIZE": str(self.local_count),
            "RANK": str(self.number),
            "LOCAL_RANK": str(self.local_number),
        }


def take_part(
    rank: Rank,
    load: Load,
    training_set: TrainingSet,
    *,
    earlier: Sequence[Pair],
    settings: Settings,
    progress: Progress,
    work_dir: Path,
    directory: Path,
    store: StateStore | None = None,
) -> None:
    """Trains together with the others; the first hands the model over in `directory`.

    The number of threads is Accelerate's to share out, where OMP_NUM_THREADS does not say it.

    Raises:
        HoneloopError, BadInputError: as `fine_tune`.
    """
    if rank.count > 1:
        os.environ |= rank.environment()
    import torch
    from torch import distributed

    from pipeline.encoders.devices import best_device

    device = best_device(settings.device)
    if torch.device(device).type == "cuda":
        device = f"cuda:{rank.local_number}"
    if rank.count > 1:
        from accelerate import PartialState

        PartialState(cpu=device == "cpu")
    base, guide = load(device)
    tuned = fine_tune(
        base, training_set, settings, work_dir, progress, guide=guide, earlier=earlier, store=store
    )
    if rank.number == 0:
        hand_over(tuned, directory)
    if rank.count > 1:
        # Whoever ends first would take the connection from the others.
        distributed.barrier()
        distributed.destroy_process_group()
