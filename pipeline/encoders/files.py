"""The files of a model directory: which must be there, whether they are whole, what they hash to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pipeline.encoders.fingerprint import ARCHITECTURE_FILES
from pipeline.errors import HoneloopError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
ARCHITECTURE = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

# safetensors itself refuses larger headers; a damaged length field claims far more.
_MAX_HEADER_BYTES = 100_000_000
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_DTYPE_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
}


class DamagedModelError(HoneloopError):
    """A file of a model is missing or not what it should be; the message names the file, `hint` the fix."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, as 64 hex digits. Raises DamagedModelError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DamagedModelError(
            f"{path} cannot be read: {error.strerror}.", hint="Check that it exists and may be read."
        ) from error


def read_json(path: Path, fix: str) -> dict[str, Any]:
    """The JSON object in a file. Raises DamagedModelError naming the file, with `fix` as what to do."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DamagedModelError(f"{path} is missing.", hint=fix) from error
    except (OSError, ValueError) as error:
        raise DamagedModelError(f"{path} cannot be read: {error}.", hint=fix) from error
    if not isinstance(content, dict):
        raise DamagedModelError(f"{path} does not hold a JSON object.", hint=fix)
    return cast("dict[str, Any]", content)


def weight_files(directory: Path, fix: str) -> list[Path]:
    """The safetensors files of a model directory: one, or the shards that its index names.

    Raises:
        DamagedModelError: there are none, only pickled ones, or a shard is missing.
    """
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    if (directory / INDEX).is_file():
        index = read_json(directory / INDEX, fix)
        shards = sorted({str(name) for name in index.get("weight_map", {}).values()})
        if not shards:
            raise DamagedModelError(f"{directory / INDEX} names no weight files.", hint=fix)
        for name in shards:
            # A name with a folder in it could point anywhere on the machine.
            if Path(name).name != name or not name.endswith(".safetensors"):
                raise DamagedModelError(f"{directory / INDEX} names {name!r} as weights.", hint=fix)
            if not (directory / name).is_file():
                raise DamagedModelError(f"{directory / name} is missing.", hint=fix)
        return [directory / name for name in shards]
    pickled = sorted(path.name for pattern in _PICKLED for path in directory.glob(pattern))
    if pickled:
        raise DamagedModelError(
            f"{directory / WEIGHTS} is missing; the weights there are pickled ({', '.join(pickled)}), and "
            "opening a pickle runs whatever code is in it.",
            hint=f"Convert them to {WEIGHTS}, or use a revision of the model that has it.",
        )
    raise DamagedModelError(f"{directory / WEIGHTS} is missing.", hint=fix)


def check_safetensors(path: Path, fix: str) -> None:
    """Checks that a safetensors file is whole, from its header and size, without reading the tensors.

    The layout is that of the safetensors format: eight bytes of header length (little-endian), the header
    as JSON, then the tensors without gaps, each at the offsets the header gives.

    Raises:
        DamagedModelError: the file is truncated, or its header lies.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8:
                raise DamagedModelError(f"{path} is truncated: it has {size} bytes.", hint=fix)
            if length > min(size - 8, _MAX_HEADER_BYTES):
                raise DamagedModelError(
                    f"{path} is damaged: its header claims {length:,} bytes, and the file has {size:,}.",
                    hint=fix,
                )
            header = json.loads(file.read(length))
    except OSError as error:
        raise DamagedModelError(f"{path} cannot be read: {error.strerror}.", hint=fix) from error
    except ValueError as error:
        raise DamagedModelError(f"{path} is damaged: its header is not JSON.", hint=fix) from error
    try:
        expected = 8 + length + _end_of_tensors(header)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedModelError(f"{path} is damaged: {error}.", hint=fix) from error
    if expected != size:
        state = "truncated" if size < expected else "damaged"
        raise DamagedModelError(
            f"{path} is {state}: its header describes {expected:,} bytes, and the file has {size:,}.",
            hint=fix,
        )


def _end_of_tensors(header: Mapping[str, Any]) -> int:
    spans: list[tuple[int, int]] = []
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        begin, end = (int(offset) for offset in tensor["data_offsets"])
        elements = 1
        for length in tensor["shape"]:
            if int(length) < 0:
                raise ValueError(f"tensor {name} has a negative length")
            elements *= int(length)
        if (end - begin) * 8 != elements * _DTYPE_BITS[tensor["dtype"]]:
            raise ValueError(f"tensor {name} does not have the size its shape gives")
        spans.append((begin, end))
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise ValueError("its tensors overlap or have gaps")
        position = end
    return position


def deciding_hashes(directory: Path, fix: str, adapters: Sequence[str] = ()) -> dict[str, str]:
    """Checks a model directory and gives SHA-256 by name of the files that decide its vectors.

    Args:
        directory: the model's.
        fix: what to do about a missing or damaged file.
        adapters: folders in it that hold adapters in use.

    Raises:
        DamagedModelError: the directory, its weights, tokenizer or architecture are missing or damaged.
    """
    if not directory.is_dir():
        raise DamagedModelError(f"{directory} is missing.", hint=fix)
    # transformers would apply it over the weights unasked, and nothing else here would know of it.
    if (directory / ADAPTER_CONFIG).exists():
        raise DamagedModelError(
            f"{directory / ADAPTER_CONFIG} is an adapter beside whole weights.",
            hint="Merge it into the weights, or move it out of the directory.",
        )
    weights = weight_files(directory, fix)
    for path in weights:
        check_safetensors(path, fix)
    read_json(directory / ARCHITECTURE, fix)
    read_json(directory / TOKENIZER, fix)
    names = [path.name for path in weights]
    names += [name for name in ARCHITECTURE_FILES if (directory / name).is_file()]
    for folder in adapters:
        read_json(directory / folder / ADAPTER_CONFIG, fix)
        if not (directory / folder / ADAPTER_WEIGHTS).is_file():
            raise DamagedModelError(f"{directory / folder / ADAPTER_WEIGHTS} is missing.", hint=fix)
        check_safetensors(directory / folder / ADAPTER_WEIGHTS, fix)
        names += [f"{folder}/{ADAPTER_CONFIG}", f"{folder}/{ADAPTER_WEIGHTS}"]
    return {name: sha256_of(directory / name) for name in sorted(names)}


def weights_digest(hashes: Mapping[str, str]) -> str:
    """One SHA-256 for a model's weights: the file's own, or one over the shards' names and hashes."""
    weights = {n: digest for n, digest in hashes.items() if n.endswith(".safetensors") and "/" not in n}
    if len(weights) == 1:
        return next(iter(weights.values()))
    listing = "".join(f"{name} {weights[name]}\n" for name in sorted(weights))
    return hashlib.sha256(listing.encode()).hexdigest()
