"""Checkpoints: a fine-tuned model's files with an account of where it came from, put in place by one rename.

Layout of `<directory>/<version>/`:

- `model/`: weights as safetensors, tokenizer, configuration; a Sentence Transformers model,
- `spec.json`: the encoder's spec; of several members, the frozen ones stay where they were,
- `probe.json`: a few real texts with the vectors that the model gave them before it was written,
- `manifest.json`: version, spec, SHA-256 of every file and of every member's, lineage and metrics,
- `training_curve.png`: loss and validation, step by step, for people,
- `recipes/`: an empty file for each further recipe that gave the very same weights.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pipeline.config import Settings
from pipeline.durable import force_to_disk
from pipeline.encoders.files import TOKENIZER, deciding_hashes, sha256_of, weights_digest
from pipeline.encoders.fingerprint import fingerprint
from pipeline.encoders.manifest import (
    FORMAT,
    MANIFEST,
    SPEC,
    Manifest,
    MemberRecord,
    check_files,
    is_checkpoint,
    read_manifest,
)
from pipeline.encoders.quiet import quiet
from pipeline.encoders.spec import EncoderSpec
from pipeline.errors import HoneloopError
from pipeline.evaluation.plots import training_curve
from pipeline.locking import locked, locked_if_free
from pipeline.training.disk import disk_errors, disk_full
from pipeline.training.lineage import lineage_of, metrics_of
from pipeline.training.probe import PROBE, probe_differences, take_probe

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder
    from pipeline.training.fine_tuning import FineTuned
    from pipeline.training.pairs import TrainingSet

MODEL = "model"
CURVE = "training_curve.png"
RECIPES = "recipes"
LOCK = ".lock"
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk: its model version, its directory and its whole manifest."""

    version: str
    path: Path
    manifest: dict[str, Any]


def write_checkpoint(
    fine_tuned: FineTuned, base: Encoder, training_set: TrainingSet, directory: Path
) -> Checkpoint:
    """Writes a checkpoint to `directory/<version>`, whole or not at all.

    It is written beside its place, forced to disk, loaded again and compared with the model it came from, and
    only then renamed. What a killed writer left is cleared away. A version that is there already stays as it
    is, unless it was damaged: then it is replaced by the same files, whole.

    Args:
        fine_tuned: the model and its history.
        base: the encoder it was trained from.
        training_set: what it was trained on.
        directory: holds all checkpoints; made if it is missing.

    Raises:
        HoneloopError: the disk is full or may not be written to, something else stands in the way, the
            files do not give the model's vectors, or `base` is not what it was trained from.
    """
    if fine_tuned.base_version != base.version:
        raise HoneloopError(
            f"The model was trained from {fine_tuned.base_version[:12]}, not from {base.version[:12]}.",
            hint="Give the base it was trained from.",
        )
    with _clear_errors(directory), _alone_in(directory):
        _check_room(fine_tuned, directory)
        unfinished = directory / f"{_UNFINISHED}{uuid4().hex}"
        try:
            manifest = _write(fine_tuned, base, training_set, unfinished)
            problems = verify_checkpoint(unfinished)
            if problems:
                raise HoneloopError(
                    f"The checkpoint was written, and does not give the model's vectors: {problems[0]}",
                    hint="It was not put in place. Check the disk, and train again.",
                )
            return _put_in_place(unfinished, directory / manifest["version"], manifest)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def take_in_checkpoint(version: str, directory: Path, copy_to: Callable[[Path], object]) -> Path:
    """Puts a copy of a checkpoint at `directory/<version>`, whole or not at all.

    Args:
        version: what it must be.
        directory: holds all checkpoints; made if it is missing.
        copy_to: writes its files into the directory it is given.

    Raises:
        HoneloopError: a file is missing or damaged, it is another version, or the disk refuses it.
    """
    with _clear_errors(directory), _alone_in(directory):
        unfinished = directory / f"{_UNFINISHED}{uuid4().hex}"
        try:
            unfinished.mkdir()
            copy_to(unfinished)
            manifest = read_manifest(unfinished)
            check_files(unfinished, manifest)
            if manifest.version != version:
                raise HoneloopError(f"The checkpoint of {version[:12]} holds {manifest.version[:12]}.")
            _force_tree_to_disk(unfinished)
            return _put_in_place(unfinished, directory / version, manifest.content).path
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def delete_checkpoint(path: Path) -> bool:
    """Deletes a checkpoint by one rename, so that it is there whole or not at all; whether it did.

    While one is being written beside it, it stays: a writer clears away all that lies there unfinished.
    """
    with locked_if_free(path.parent / LOCK) as free:
        if free:
            leftover = path.with_name(f"{_UNFINISHED}{uuid4().hex}")
            os.rename(path, leftover)
            force_to_disk(path.parent)
            shutil.rmtree(leftover, ignore_errors=True)
        return free


