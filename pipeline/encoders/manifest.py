"""A checkpoint's manifest as far as loading needs it: the spec, and what every file must hash to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.encoders.files import DamagedModelError, read_json, sha256_of
from pipeline.encoders.spec import EncoderSpec, MemberSpec

MANIFEST = "manifest.json"
SPEC = "spec.json"
FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says it is.

    Args:
        version: the fingerprint of the encoder.
        spec: the encoder's.
        files: SHA-256 by name relative to the checkpoint directory.
        members: what each member was when the checkpoint was written, the frozen ones too, which stay where
            they were; None in checkpoints that were written before this was recorded.
        content: the whole manifest.
    """

    version: str
    spec: EncoderSpec
    files: dict[str, str]
    members: tuple[MemberRecord, ...] | None
    content: dict[str, Any]


class MemberRecord(BaseModel):
    """A member as a checkpoint's manifest has it. `files`: SHA-256 by name in the member's own directory."""

    source: str
    revision: str | None
    dims: int
    files: dict[str, str]

    @classmethod
    def of(cls, spec: MemberSpec, files: Mapping[str, str]) -> MemberRecord:
        """What there is to record of a member."""
        return cls(source=spec.source, revision=spec.revision, dims=spec.dims, files=dict(files))


def is_checkpoint(directory: Path) -> bool:
    """Whether the directory is a checkpoint: it has a manifest, or has lost it and has the spec beside it."""
    return (directory / MANIFEST).is_file() or (directory / SPEC).is_file()


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
        listed = content.get("members")
        members = None if listed is None else tuple(map(MemberRecord.model_validate, listed))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DamagedModelError(f"{path} has a wrong spec: {where}: {first['msg']}.", hint=fix) from error
    return Manifest(
        version, spec, {str(name): str(digest) for name, digest in files.items()}, members, content
    )


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


def check_members(directory: Path, manifest: Manifest, hashes: Sequence[Mapping[str, str]]) -> None:
    """Raises DamagedModelError naming the first member that is not the one the checkpoint was made with.

    Args:
        directory: the checkpoint's.
        manifest: its manifest.
        hashes: of each member of its spec, SHA-256 by name of the files that decide its vectors, as they are.
    """
    if manifest.members is None:
        return
    path, members = directory / MANIFEST, manifest.spec.members
    if len(members) != len(manifest.members):
        raise DamagedModelError(
            f"{path} is of an encoder of {len(manifest.members)} members, and its spec has {len(members)}.",
            hint=_fix(directory),
        )
    for number, (spec, recorded, files) in enumerate(zip(members, manifest.members, hashes, strict=True), 1):
        found = MemberRecord.of(spec, files)
        for what in ("source", "revision", "dims"):
            now, then = getattr(found, what), getattr(recorded, what)
            if now != then:
                raise DamagedModelError(
                    f"Member {number} of {path} has the {what} {then}, and its spec says {now}: members"
                    " cannot be exchanged, reordered or resized.",
                    hint=_fix(directory),
                )
        differing = sorted(
            name for name in {*files, *recorded.files} if files.get(name) != recorded.files.get(name)
        )
        if differing:
            raise DamagedModelError(
                f"Member {number} of {path}, {spec.source}, is not the one that the checkpoint was made with:"
                f" {', '.join(differing)} {'is another' if len(differing) == 1 else 'are others'}.",
                hint="Put those files back as they were, or train again.",
            )


def leads_outside(name: str) -> bool:
    """Whether a relative name, as a manifest may have it, is not one of something inside its checkpoint."""
    return PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts


def _fix(directory: Path) -> str:
    return f"The checkpoint {directory} is damaged: restore it from a copy, or train again."
