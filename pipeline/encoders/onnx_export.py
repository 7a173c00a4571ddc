"""Exports an encoder's members to ONNX, and proves that what comes out is the same model."""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, cast
from uuid import uuid4

import numpy as np

from pipeline.encoders.files import TOKENIZER
from pipeline.encoders.onnx_files import (
    ACCOUNT,
    GRAPH,
    Nearness,
    OnnxExport,
    OnnxExports,
    Precision,
    account_of,
    require_near,
)
from pipeline.encoders.quiet import quiet
from pipeline.encoders.samples import SAMPLES
from pipeline.errors import HoneloopError
from pipeline.locking import locked
from pipeline.progress import Progress

if TYPE_CHECKING:
    from pipeline.encoders.loading import LocatedMember
    from pipeline.encoders.member import Member, Role

LOCK = ".lock"
_UNFINISHED = ".unfinished-"
_LET_TORCH = "Let torch compute it, as it does with HONELOOP_BACKEND=torch."
_LIBRARIES = ("onnx", "onnxscript", "onnxruntime", "torch", "transformers")
_ORDINARY = [text for sample in SAMPLES for text in (sample.code, sample.documentation)]
# What a graph gets wrong most easily: no token, one, other scripts, and more than fits.
_UNUSUAL = ["", "x", "größe = 名前  # данные 🐝"]
_LONG = "value = compute(value)\n" * 1_000
_BATCH = 8
_TIMED_RUNS = 3


