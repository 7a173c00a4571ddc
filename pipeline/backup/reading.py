"""Reading the file of a backup: what was cut off, damaged or edited is refused by name."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from pipeline.backup.manifest import CHUNK, FORMAT, MANIFEST, OPENING, SEAL, Manifest
from pipeline.encoders.manifest import leads_outside
from pipeline.errors import BadInputError
from pipeline.progress import Progress

_MAX_MANIFEST_BYTES = 64 << 20
_DAMAGED = "Use another copy of it; nothing was changed."
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


class Backup:
    """A backup that is open. `verify` it before anything of it is used."""

    def __init__(self, path: Path, file: zipfile.ZipFile, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._file = file

    def verify(self, progress: Progress) -> None:
        """Reads all of it once.

        Raises:
            BadInputError: a member is missing, too many, or not what the manifest says.
        """
        members = self.manifest.members
        listed = {*members, MANIFEST}
        there = self._file.namelist()
        if len(there) != len(set(there)) or set(there) != listed or any(map(leads_outside, there)):
            odd = sorted(listed.symmetric_difference(there)) or sorted(there)
            raise BadInputError(
                f"{self.path} does not hold what its manifest lists: {', '.join(odd[:5])}.", hint=_DAMAGED
            )
        total = sum(member.length for member in members.values()) // CHUNK
        with progress.stage(f"Verifying {self.path.name} (MB)", total) as advance:
            for name, member in members.items():
                digest, length = hashlib.sha256(), 0
                for piece in self.pieces(name):
                    digest.update(piece)
                    length += len(piece)
                    advance(len(piece) // CHUNK)
                if (length, digest.hexdigest()) != (member.length, member.sha256):
                    raise BadInputError(
                        f"{self.path} is damaged: {name} is not what it was when it was written.",
                        hint=_DAMAGED,
                    )

    def pieces(self, name: str) -> Iterator[bytes]:
        """The content of a member, a megabyte at a time."""
        try:
            with self._file.open(name) as source:
                while piece := source.read(CHUNK):
                    yield piece
        except _UNREADABLE as error:
            raise BadInputError(
                f"{self.path} is damaged: {name} cannot be read ({error}).", hint=_DAMAGED
            ) from error

    def content(self, name: str) -> bytes:
        """All of a small member."""
        return b"".join(self.pieces(name))

    def under(self, prefix: str) -> list[str]:
        """The names of the members that begin so."""
        return [name for name in self.manifest.members if name.startswith(prefix)]


@contextmanager
def reading(path: Path) -> Generator[Backup]:
    """The backup at `path`, its manifest read.

    Raises:
        BadInputError: there is no such file, it is none, it was cut off or edited, or a newer Honeloop
        wrote it.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}.", hint="Check the path.") from error
    with file:
        beginning = file.read(256)
        is_one = beginning.startswith(b"PK\x03\x04") and OPENING.encode() in beginning
        try:
            archive = zipfile.ZipFile(file)
        except _UNREADABLE as error:
            if is_one:
                raise BadInputError(
                    f"{path} is a backup of Honeloop that was cut off or damaged ({error}).", hint=_DAMAGED
                ) from error
            raise _no_backup(path) from error
        with archive:
            if not is_one:
                raise _no_backup(path)
            yield Backup(path, archive, _manifest(path, archive))


def _manifest(path: Path, archive: zipfile.ZipFile) -> Manifest:
    edited = BadInputError(f"The manifest of {path} is missing, damaged or was edited.", hint=_DAMAGED)
    try:
        if archive.getinfo(MANIFEST).file_size > _MAX_MANIFEST_BYTES:
            raise edited
        content = archive.read(MANIFEST)
    except (KeyError, *_UNREADABLE) as error:
        raise edited from error
    if archive.comment != SEAL + hashlib.sha256(content).hexdigest().encode():
        raise edited
    try:
        version = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise BadInputError(
            f"The manifest of {path} is of another format than {FORMAT}, the one that this Honeloop reads.",
            hint="Restore it with the Honeloop that wrote it, or a newer one.",
        ) from error
    if version.format != FORMAT:
        raise BadInputError(
            f"{path} has format {version.format}, written by Honeloop {version.honeloop}; this one reads"
            f" format {FORMAT}.",
            hint="Restore it with that Honeloop, or a newer one.",
        )
    return version


def _no_backup(path: Path) -> BadInputError:
    return BadInputError(
        f"{path} is no backup of Honeloop.", hint="Give a file that `honeloop backup` wrote."
    )
