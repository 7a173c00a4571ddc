"""What dead trainings leave in the directory of all trainings, and what of it will not be taken up again."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from pipeline.config import Settings
from pipeline.locking import locked_if_free
from pipeline.training.checkpoints import find_checkpoint
from pipeline.training.handover import LOCK, UNFINISHED, finished_at, handed_over
from pipeline.training.training_state import STATE, SUFFIX, StateStore

DAY = 86_400


def abandoned(directory: Path, keep_days: float, *, but: Path | None = None) -> list[Path]:
    """States of killed trainings that were not resumed, and models whose checkpoint was not written, so long.

    Args:
        directory: holds the directories of all trainings.
        keep_days: counted from the last time something was saved.
        but: the directory of the training that is to go on now.
    """
    return [
        path
        for path in _trainings(directory)
        if path != but and time.time() - _touched(path) > keep_days * DAY and not StateStore.busy(path)
    ]


def resumable(directory: Path, keep_days: float) -> list[tuple[Path, float]]:
    """What waits to be taken up by the same training, and for how many more days."""
    waiting = [(path, keep_days - (time.time() - _touched(path)) / DAY) for path in _trainings(directory)]
    return [(path, days) for path, days in waiting if days >= 0 and not StateStore.busy(path)]


def clear_abandoned(directory: Path, keep_days: float, *, but: Path) -> list[str]:
    """Deletes what `abandoned` lists, which it names, and half-written models of dead processes."""
    cleared = abandoned(directory, keep_days, but=but)
    for path in cleared:
        shutil.rmtree(path, ignore_errors=True)
    clear_unfinished(directory)
    return [path.name for path in cleared]


def unfinished(directory: Path) -> list[Path]:
    """Models that are being handed over, or were when their process died; while nobody does, the latter."""
    return sorted(directory.glob(f"*{UNFINISHED}"))


def clear_unfinished(directory: Path) -> None:
    """Deletes half-written models, unless one is being written now."""
    with locked_if_free(directory / LOCK) as free:
        for path in unfinished(directory) if free else ():
            shutil.rmtree(path, ignore_errors=True)


def written_already(settings: Settings, directory: Path) -> list[Path]:
    """Models that wait for their checkpoint although it is there: their process died in between."""
    return [
        path
        for path in _trainings(directory)
        if handed_over(path) and find_checkpoint(settings, path.name) is not None
    ]


def _trainings(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if path.name.endswith(SUFFIX) or handed_over(path))


def _touched(path: Path) -> float:
    if handed_over(path):
        return finished_at(path)
    saved = path / STATE
    return (saved if saved.is_file() else path).stat().st_mtime
