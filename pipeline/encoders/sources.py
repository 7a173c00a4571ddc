"""Where a member's files are: in a wheel, a directory, a checkpoint, or on the hub at a pinned commit."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path

from pipeline.encoders.files import ARCHITECTURE, TOKENIZER, WEIGHTS, DamagedModelError, weight_files
from pipeline.encoders.manifest import MANIFEST, leads_outside
from pipeline.encoders.spec import MemberSpec
from pipeline.errors import BadInputError, HoneloopError

# Nothing else of a hub repository is fetched: no pickles, no code.
_HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt"]
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Located:
    """A model directory on this machine.

    Args:
        directory: where its files are.
        fix: what to do if one of them turns out missing or damaged.
        recorded: SHA-256 by file name, as far as whoever brought the files here recorded it.
    """

    directory: Path
    fix: str
    recorded: Mapping[str, str] = field(default_factory=dict[str, str])


def locate(member: MemberSpec, checkpoint: Path | None = None) -> Located:
    """Finds a member's directory. Only `hub:` sources may use the network, and only if not yet cached.

    Args:
        member: whose files are wanted.
        checkpoint: the checkpoint directory, for members with a `checkpoint:` source.

    Raises:
        HoneloopError: the wheel is not installed, or the hub does not give the model.
        BadInputError: a hub source without a full commit hash as its revision.
    """
    kind, _, place = member.source.partition(":")
    if kind == "wheel":
        return _in_wheel(place)
    if kind == "hub":
        return _on_hub(place, member.revision)
    if kind == "checkpoint":
        if checkpoint is None:
            raise HoneloopError(
                f"{member.source!r} lies inside a checkpoint, and this encoder is not one.",
                hint="Load the checkpoint's directory.",
            )
        directory = checkpoint / place
        if leads_outside(place):
            raise DamagedModelError(
                f"{checkpoint / MANIFEST} points outside its checkpoint: {place!r}.",
                hint="Do not use this checkpoint: train again.",
            )
        return Located(directory, f"The checkpoint {checkpoint} is damaged: restore it, or train again.")
    return Located(Path(place), f"Copy the model to {place} again.")


def _in_wheel(place: str) -> Located:
    package, _, folder = place.partition("/")
    name = package.replace("_", "-")
    spec = util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise HoneloopError(
            f"The package {name}, which holds the model, is not installed.", hint=f"Run: pip install {name}"
        )
    directory = Path(spec.submodule_search_locations[0]) / folder
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        # Importable without being installed: a folder on sys.path, of which nothing is recorded.
        return Located(directory, f"Run: pip install {name}")
    fix = f"Run: pip install --force-reinstall --no-deps {name}=={distribution.version}"
    return Located(directory, fix, _recorded_by_pip(distribution, f"{package}/{folder}"))


def _recorded_by_pip(distribution: metadata.Distribution, folder: str) -> dict[str, str]:
    """SHA-256 of an installed distribution's files in one folder, from its RECORD."""
    recorded: dict[str, str] = {}
    for file in distribution.files or []:
        if str(file.parent) == folder and file.hash is not None and file.hash.mode == "sha256":
            # RECORD has base64 without its padding.
            digest = base64.urlsafe_b64decode(file.hash.value + "=" * (-len(file.hash.value) % 4))
            recorded[file.name] = digest.hex()
    return recorded


def _on_hub(name: str, revision: str | None) -> Located:
    # A branch or tag can be moved to other weights; a full commit hash cannot.
    if revision is None or _COMMIT.fullmatch(revision) is None:
        raise BadInputError(
            f"The hub model {name!r} needs a full commit hash as its revision, not {revision!r}.",
            hint=f"Copy it from https://huggingface.co/{name}/commits/main and write {name}@<40 hex digits>.",
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        cached = snapshot_download(name, revision=revision, allow_patterns=_HUB_FILES, local_files_only=True)
    except LocalEntryNotFoundError:
        cached = None
    # A download that was cut short leaves a snapshot too.
    whole = cached is not None and not _missing(Path(cached))
    directory = Path(cached) if cached is not None and whole else _download(name, revision)
    # Files in the cache are links to blobs; deleting only the links would bring the same blobs back.
    cache = directory.parents[1]
    fix = f"Delete {cache} and load the model again: it will be downloaded anew."
    return Located(directory, fix, _recorded_by_hub(directory))


def _download(name: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)  # every retry would be a line
    try:
        directory = Path(snapshot_download(name, revision=revision, allow_patterns=_HUB_FILES))
    except (EntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise HoneloopError(
            f"The model {name} at {revision} could not be downloaded: {reason}",
            hint="Check the network, or download it elsewhere and give its directory.",
        ) from error
    finally:
        logger.setLevel(level)
    # Without a network the client gives what it has, whole or not.
    if missing := _missing(directory):
        raise HoneloopError(
            f"The model {name} at {revision} could not be downloaded whole: {', '.join(missing)} is missing.",
            hint="Check the network, and that the revision has safetensors: pickled weights are never read.",
        )
    return directory


def _missing(directory: Path) -> list[str]:
    """Names of the files that every model needs and `directory` does not have."""
    missing = [name for name in (ARCHITECTURE, TOKENIZER) if not (directory / name).is_file()]
    try:
        weight_files(directory, "")
    except DamagedModelError:
        missing.append(WEIGHTS)
    return missing


def _recorded_by_hub(directory: Path) -> dict[str, str]:
    """SHA-256 by name of the large files of a snapshot: their blobs are named by it."""
    recorded: dict[str, str] = {}
    for path in directory.rglob("*"):
        if path.is_symlink() and _SHA256.fullmatch(path.resolve().name):
            recorded[path.relative_to(directory).as_posix()] = path.resolve().name
    return recorded