def verify_checkpoint(path: Path) -> list[str]:
    """What is wrong with a checkpoint, in sentences; nothing if it is whole.

    Every file must have the hash its manifest gives, the version must be the fingerprint, and the encoder
    loaded from it must give the vectors in `probe.json`, up to 1e-5.
    """
    from pipeline.encoders.loading import load_encoder

    try:
        manifest = read_manifest(path)
        # The vectors are compared in the format they were taken in: float32, on the CPU.
        encoder = load_encoder(str(path), device="cpu")
        problems = _wrong_records(path, manifest)
        return problems or probe_differences(path / PROBE, encoder)
    except HoneloopError as error:
        return [str(error)]


def find_checkpoint(settings: Settings, key: str) -> Checkpoint | None:
    """The checkpoint that the recipe `key` gave (see `recipe_key.recipe_key`), if it is there and whole.

    A damaged one does not count: training again puts whole files in its place.
    """
    directory = settings.checkpoints_path
    if not directory.is_dir():
        return None
    for path in sorted(directory.iterdir()):
        if path.name.startswith(".") or not is_checkpoint(path):
            continue
        try:
            manifest = read_manifest(path)
            made_by_it = manifest.content.get("lineage", {}).get("recipe_key") == key
            if not made_by_it and not (path / RECIPES / key).is_file():
                continue
            check_files(path, manifest)
        except HoneloopError:
            continue
        if manifest.version == path.name and not _wrong_records(path, manifest):
            return Checkpoint(manifest.version, path, manifest.content)
    return None


def _write(fine_tuned: FineTuned, base: Encoder, training_set: TrainingSet, path: Path) -> dict[str, Any]:
    """Writes all files into the new directory `path`, forces them to disk, and gives the manifest."""
    path.mkdir()
    with quiet():
        fine_tuned.model.save_pretrained(str(path / MODEL), create_model_card=False, safe_serialization=True)
    _settle_tokenizer(path / MODEL / TOKENIZER)
    deciding = deciding_hashes(path / MODEL, "Train again.")
    spec, names = _spec_of(base, deciding)
    version = fingerprint(spec, names)
    members = [
        MemberRecord.of(member, deciding if number == base.spec.trainable_member else _files_of(base, number))
        for number, member in enumerate(spec.members)
    ]
    _write_json(path / SPEC, spec.model_dump(mode="json"))
    _write_json(path / PROBE, take_probe(fine_tuned.model, base.spec, training_set))
    since = [finding["since_step"] for finding in fine_tuned.convergence["overfitting"]]
    (path / CURVE).write_bytes(training_curve(fine_tuned.history, since))
    model_files = sorted(file for file in (path / MODEL).rglob("*") if file.is_file())
    manifest = {
        "format": FORMAT,
        "version": version,
        "spec": spec.model_dump(mode="json"),
        "members": [member.model_dump(mode="json") for member in members],
        "files": {file.relative_to(path).as_posix(): sha256_of(file) for file in model_files},
        "records": {name: sha256_of(path / name) for name in (SPEC, PROBE, CURVE)},
        "lineage": lineage_of(fine_tuned, base, training_set),
        "metrics": metrics_of(fine_tuned),
    }
    # The manifest comes last: a directory without one is no checkpoint.
    _write_json(path / MANIFEST, manifest)
    _force_tree_to_disk(path)
    return manifest


