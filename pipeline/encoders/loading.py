"""From a name to an Encoder: finds the files, verifies them, reads the weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.encoders.counting import counter_of, document_counter
from pipeline.encoders.directories import member_for_directory, spec_for_directory
from pipeline.encoders.files import TOKENIZER, DamagedModelError, deciding_hashes, sha256_of, weights_digest
from pipeline.encoders.fingerprint import fingerprint, member_version
from pipeline.encoders.manifest import (
    MANIFEST,
    Manifest,
    check_files,
    check_members,
    is_checkpoint,
    read_manifest,
)
from pipeline.encoders.presets import PRESETS
from pipeline.encoders.sources import Located, locate
from pipeline.encoders.spec import EncoderSpec, MemberSpec
from pipeline.encoders.tokenizing import TextTokenizer, read_tokenizer
from pipeline.errors import BadInputError
from pipeline.progress import Silent

if TYPE_CHECKING:
    from pipeline.config import Settings
    from pipeline.corpus.tokens import TokenBudget
    from pipeline.encoders.encoder import Encoder
    from pipeline.encoders.member import Member
    from pipeline.encoders.onnx_files import OnnxExports
    from pipeline.progress import Progress

_HUB_NAME = re.compile(r"([\w.-]+/[\w.-]+)@(\S+)")


@dataclass(frozen=True)
class _Resolved:
    """What a name stands for, its members' directories found but nothing read yet."""

    spec: EncoderSpec
    members: tuple[Located, ...]
    checkpoint: Path | None = None
    manifest: Manifest | None = None


@dataclass(frozen=True)
class LocatedMember:
    """A member of an encoder, its files found and verified.

    Args:
        spec: what it is.
        located: where it is.
        files: SHA-256 of the files that decide its vectors, by their names there.
        prefix: what stands before those names among the files of the encoder.
    """

    spec: MemberSpec
    located: Located
    files: Mapping[str, str]
    prefix: str = ""

    @property
    def version(self) -> str:
        """The version that it would have as an encoder of its own."""
        return member_version(self.spec, self.files)


def load_as_set(source: str, settings: Settings, progress: Progress | None = None) -> Encoder:
    """`load_encoder` on the device, with the batch size and by the backend that the settings say.

    `progress` is told of exporting, which takes minutes of a large model.
    """
    from pipeline.encoders.onnx_files import exports_in_force

    return load_encoder(
        source,
        device=settings.device,
        batch_size=settings.embed_batch_size,
        exports=exports_in_force(settings),
        export_frozen=settings.backend == "onnx",
        progress=progress,
    )


def load_encoder(
    source: str,
    *,
    device: str | None = None,
    batch_size: int = 16,
    exports: OnnxExports | None = None,
    export_frozen: bool = False,
    progress: Progress | None = None,
) -> Encoder:
    """Loads an encoder, verifying every file that decides its vectors.

    Args:
        source: a preset (`minilm`), a directory (a checkpoint with a manifest, a Sentence Transformers
            model, or a bare transformers model), `org/name@<commit>` of the hub, or several of these with
            `+` between them, whose vectors are concatenated.
        device: `cpu`, `mps` or `cuda`; by default the best that torch has (see `devices.best_device`).
        batch_size: texts per forward pass.
        exports: members that have an ONNX export among these are computed by it on the CPU; None: torch
            computes all of them. The version is that of the weights either way.
        export_frozen: frozen members that have none there yet are exported first.
        progress: told of that.

    Raises:
        BadInputError: nothing has that name, or the device is not there.
        DamagedModelError: a file is missing, truncated, damaged or of the wrong shape; it is named.
        HoneloopError: a frozen member cannot be exported, or its export is too far from torch.
    """
    resolved = _resolve(source)
    located = _verified(resolved)

    from pipeline.encoders.devices import best_device
    from pipeline.encoders.encoder import Encoder

    target = best_device(device)
    # Where torch has something faster than the CPU, that is used.
    usable = exports if target == "cpu" else None
    if usable is not None and export_frozen:
        # Before any member is loaded: exporting a large one takes several times its size in memory.
        from pipeline.encoders.onnx_export import export_frozen_members

        export_frozen_members(located, usable, progress or Silent())
    members = [_load_member(member, target, usable) for member in located]
    return Encoder(resolved.spec, members, _names(located), batch_size, source)


