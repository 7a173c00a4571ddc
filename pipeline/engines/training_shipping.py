"""A training on its way to a node, and what comes home from it: files, in pieces, while it goes on.

Out: models as for embedding, the files of a saved state, pairs and settings as JSON. Neither secrets nor the
database's address are among the settings. Home: the files of each state that is saved there, and the model's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Settings
from pipeline.engines.lazy_ray import ray_module
from pipeline.engines.shipping import Files, ShippedModel, ship_file, ship_model_at, unpack_file
from pipeline.errors import HoneloopError
from pipeline.settings.training import TrainingSettings

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from pipeline.training.following import Send
    from pipeline.training.launching import Job
    from pipeline.training.pairs import Pair, TrainingSet

# What a node is told beside the settings of training.
_OTHER_SETTINGS = {"device", "embed_batch_size"}
_PIECE = 16 << 20
# Before the names of the files that come home of a model, not of a state.
MODEL = "model"


@dataclass(frozen=True)
class ShippedTraining:
    """A training on its way.

    Args:
        base: the model it starts from.
        guide: the guide; None for the base.
        pairs: a reference to JSON: the training set, and the earlier pairs.
        settings: those that training goes by.
    """

    base: ShippedModel
    guide: ShippedModel | None
    pairs: Any
    settings: Mapping[str, Any]


def ship_training(job: Job) -> ShippedTraining:
    """Puts all that a training is made from into the object store; no torch is loaded for it.

    Raises:
        BadInputError, DamagedModelError: a model is not there, or damaged.
    """
    ray = ray_module()
    return ShippedTraining(
        base=ship_model_at(job.base),
        guide=None if job.guide is None else ship_model_at(job.guide),
        pairs=ray.put(pairs_to_json(job.training_set, job.earlier)),
        settings=shipped_settings(job.settings),
    )


def shipped_settings(settings: Settings) -> dict[str, Any]:
    """What of the settings a node is told, JSON throughout."""
    return settings.model_dump(mode="json", include={*TrainingSettings.model_fields, *_OTHER_SETTINGS})


def unpack_pairs(shipped: ShippedTraining) -> tuple[TrainingSet, tuple[Pair, ...]]:
    """The training set, and the earlier pairs."""
    return pairs_from_json(ray_module().get(shipped.pairs))


def pairs_to_json(training_set: TrainingSet, earlier: tuple[Pair, ...]) -> bytes:
    """Both as JSON, with hashes in base64."""
    return _pairs_adapter().dump_json((training_set, earlier))


def pairs_from_json(content: bytes) -> tuple[TrainingSet, tuple[Pair, ...]]:
    """What `pairs_to_json` was given."""
    return _pairs_adapter().validate_json(content)


def _pairs_adapter() -> TypeAdapter[tuple[TrainingSet, tuple[Pair, ...]]]:
    from pydantic import ConfigDict, TypeAdapter

    from pipeline.training.pairs import Pair, TrainingSet

    config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    return TypeAdapter(tuple[TrainingSet, tuple[Pair, ...]], config=config)


def ship_state(files: Iterable[Path]) -> Files:
    """References to the files of a saved state, by their names."""
    return {path.name: ship_file(path) for path in files}


def unpack_state(files: Files, directory: Path) -> None:
    """Writes them into a directory."""
    for name, reference in files.items():
        unpack_file(reference, directory / name)


def send_files(root: Path, names: Iterable[str], send: Send, taken: Callable[[], object]) -> None:
    """Tells home of files by messages `("piece", name, bytes, SHA-256 of the file or None)`.

    Args:
        root: where they are.
        names: relative, with forward slashes.
        send: sends a message.
        taken: waits until what was sent is on its way, so that no more than two pieces are in memory.
    """
    for name in names:
        digest = hashlib.sha256()
        left = (root / name).stat().st_size
        with (root / name).open("rb") as file:
            while True:
                piece = file.read(_PIECE)
                digest.update(piece)
                left -= len(piece)
                send(
                    ("piece", name, np.frombuffer(piece, np.uint8), None if left > 0 else digest.hexdigest())
                )
                taken()
                if left <= 0:
                    break


class Arrivals:
    """Where files arrive, until all that belong together are there.

    Args:
        directory: for them alone; what an earlier process left there is deleted.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clear()

    def take(self, name: str, piece: NDArray[np.uint8], digest: str | None) -> None:
        """Writes a piece of a file, the next one of it.

        Raises:
            HoneloopError: the file is not what was sent.
            OSError: it cannot be written.
        """
        path = self.directory / name
        if not path.resolve().is_relative_to(self.directory.resolve()):
            raise HoneloopError(f"A node sent a file by the name {name!r}.")
        if path not in self._digests:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
            self._digests[path] = hashlib.sha256()
        with path.open("ab") as file:
            file.write(piece.data)
        self._digests[path].update(piece.data)
        if digest is not None and self._digests.pop(path).hexdigest() != digest:
            raise HoneloopError(f"{name} did not arrive as it was sent.", hint="Start the training again.")

    def clear(self) -> None:
        """Deletes what has arrived."""
        import shutil

        shutil.rmtree(self.directory, ignore_errors=True)
        self._digests: dict[Path, Any] = {}
