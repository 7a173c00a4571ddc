"""Checkpoints and trainings: half-written ones, those nobody goes on with, and models without files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline.backup.taking import WANTED
from pipeline.config import Settings
from pipeline.doctor.findings import Examination, Finding
from pipeline.encoders import onnx_export
from pipeline.encoders.manifest import check_files, is_checkpoint, read_manifest
from pipeline.encoders.presets import PRESETS
from pipeline.errors import HoneloopError
from pipeline.locking import locked_if_free
from pipeline.promotion import registry
from pipeline.promotion.weights import given_up_at
from pipeline.store.connections import Database
from pipeline.training import checkpoints, handover, leftovers


def examine_models(db: Database, settings: Settings, found: Examination) -> None:
    """Looks through the registry, the checkpoints and the exports. Hashes every file of every model."""
    _half_written(
        settings.checkpoints_path, checkpoints.LOCK, checkpoints.unfinished_checkpoints, "checkpoint", found
    )
    _half_written(settings.onnx_path, onnx_export.LOCK, onnx_export.unfinished_exports, "export", found)
    with db.connect() as connection:
        needed = {version for version, *_ in connection.execute(WANTED)}
    known: set[Path] = set()
    for model in registry.list_models(db):
        path = Path(model.location)
        if model.location in PRESETS or not path.is_absolute():
            continue
        known.add(path)
        if given_up_at(model) is not None:
            continue
        problem = _damage(path)
        if problem and model.version not in needed and not path.exists():
            found.notes.append(
                f"The checkpoint of {model.name}, which is {model.state}, is not here, as after a restore: "
                "a backup has only those that serve or may serve again."
            )
        elif problem:
            found.add(
                [
                    Finding(
                        "damaged checkpoint",
                        f"The model {model.name}, which is {model.state}: {problem}",
                        hint="Restore it from a copy, or train again: the same data give the same files. "
                        "`honeloop rollback` if it serves.",
                    )
                ]
            )
    if settings.checkpoints_path.is_dir():
        for path in sorted(settings.checkpoints_path.iterdir()):
            if is_checkpoint(path) and not path.name.startswith(".") and path.resolve() not in known:
                found.add([_unregistered(db, settings, path)])


def examine_trainings(settings: Settings, found: Examination) -> None:
    """Looks through the states of trainings; what is under way is left out."""
    directory = settings.home_path / "training"
    keep_days = settings.state_keep_days
    _half_written(directory, handover.LOCK, leftovers.unfinished, "trained model", found)
    written = leftovers.written_already(settings, directory)
    found.add(
        Finding(
            "finished training",
            f"{path} waits for its checkpoint to be written, and the checkpoint is there.",
            partial(shutil.rmtree, path),
        )
        for path in written
    )
    found.add(
        Finding(
            "abandoned training",
            f"{path} was not taken up again for {keep_days:g} days.",
            partial(_give_up, path, directory, keep_days),
        )
        for path in leftovers.abandoned(directory, keep_days)
        if path not in written
    )
    for path, days in leftovers.resumable(directory, keep_days):
        if path not in written:
            found.notes.append(
                f"The training {path.name[:12]} waits to be taken up by the next run that is the same; it is "
                f"given up in {days:.1f} days."
            )


def _half_written(
    directory: Path, lock: str, unfinished: Callable[[Path], list[Path]], what: str, found: Examination
) -> None:
    """Whatever lies there while nobody holds the lock has no writer any more."""

    def delete(path: Path) -> None:
        with locked_if_free(directory / lock) as free:
            if not free:
                raise HoneloopError(f"A {what} is being written.", hint="Wait until that ends.")
            shutil.rmtree(path)

    with locked_if_free(directory / lock) as free:
        left = unfinished(directory)
        if left and not free:
            found.notes.append(f"A {what} is being written to {directory}; it is left alone.")
            return
    found.add(
        Finding(f"half-written {what}", f"{path} was not finished.", partial(delete, path)) for path in left
    )


def _damage(path: Path) -> str:
    """What is wrong with a model's directory; nothing if it is whole, or not one of ours."""
    if not path.is_dir():
        return f"{path} is missing."
    if not is_checkpoint(path):
        return ""
    try:
        check_files(path, read_manifest(path))
    except HoneloopError as error:
        return error.message
    return ""


def _unregistered(db: Database, settings: Settings, path: Path) -> Finding:
    """A whole one is registered: training it cost time, and the next run may ask for it."""
    problem = _damage(path)
    if problem:
        return Finding(
            "damaged checkpoint",
            f"A checkpoint that no model is registered for: {problem}",
            hint=f"Delete {path}.",
        )
    return Finding(
        "unregistered checkpoint",
        f"{path} is a model that is not registered: its process died after writing it.",
        partial(registry.resolve, db, str(path), settings),
    )


def _give_up(path: Path, directory: Path, keep_days: float) -> None:
    if path in leftovers.abandoned(directory, keep_days):
        shutil.rmtree(path)