def _settle_tokenizer(path: Path) -> None:
    """Takes out of a tokenizer's file how it last padded and cut off.

    That is a state, left by whatever the tokenizer was last asked for; who embeds sets both anyway. In the
    file it would give equal models different fingerprints.
    """
    from tokenizers import Tokenizer

    tokenizer: Tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(path))


def _spec_of(base: Encoder, deciding: Mapping[str, str]) -> tuple[EncoderSpec, dict[str, str]]:
    """The trained encoder's spec, and the hashes of its files under the names that loading gives them."""
    trained = base.spec.trainable_member
    members = list(base.spec.members)
    names = {f"{MODEL}/{name}": digest for name, digest in deciding.items()}
    for number, member in enumerate(members):
        if number == trained:
            update = {
                "source": f"checkpoint:{MODEL}",
                "revision": None,
                "weights_sha256": weights_digest(deciding),
            }
            members[number] = member.model_copy(update=update)
        else:
            names |= {f"{number}/{name}": digest for name, digest in _files_of(base, number).items()}
    return EncoderSpec(name=base.spec.name, members=tuple(members)), names


def _files_of(base: Encoder, number: int) -> dict[str, str]:
    """The hashes of a frozen member's files, by their names in its own directory."""
    prefix = f"{number}/"
    return {
        name.removeprefix(prefix): digest for name, digest in base.files.items() if name.startswith(prefix)
    }


def _put_in_place(unfinished: Path, target: Path, manifest: dict[str, Any]) -> Checkpoint:
    version = str(manifest["version"])
    if target.exists():
        if not is_checkpoint(target):
            raise HoneloopError(
                f"{target} is in the way of the checkpoint {version[:12]}: it is not a checkpoint.",
                hint="Move it elsewhere and try again.",
            )
        if not verify_checkpoint(target):
            kept = read_manifest(target).content
            recipe = str(manifest["lineage"]["recipe_key"])
            if kept.get("lineage", {}).get("recipe_key") != recipe:
                (target / RECIPES).mkdir(exist_ok=True)
                (target / RECIPES / recipe).touch()
            return Checkpoint(version, target, kept)
        # If this process dies between the two renames, the damaged one is cleared away as unfinished.
        damaged = target.with_name(f"{_UNFINISHED}{uuid4().hex}")
        os.rename(target, damaged)
        os.rename(unfinished, target)
        shutil.rmtree(damaged, ignore_errors=True)
    else:
        os.rename(unfinished, target)
    force_to_disk(target.parent)
    return Checkpoint(version, target, manifest)


def _wrong_records(path: Path, manifest: Manifest) -> list[str]:
    """Which files beside the model's own do not have the hash that the manifest gives.

    The picture of the training is no reason to refuse a model.
    """
    records = manifest.content.get("records")
    if not isinstance(records, dict) or {SPEC, PROBE} - set(records):
        return [f"{path / MANIFEST} does not list {SPEC} and {PROBE}."]
    wrong = [
        name
        for name in (SPEC, PROBE)
        if not (path / name).is_file() or sha256_of(path / name) != records[name]
    ]
    return [f"{path / name} is missing or damaged." for name in wrong]


@contextmanager
def _alone_in(directory: Path) -> Generator[None]:
    """Makes the directory, waits for other writers, and clears away what dead ones left.

    The lock ends with its process, so what is unfinished while it is held has no writer any more.
    """
    with locked(directory / LOCK):
        for leftover in unfinished_checkpoints(directory):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def unfinished_checkpoints(directory: Path) -> list[Path]:
    """What is being written, or was when its writer died; while the lock is free, the latter."""
    return sorted(directory.glob(f"{_UNFINISHED}*"))


def _clear_errors(directory: Path) -> AbstractContextManager[None]:
    return disk_errors(directory, "The checkpoint")


def _check_room(fine_tuned: FineTuned, directory: Path) -> None:
    needed = sum(tensor.numel() * tensor.element_size() for tensor in fine_tuned.model.state_dict().values())
    if shutil.disk_usage(directory).free < needed:
        raise disk_full(directory, "The checkpoint", f" {needed / 1e6:.0f} MB are needed.")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _force_tree_to_disk(path: Path) -> None:
    for each in sorted(path.rglob("*"), reverse=True):
        force_to_disk(each)
    force_to_disk(path)
