"""The state of an unfinished training on disk, from which a killed one goes on as if it had not been killed.

A directory holds `state.json` and the tensors it names, as safetensors; nothing is pickled. `state.json` is
replaced by one rename after everything it names is on the disk, and what it no longer names is deleted then,
so that whenever the process dies, one whole state is there. Each file's SHA-256 stands in it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.durable import force_to_disk
from pipeline.encoders.files import sha256_of
from pipeline.errors import HoneloopError
from pipeline.locking import locked_if_free

if TYPE_CHECKING:
    import torch

STATE = "state.json"
SUFFIX = ".work"
# Raise it when what a state holds changes: older ones are then left aside.
STATE_FORMAT = 1
_LOCK = ".lock"
_UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class Part:
    """Tensors of a state that stand in one file.

    Attributes:
        name: the file's, without its ending. A file of that name that the last state named is not written
            again: equal names must mean equal tensors within one training.
        tensors: by name; copied only if they are not contiguous.
    """

    name: str
    tensors: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class SavedState:
    """A state read back.

    Attributes:
        account: the JSON object that was saved.
        parts: by their role, tensors by name, on the CPU.
    """

    account: dict[str, Any]
    parts: dict[str, dict[str, torch.Tensor]]


class StateStore:
    """Saves and loads the states of one training.

    Args:
        directory: of this training alone; made when something is saved.
        identity: what decides the training's result (its recipe key): a state of another one is not taken.
        saved: called when a state was saved, before the training goes on.

    Attributes:
        identity: as given.
    """

    def __init__(self, directory: Path, identity: str, saved: Callable[[], object] = lambda: None) -> None:
        self.identity = identity
        self._directory = directory
        self._saved = saved
        self._hashes: dict[str, str] = {}

    def save(self, account: Mapping[str, Any], parts: Mapping[str, Part]) -> None:
        """Replaces the saved state by this one, whole or not at all.

        Args:
            account: JSON-able.
            parts: by their role.

        Raises:
            OSError: it cannot be written; the state saved before is still there, and nothing of this one.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        try:
            hashes = {part.name: self._written(part) for part in parts.values()}
            content = {
                "format": STATE_FORMAT,
                "identity": self.identity,
                "parts": {role: part.name for role, part in parts.items()},
                "sha256": hashes,
                "account": account,
            }
            self._publish(json.dumps(content), hashes)
        except Exception:
            # The next one's parts have other names: what is left here would take their room.
            for name in {_UNFINISHED, *(part.name for part in parts.values())} - self._hashes.keys():
                (self._directory / file_name(name)).unlink(missing_ok=True)
            raise
        self._saved()

    def adopt(self, content: bytes, arrived: Path) -> None:
        """Replaces the saved state by one that was saved elsewhere, whole or not at all.

        Args:
            content: what `STATE` holds there.
            arrived: the files that it names and that are not here yet; they are moved.

        Raises:
            HoneloopError: it names a file that is not here, or that is not the one it names.
            OSError: it cannot be written; the state saved before is still there, and nothing of this one.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        hashes = hashes_in(content)
        moves: list[tuple[Path, Path]] = []
        for name, expected in hashes.items():
            new, file = arrived / file_name(name), self._directory / file_name(name)
            if self._hashes.get(name) == expected and file.is_file():
                continue
            found = new if new.is_file() else file
            if not found.is_file() or sha256_of(found) != expected:
                raise HoneloopError(f"{file.name} did not arrive whole.")
            if found is new:
                force_to_disk(new)
                moves.append((new, file))
        self._publish(content.decode(), hashes, moves)

    def held(self) -> dict[str, str]:
        """The SHA-256 of each part that the state holds which was last saved, adopted or loaded by this."""
        return {
            name: digest
            for name, digest in self._hashes.items()
            if (self._directory / file_name(name)).is_file()
        }

    def _publish(self, content: str, hashes: dict[str, str], moves: Sequence[tuple[Path, Path]] = ()) -> None:
        """The rename that makes a state the saved one; what it does not name is deleted then.

        Args:
            content: of STATE.
            hashes: in it.
            moves: files to move to where it names them, once all that takes room is written.
        """
        unfinished = self._directory / f"{_UNFINISHED}.json"
        unfinished.write_text(content, encoding="utf-8")
        force_to_disk(unfinished)
        for source, target in moves:
            os.replace(source, target)
        os.replace(unfinished, self._directory / STATE)
        self._hashes = hashes
        force_to_disk(self._directory)
        named = {file_name(name) for name in hashes} | {STATE, _LOCK}
        for path in self._directory.iterdir():
            if path.name not in named and path.is_file():
                path.unlink(missing_ok=True)

    def files(self) -> list[Path]:
        """The files of the saved state, whole or damaged, `STATE` last; none if nothing is saved."""
        if not (self._directory / STATE).is_file():
            return []
        files = (path for path in self._directory.iterdir() if path.is_file() and path.name[0] != ".")
        return sorted(files, key=lambda path: (path.name == STATE, path.name))

    def load(self) -> SavedState | None:
        """The saved state; None if nothing was saved.

        Raises:
            HoneloopError: what is there is damaged, or another training's; it says which.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        self._hashes = {}
        path = self._directory / STATE
        if not path.is_file():
            return None
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if (content["format"], content["identity"]) != (STATE_FORMAT, self.identity):
                raise HoneloopError(f"{path} is the state of another training.")
            hashes: dict[str, str] = content["sha256"]
            tensors: dict[str, dict[str, torch.Tensor]] = {}
            for name, expected in hashes.items():
                file = self._directory / file_name(name)
                if not file.is_file() or sha256_of(file) != expected:
                    raise HoneloopError(f"{file} is missing or damaged.")
                tensors[name] = load_file(file)
            parts = {role: tensors[name] for role, name in content["parts"].items()}
            account: dict[str, Any] = content["account"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise HoneloopError(f"{path} is damaged: {error!r}.") from error
        self._hashes = hashes
        return SavedState(account, parts)

    def clear(self) -> None:
        """Deletes what is saved."""
        shutil.rmtree(self._directory, ignore_errors=True)

    @contextmanager
    def alone(self) -> Generator[None]:
        """Holds the directory's lock, which ends with the process.

        Raises:
            HoneloopError: another process holds it, so this very training is under way there.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / _LOCK).open("w") as lock:
            if not _locked(lock):
                raise HoneloopError(
                    "This very training is under way in another process.", hint="Wait until it ends."
                )
            yield

    @staticmethod
    def busy(directory: Path) -> bool:
        """Whether a process that lives holds the directory's lock: its training is under way."""
        with locked_if_free(directory / _LOCK) as free:
            return not free

    def _written(self, part: Part) -> str:
        """Writes a part's file, unless the last state has it, and gives its SHA-256."""
        from safetensors.torch import save_file

        if part.name in self._hashes:
            return self._hashes[part.name]
        unfinished = self._directory / f"{_UNFINISHED}.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in part.tensors.items()}, unfinished)
        digest = sha256_of(unfinished)
        force_to_disk(unfinished)
        os.replace(unfinished, self._directory / file_name(part.name))
        return digest


class Timing:
    """When the next state is due: often enough to lose little, seldom enough to cost little.

    Args:
        seconds: a state is due when the last is so old; at a validation it is due at once.
        max_share: saving may take this share of the time, at the most; of a large model the state is large.
    """

    def __init__(self, seconds: float, max_share: float) -> None:
        self._seconds = seconds
        self._max_share = max_share
        self._last = time.monotonic()
        self._rest = 0.0

    def due(self, *, validated: bool) -> bool:
        """Whether to save now."""
        since = time.monotonic() - self._last
        return since >= self._rest and (validated or since >= self._seconds)

    def saved(self, took: float) -> None:
        """Told that saving took so many seconds, and is over."""
        self._last = time.monotonic()
        # cost / (cost + rest) = max_share
        self._rest = took * (1 - self._max_share) / self._max_share


def flattened(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """An optimiser's `state_dict()` as JSON and tensors.

    Returns:
        `{"state": {parameter: {name: number}}, "param_groups": [...]}` with what is no tensor, and the
        tensors by `parameter/name`.
    """
    import torch

    tensors: dict[str, torch.Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for parameter, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{parameter}/{name}"] = value
            else:
                plain.setdefault(str(parameter), {})[name] = value
    return {"state": plain, "param_groups": state["param_groups"]}, tensors


def unflattened(
    account: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], fresh: Mapping[str, Any]
) -> dict[str, Any]:
    """The `state_dict()` that `flattened` took apart.

    Args:
        account: what it returned, read back from JSON.
        tensors: likewise.
        fresh: the `state_dict()` of the optimiser it is for: JSON knows no tuples, and it does.

    Raises:
        HoneloopError: the state is of an optimiser of other parameters.
    """
    groups: list[dict[str, Any]] = []
    saved_groups: Sequence[Mapping[str, Any]] = account["param_groups"]
    if [group["params"] for group in saved_groups] != [group["params"] for group in fresh["param_groups"]]:
        raise HoneloopError("The saved optimiser's parameters are not this model's.")
    for saved, own in zip(saved_groups, fresh["param_groups"], strict=True):
        groups.append(
            {key: tuple(value) if isinstance(own.get(key), tuple) else value for key, value in saved.items()}
        )
    state: dict[int, dict[str, Any]] = {int(key): dict(value) for key, value in account["state"].items()}
    for name, tensor in tensors.items():
        parameter, _, key = name.partition("/")
        state.setdefault(int(parameter), {})[key] = tensor
    return {"state": state, "param_groups": groups}


def random_states(device: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Where Python's, numpy's and torch's random number generators are, as JSON and tensors."""
    import random

    import numpy as np
    import torch

    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    account = {"python": [version, list(numbers), gauss], "numpy": [name, position, has_gauss, cached]}
    tensors = {
        "numpy": torch.from_numpy(np.asarray(keys, dtype=np.uint32).astype(np.int64)),
        "torch": torch.get_rng_state(),
    }
    if torch.device(device).type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    return account, tensors


def set_random_states(account: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], device: str) -> None:
    """Puts them back where `random_states` found them."""
    import random

    import numpy as np
    import torch

    version, numbers, gauss = account["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, position, has_gauss, cached = account["numpy"]
    np.random.set_state((name, tensors["numpy"].numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], device)


def _locked(lock: Any) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def hashes_in(content: bytes) -> dict[str, str]:
    """The SHA-256 of each part that a state names, by the part's name.

    Args:
        content: what STATE holds.

    Raises:
        ValueError, KeyError, TypeError: it is damaged.
    """
    return dict(json.loads(content)["sha256"])


def file_name(name: str) -> str:
    """The file of a part of this name, in the directory of a state."""
    return f"{name}.safetensors"
