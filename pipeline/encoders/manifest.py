"""A checkpoint's manifest as far as loading needs it: the spec, and what every file must hash to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from pipeline.encoders.files import DamagedModelError, read_json, sha256_of
from pipeline.encoders.spec import EncoderSpec

MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says it is. `files`: SHA-256 by name relative to the checkpoint directory."""

    version: str
    spec: EncoderSpec
    files: dict[str, str]
    content: dict[str, Any]


def is_checkpoint(directory: Path) -> bool:
    """Whether the directory is a checkpoint: it has a manifest."""
    return (directory / MANIFEST).is_file()


def read_manifest(directory: Path) -> Manifest:
    """Reads a checkpoint's manifest. Raises DamagedModelError naming it if it is missing or unreadable."""
    path = directory / MANIFEST
    fix = _fix(directory)
    content = read_json(path, fix)
    if content.get("format") != FORMAT:
        raise DamagedModelError(
            f"{path} has format {content.get('format')!r}; this Honeloop reads format {FORMAT}.",
            hint="Load it with the Honeloop that wrote it, or train again.",
        )
    files = content.get("files")
    version = content.get("version")
    if not isinstance(files, dict) or not files or not isinstance(version, str):
        raise DamagedModelError(f"{path} has no version or lists no files.", hint=fix)
    try:
        spec = EncoderSpec.model_validate(content.get("spec"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DamagedModelError(f"{path} has a wrong spec: {where}: {first['msg']}.", hint=fix) from error
    return Manifest(version, spec, {str(name): str(digest) for name, digest in files.items()}, content)


def check_files(directory: Path, manifest: Manifest) -> None:
    """Hashes every file the manifest lists. Raises DamagedModelError naming the first that differs."""
    for name, expected in sorted(manifest.files.items()):
        path = directory / name
        if leads_outside(name):
            raise DamagedModelError(
                f"{directory / MANIFEST} lists a file outside its checkpoint: {name!r}.", hint=_fix(directory)
            )
        if not path.is_file():
            raise DamagedModelError(f"{path} is missing.", hint=_fix(directory))
        if (found := sha256_of(path)) != expected:
            raise DamagedModelError(
                f"{path} is damaged: its SHA-256 is {found}, and the manifest has {expected}.",
                hint=_fix(directory),
            )


def leads_outside(name: str) -> bool:
    """Whether a relative name, as a manifest may have it, is not one of something inside its checkpoint."""
    return PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts


def _fix(directory: Path) -> str:
    return f"The checkpoint {directory} is damaged: restore it from a copy, or train again."