def load_copied(
    spec: EncoderSpec, copies: Sequence[tuple[str, Path]], *, device: str | None = None, batch_size: int = 16
) -> Encoder:
    """The encoder of a spec whose members' files were copied here from another machine, computed by torch.

    Args:
        spec: what it is.
        copies: of each member, its `LocatedMember.prefix` and the directory that its files were copied to.
        device: see `load_encoder`.
        batch_size: texts per forward pass.

    Raises:
        BadInputError, DamagedModelError: as `load_encoder` does. That it is the version that was meant is for
            the caller to compare.
    """
    located: list[LocatedMember] = []
    for member, (prefix, directory) in zip(spec.members, copies, strict=True):
        place = Located(directory, "Copy it again.")
        files = deciding_hashes(directory, place.fix, member.adapters)
        located.append(LocatedMember(member, place, files, prefix))

    from pipeline.encoders.devices import best_device
    from pipeline.encoders.encoder import Encoder

    target = best_device(device)
    return Encoder(
        spec, [_load_member(member, target, None) for member in located], _names(located), batch_size
    )


def _load_member(member: LocatedMember, device: str, exports: OnnxExports | None) -> Member:
    spec, located = member.spec, member.located
    export = exports.of(member.version) if exports is not None else None
    if export is None:
        from pipeline.encoders.building import build_member

        return build_member(spec, located, device)
    from pipeline.encoders.member import Member
    from pipeline.encoders.onnx_backend import OnnxBackend

    tokenizer = TextTokenizer(located.directory / TOKENIZER, spec.max_tokens, located.fix)
    return Member(spec, located.directory, tokenizer, OnnxBackend(export))


def located_members(source: str) -> tuple[str, list[LocatedMember]]:
    """The version of an encoder and its members, from their files alone: loads no torch.

    Raises:
        BadInputError, DamagedModelError: as `version_of` does.
    """
    resolved = _resolve(source)
    located = _verified(resolved)
    return fingerprint(resolved.spec, _names(located)), located


def version_of(source: str) -> str:
    """The fingerprint that `load_encoder(source)` would have, from its files alone: loads no torch.

    Raises:
        BadInputError, DamagedModelError: as `load_encoder` does, but for what only building the model shows.
    """
    return located_members(source)[0]


def checkpoint_version(spec: EncoderSpec, directory: Path) -> str:
    """The version of a checkpoint by its spec and files, whatever its manifest says; it may have none yet.

    Raises:
        DamagedModelError: a file is missing or damaged; it is named.
    """
    members = tuple(locate(member, directory) for member in spec.members)
    resolved = _Resolved(spec, members, directory)
    return fingerprint(spec, _names(_verified(resolved)))


def token_budget(source: str) -> TokenBudget:
    """How many tokens a snippet may have for an encoder, and how to count them. Loads no torch.

    Args:
        source: as for `load_encoder`.

    Raises:
        BadInputError, DamagedModelError: as `load_encoder` does.
    """
    from pipeline.corpus.tokens import TokenBudget

    resolved = _resolve(source)
    pairs = list(zip(resolved.spec.members, resolved.members, strict=True))
    paths = [located.directory / TOKENIZER for _, located in pairs]
    prompts = [member.document_prompt for member, _ in pairs]
    tokenizers = [read_tokenizer(path, located.fix) for path, (_, located) in zip(paths, pairs, strict=True)]
    limit = resolved.spec.max_tokens
    return TokenBudget(
        name=f"{'+'.join(sha256_of(path)[:12] for path in paths)}/{limit}",
        max_tokens=limit,
        count=counter_of(list(zip(tokenizers, prompts, strict=True))),
        counter=(
            document_counter.__module__,
            document_counter.__name__,
            [[(str(path), prompt) for path, prompt in zip(paths, prompts, strict=True)]],
        ),
    )


def _resolve(source: str) -> _Resolved:
    preset = PRESETS.get(source)
    if preset is not None:
        return _Resolved(preset, tuple(locate(member) for member in preset.members))
    directory = Path(source).expanduser()
    if directory.is_dir():
        if is_checkpoint(directory):
            manifest = read_manifest(directory)
            members = tuple(locate(member, directory) for member in manifest.spec.members)
            return _Resolved(manifest.spec, members, directory, manifest)
        spec = spec_for_directory(directory)
        return _Resolved(spec, tuple(locate(member) for member in spec.members))
    if match := _HUB_NAME.fullmatch(source):
        return _from_hub(match[1], match[2])
    if "+" in source:
        return _concatenated([_resolve(part.strip()) for part in source.split("+")])
    raise BadInputError(
        f"There is no encoder {source!r}: it is neither a preset nor a directory.",
        hint=f"Presets: {', '.join(PRESETS)}. A hub model is written org/name@<40 hex digits of a commit>.",
    )


