"""Where a model's ONNX export lies, what it says of itself, and whether it may stand in for the model.

Layout of `<home>/onnx/<version of the member>/`:

- `model.onnx`, `model.onnx.data`: the graph and its weights,
- `tokenizer.json`: the model's own, for whoever runs the graph elsewhere,
- `export.json`: whose it is, SHA-256 of every file, and how near its vectors are to torch's.

An export has no version of its own: it computes the member it was made of, as another processor would, and
its vectors go into the same tables. So it is one only within `HONELOOP_ONNX_MIN_COSINE` of torch, which is
measured when it is made and asked again when it is loaded, and the setting cannot be lowered. In float32 the
cosine is short of 1 by less than 1e-12, and storing half floats takes 2e-8. What is further off, as int8 may
be, is another model, and is refused.

A frozen member that several encoders share has one export for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.config import Settings
from pipeline.encoders.files import DamagedModelError, read_json, sha256_of
from pipeline.errors import HoneloopError

GRAPH = "model.onnx"
ACCOUNT = "export.json"
FORMAT = 1
Precision = Literal["float32", "int8"]


@dataclass(frozen=True)
class Nearness:
    """How near an export's vectors are to torch's, over real texts in both roles.

    Args:
        lowest: the lowest cosine of a text's two vectors.
        mean: their mean.
        texts: how many texts there were in both roles together.
        speed: torch's time for the ordinary ones among them, in times of the export's.
    """

    lowest: float
    mean: float
    texts: int
    speed: float


@dataclass(frozen=True)
class OnnxExport:
    """An export whose files are whole.

    Args:
        directory: where it lies.
        member_version: the version of the member, taken as an encoder of its own.
        precision: the number format of its weights.
        pad_id: the token that shorter texts are filled up with.
        nearness: measured when it was made.
    """

    directory: Path
    member_version: str
    precision: Precision
    pad_id: int
    nearness: Nearness

    @property
    def fix(self) -> str:
        """What to do when it is damaged."""
        return f"Delete {self.directory}, and run `honeloop models export VERSION --onnx` again."

    @property
    def bytes(self) -> int:
        """The size of all its files."""
        return sum(file.stat().st_size for file in self.directory.iterdir())


@dataclass(frozen=True)
class OnnxExports:
    """The exports of all members, and which of them may compute.

    Args:
        directory: where all exports lie.
        min_cosine: one that was further from torch is refused.
    """

    directory: Path
    min_cosine: float

    def has(self, member_version: str) -> bool:
        """Whether the member has an export, whole or damaged."""
        return (self.directory / member_version / ACCOUNT).is_file()

    def of(self, member_version: str) -> OnnxExport | None:
        """The export of a member; None if it has none.

        Raises:
            DamagedModelError: it is damaged.
            HoneloopError: it is further from torch than it may be.
        """
        if not self.has(member_version):
            return None
        directory = self.directory / member_version
        export = read_export(directory)
        if export.member_version != member_version:
            raise DamagedModelError(
                f"{directory / ACCOUNT} is of {export.member_version[:12]}, not of {member_version[:12]}.",
                hint=export.fix,
            )
        require_near(export.nearness, self.min_cosine, f"The export {directory}", export.fix)
        return export


def exports_in_force(settings: Settings) -> OnnxExports | None:
    """The exports that may compute by the settings; None: torch computes everything."""
    if settings.backend == "torch":
        return None
    return OnnxExports(settings.onnx_path, settings.onnx_min_cosine)


def require_near(nearness: Nearness, min_cosine: float, whose: str, fix: str) -> None:
    """Raises HoneloopError, with `fix` as what to do, if an export is too far from torch to be the model."""
    if not nearness.lowest >= min_cosine:
        raise HoneloopError(
            f"{whose} is not the same model: over {nearness.texts} texts the cosine of its vectors to torch's"
            f" is {nearness.lowest:.6f} at least, {nearness.mean:.6f} on average; {min_cosine} is asked for.",
            hint=fix,
        )


def read_export(directory: Path) -> OnnxExport:
    """Reads and verifies an export. Raises DamagedModelError naming what is missing or damaged."""
    path = directory / ACCOUNT
    fix = f"Delete {directory}, and run `honeloop models export VERSION --onnx` again."
    content = read_json(path, fix)
    try:
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}, and this Honeloop reads {FORMAT}")
        files: dict[str, str] = dict(content["files"])
        export = OnnxExport(
            directory,
            str(content["member_version"]),
            content["precision"],
            int(content["pad_id"]),
            Nearness(**content["nearness"]),
        )
        if GRAPH not in files:
            raise ValueError(f"it does not list {GRAPH}")
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedModelError(f"{path} is no account of an export: {error}.", hint=fix) from error
    _check_files(directory, files, fix)
    return export


def _check_files(directory: Path, files: dict[str, str], fix: str) -> None:
    for name, expected in sorted(files.items()):
        # A name with a folder in it could point anywhere on the machine.
        if Path(name).name != name or not (directory / name).is_file():
            raise DamagedModelError(f"{directory / name} is missing.", hint=fix)
        if (found := sha256_of(directory / name)) != expected:
            raise DamagedModelError(
                f"{directory / name} is damaged: its SHA-256 is {found}, and it was {expected} when it was "
                "exported.",
                hint=fix,
            )


def account_of(export: OnnxExport, **more: Any) -> dict[str, Any]:
    """What `read_export` reads, as JSON, with the hashes of the files that are there now."""
    files = sorted(file for file in export.directory.iterdir() if file.name != ACCOUNT)
    return {
        "format": FORMAT,
        "member_version": export.member_version,
        "precision": export.precision,
        "pad_id": export.pad_id,
        "nearness": vars(export.nearness),
        "files": {file.name: sha256_of(file) for file in files},
        **more,
    }
