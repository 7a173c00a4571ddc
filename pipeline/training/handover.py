"""A fine-tuned model on disk between training it and writing its checkpoint, maybe in another process."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pipeline.encoders.quiet import quiet
from pipeline.errors import HoneloopError
from pipeline.locking import locked
from pipeline.training.account import Account
from pipeline.training.disk import disk_errors
from pipeline.training.fine_tuning import FineTuned

LOCK = ".lock"
UNFINISHED = ".unfinished"
_MODEL = "model"
_ACCOUNT = "account.json"


def hand_over(fine_tuned: FineTuned, directory: Path) -> None:
    """Writes the model and the account of its training into `directory`, replacing what is there.

    Raises:
        HoneloopError: the disk is full, or may not be written to.
    """
    with _replacing(directory) as unfinished:
        with quiet():
            fine_tuned.model.save_pretrained(
                str(unfinished / _MODEL), create_model_card=False, safe_serialization=True
            )
        (unfinished / _ACCOUNT).write_text(json.dumps(fine_tuned.to_json()), encoding="utf-8")


def bring(arrived: Path, directory: Path) -> None:
    """Puts into the place of `directory` what `hand_over` wrote on another machine, and what was copied here.

    Raises:
        HoneloopError: it is not whole, or may not be moved there.
    """
    if not handed_over(arrived):
        raise HoneloopError("The fine-tuned model did not arrive whole.", hint="Start the training again.")
    with _replacing(directory) as unfinished:
        os.rename(arrived, unfinished)


@contextmanager
def _replacing(directory: Path) -> Generator[Path]:
    """A directory that takes the place of `directory` when the block ends well.

    What is half-written while nobody holds the lock beside it has no writer any more.
    """
    unfinished = directory.with_name(f"{directory.name}{UNFINISHED}")
    with disk_errors(directory.parent, "The fine-tuned model"), locked(directory.parent / LOCK):
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            unfinished.mkdir(parents=True)
            yield unfinished
            shutil.rmtree(directory, ignore_errors=True)
            os.rename(unfinished, directory)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def handed_over(directory: Path) -> bool:
    """Whether a finished training left its model in `directory`: the rename comes last."""
    return (directory / _ACCOUNT).is_file()


def finished_at(directory: Path) -> float:
    """When the training that left its model there was over, in seconds since 1970."""
    return (directory / _ACCOUNT).stat().st_mtime


def take_over(directory: Path, device: str) -> FineTuned:
    """What `hand_over` wrote, on `device`.

    Raises:
        HoneloopError: nothing was handed over.
    """
    if not handed_over(directory):
        raise HoneloopError(
            f"There is no fine-tuned model in {directory}.", hint="Materialize fine_tuned_model first."
        )
    from sentence_transformers import SentenceTransformer

    with quiet():
        model = SentenceTransformer(str(directory / _MODEL), device=device, local_files_only=True)
    model.eval()
    return FineTuned(model=model, **read_account(directory).to_json())


def read_account(directory: Path) -> Account:
    """The account of the training whose model is in `directory`."""
    return Account.from_json(json.loads((directory / _ACCOUNT).read_text(encoding="utf-8")))