def export_member(
    member: LocatedMember, exports: OnnxExports, progress: Progress, *, int8: bool = False
) -> OnnxExport:
    """Puts the export of a member among `exports`, whole or not at all, and gives it.

    A whole one of this precision that is there already stays as it is; any other is replaced.

    Args:
        member: whose files were verified.
        exports: where to, and how near to torch it has to be.
        progress: told of the stages.
        int8: weights of 8 bits, in whichever way is near enough; the faster one is tried first.

    Raises:
        HoneloopError: it is too far from torch, the libraries are not installed, the model cannot be
            exported, or the disk cannot be written to.
    """
    _require_libraries()
    target = exports.directory / member.version
    precision: Precision = "int8" if int8 else "float32"
    unfinished = exports.directory / f"{_UNFINISHED}{uuid4().hex}"
    with _clear_errors(exports.directory), locked(exports.directory / LOCK):
        # Asked while nobody else writes: whoever waited finds what the other made, and leaves it in place.
        try:
            known = exports.of(member.version)
        except HoneloopError:  # damaged, or too far from torch by today's settings
            known = None
        if known is not None and known.precision == precision:
            progress.note(f"{member.spec.source} was exported before.")
            return known
        for leftover in unfinished_exports(exports.directory):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            unfinished.mkdir(parents=True)
            made = _make(member, unfinished, precision, exports.min_cosine, progress)
            shutil.rmtree(target, ignore_errors=True)
            os.rename(unfinished, target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return replace(made, directory=target)


def export_frozen_members(members: Sequence[LocatedMember], exports: OnnxExports, progress: Progress) -> None:
    """Exports each frozen member that has no export yet, of whatever precision.

    It is the same night after night and in all that is trained beside it: one export is for good. Trainable
    members are other weights after each training, and are exported on request only.

    Done where the settings ask for it, and not by default. The architecture of `jina` with six layers and
    0.56 GB of float32 took 68 s and 4.3 GB at the highest, of which 2.2 GB grow with the weights: about 11 GB
    for the 2.3 GB of the real one. And torch with packed weights (`linear.py`) was 1.2 times as fast.

    Raises:
        HoneloopError: as `export_member`.
    """
    for member in members:
        # Whether what is there is whole, loading verifies: hashing it here too would be twice the reading.
        if not member.spec.trainable and not exports.has(member.version):
            export_member(member, exports, progress)


def unfinished_exports(directory: Path) -> list[Path]:
    """What is being written, or was when its writer died; while `LOCK` is free, the latter."""
    return sorted(directory.glob(f"{_UNFINISHED}*"))


def _make(
    member: LocatedMember, directory: Path, precision: Precision, min_cosine: float, progress: Progress
) -> OnnxExport:
    from pipeline.encoders.building import build_member

    source = member.spec.source
    with progress.stage(f"Exporting {source}"):
        _write_float32(member, directory / GRAPH)
        # Of the adapted and packed model that serves, not of the one that was taken apart for the export.
        torch_member = build_member(member.spec, member.located, "cpu")
    shutil.copyfile(member.located.directory / TOKENIZER, directory / TOKENIZER)
    export = OnnxExport(
        directory, member.version, precision, torch_member.backend.pad_id, Nearness(0.0, 0.0, 0, 0.0)
    )
    with progress.stage(f"Comparing {source} with torch"):
        if precision == "float32":
            export = replace(export, nearness=_measure(torch_member, export))
            require_near(export.nearness, min_cosine, f"The export of {source}", _LET_TORCH)
        else:
            export = _quantized(torch_member, export, min_cosine)
    account = account_of(
        export,
        spec=member.spec.model_dump(mode="json"),
        libraries={name: metadata.version(name) for name in _LIBRARIES},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    # It comes last: a directory without one is no export.
    (directory / ACCOUNT).write_text(json.dumps(account, indent=2) + "\n", encoding="utf-8")
    return export


def _write_float32(member: LocatedMember, path: Path) -> None:
    from pipeline.encoders.building import build_model
    from pipeline.encoders.onnx_graph import write_graph

    model, _ = build_model(member.spec, member.located, "cpu")
    try:
        with quiet(), _unheard():
            write_graph(member.spec, model, path)
    except OSError:
        raise
    except Exception as error:  # whatever an architecture makes the exporter raise
        reason = " ".join(str(error).split())[:300]
        raise HoneloopError(
            f"The model {member.spec.source} cannot be exported: {type(error).__name__}: {reason}",
            hint=_LET_TORCH,
        ) from error
    # A large model is about to be loaded a second time.
    del model
    gc.collect()


def _measure(torch_member: Member, export: OnnxExport) -> Nearness:
    """Both members embed the same texts, in both roles."""
    from pipeline.encoders.member import Member
    from pipeline.encoders.onnx_backend import OnnxBackend

    spec = torch_member.spec
    exported = Member(spec, export.directory, torch_member.tokenizer, OnnxBackend(export))
    texts: dict[Role, list[str]] = {
        "query": [*_ORDINARY, *_UNUSUAL],
        "document": [*_ORDINARY, *_UNUSUAL, _LONG],
    }
    cosines = np.concatenate(
        [
            _cosines(torch_member.embed(asked, role, _BATCH), exported.embed(asked, role, _BATCH))
            for role, asked in texts.items()
        ]
    )
    speed = _seconds(torch_member) / _seconds(exported)
    return Nearness(float(cosines.min()), float(cosines.mean()), len(cosines), speed)


def _cosines(
    one: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    other: np.ndarray[tuple[int, int], np.dtype[np.float32]],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    a, b = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)


def _seconds(member: Member) -> float:
    """The shortest of a few runs over the ordinary texts."""

    def run() -> float:
        started = time.perf_counter()
        member.embed(_ORDINARY, "document", _BATCH)
        return time.perf_counter() - started

    return min(run() for _ in range(_TIMED_RUNS))


def _quantized(torch_member: Member, export: OnnxExport, min_cosine: float) -> OnnxExport:
    """The export with weights of 8 bits in place of its float32 ones.

    Raises:
        HoneloopError: no way of quantizing is near enough; it says how far each was.
    """
    missed: list[str] = []
    for way, quantize in _WAYS.items():
        attempt = export.directory / f"{uuid4().hex}"
        attempt.mkdir()
        with _unheard():
            quantize(export.directory / GRAPH, attempt / GRAPH)
        nearness = _measure(torch_member, replace(export, directory=attempt))
        if nearness.lowest >= min_cosine:
            for file in export.directory.glob(f"{GRAPH}*"):
                file.unlink()
            for file in attempt.iterdir():
                os.rename(file, export.directory / file.name)
            attempt.rmdir()
            return replace(export, nearness=nearness)
        missed.append(
            f"{way}, {nearness.lowest:.6f} at least and {nearness.mean:.6f} on average, at "
            f"{nearness.speed:.1f} times the speed"
        )
        shutil.rmtree(attempt)
    raise HoneloopError(
        f"int8 would be another model than {torch_member.spec.source}: a cosine to torch's vectors of "
        f"{min_cosine} is asked for, and found were: {'; '.join(missed)}.",
        hint="Export without --int8.",
    )


def _dynamic(source: Path, target: Path) -> None:
    """Activations are quantized too, each batch by its own range: integer products, and so the faster way."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source, target, weight_type=QuantType.QInt8, per_channel=True, use_external_data_format=True
    )


def _weights_alone(source: Path, target: Path) -> None:
    """Only weights, each block of 32 by its own range, and float32 products: smaller, not faster."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.quantization.onnx_model import ONNXModel

    quantizer = MatMulNBitsQuantizer(onnx.load(source), bits=8, block_size=32, is_symmetric=True)
    quantizer.process()
    # Annotated as what it takes; it gives ONNX Runtime's own wrapper.
    cast("ONNXModel", quantizer.model).save_model_to_file(str(target), use_external_data_format=True)


_WAYS: dict[str, Callable[[Path, Path], None]] = {
    "weights and activations": _dynamic,
    "weights alone": _weights_alone,
}


def _require_libraries() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if util.find_spec(name) is None]
    if missing:
        raise HoneloopError(
            f"Not installed, and needed to export: {', '.join(missing)}.",
            hint="Run: pip install 'honeloop[onnx]'",
        )


@contextmanager
def _clear_errors(directory: Path) -> Generator[None]:
    """What the operating system refuses, as a sentence."""
    try:
        yield
    except OSError as error:
        raise HoneloopError(
            f"The export could not be written to {directory}: {error.strerror or error}.",
            hint="Make room, or set HONELOOP_HOME to another disk; what was there before is as it was.",
        ) from error


@contextmanager
def _unheard() -> Generator[None]:
    """Keeps the exporters' own notes and deprecations from people who can do nothing about them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