def _concatenated(parts: list[_Resolved]) -> _Resolved:
    """One encoder of all the parts' members; the first that can train is the one that trains."""
    members: list[MemberSpec] = []
    for part in parts:
        if part.checkpoint is not None:
            raise BadInputError(
                f"The checkpoint {part.checkpoint} cannot be concatenated: its manifest describes it alone.",
                hint="Concatenate the base encoders, and train that.",
            )
        for member in part.spec.members:
            taken = any(earlier.trainable for earlier in members)
            members.append(member.model_copy(update={"trainable": member.trainable and not taken}))
    spec = EncoderSpec(name="+".join(part.spec.name for part in parts), members=tuple(members))
    return _Resolved(spec, tuple(located for part in parts for located in part.members))


def _from_hub(name: str, revision: str) -> _Resolved:
    # What a preset knows about a model (its pooling, its prompts) holds at other revisions too.
    for preset in PRESETS.values():
        member = preset.members[0]
        if len(preset.members) == 1 and member.source == f"hub:{name}":
            pinned = member.model_copy(update={"revision": revision})
            spec = EncoderSpec(name=preset.name, members=(pinned,))
            return _Resolved(spec, (locate(pinned),))
    located = locate(MemberSpec(source=f"hub:{name}", revision=revision, dims=1, max_tokens=2))
    member = member_for_directory(located.directory, source=f"hub:{name}", revision=revision, fix=located.fix)
    return _Resolved(EncoderSpec(name=name, members=(member,)), (located,))


def _verified(resolved: _Resolved) -> list[LocatedMember]:
    """The members with the hashes of their files, checked against all that is known of them."""
    members: list[LocatedMember] = []
    for number, (member, located) in enumerate(zip(resolved.spec.members, resolved.members, strict=True)):
        files = deciding_hashes(located.directory, located.fix, member.adapters)
        _check_pinned(member, located, files)
        members.append(LocatedMember(member, located, files, _prefix(resolved, number)))
    if resolved.checkpoint is not None and resolved.manifest is not None:
        _check_checkpoint(resolved.checkpoint, resolved.manifest, resolved, members)
    return members


def _prefix(resolved: _Resolved, number: int) -> str:
    """What makes the names of a member's files unique: as in the manifest, none, or its number."""
    source = resolved.spec.members[number].source
    if resolved.checkpoint is not None and source.startswith("checkpoint:"):
        return f"{source.partition(':')[2].strip('/')}/"
    return f"{number}/" if len(resolved.members) > 1 else ""


def _names(members: Sequence[LocatedMember]) -> dict[str, str]:
    """SHA-256 of all members' files by their unique names."""
    return {f"{member.prefix}{name}": digest for member in members for name, digest in member.files.items()}


def _check_pinned(member: MemberSpec, located: Located, files: Mapping[str, str]) -> None:
    for name, expected in located.recorded.items():
        if files.get(name, expected) != expected:
            raise DamagedModelError(
                f"{located.directory / name} is damaged: its SHA-256 is {files[name]}, and it was "
                f"{expected} when it was installed.",
                hint=located.fix,
            )
    found = weights_digest(files)
    if member.weights_sha256 is not None and found != member.weights_sha256:
        weights = next(name for name in files if name.endswith(".safetensors"))
        raise DamagedModelError(
            f"{located.directory / weights} is not what it should be: its SHA-256 is {found}, and "
            f"{member.weights_sha256} is expected.",
            hint=located.fix,
        )


def _check_checkpoint(
    directory: Path, manifest: Manifest, resolved: _Resolved, members: Sequence[LocatedMember]
) -> None:
    check_files(directory, manifest)
    check_members(directory, manifest, [member.files for member in members])
    files = _names(members)
    inside = sorted(name for name in files if name not in manifest.files and (directory / name).is_file())
    if inside:
        raise DamagedModelError(
            f"{directory / inside[0]} is not listed in {MANIFEST}.",
            hint="It was added later: remove it, or train again.",
        )
    if (found := fingerprint(manifest.spec, files)) != manifest.version:
        raise DamagedModelError(
            f"{directory / MANIFEST} says version {manifest.version}, and spec and files give {found}.",
            hint="It was changed after it was written: restore it from a copy, or train again.",
        )
