"""Files to other machines: through Ray's object store, for the nodes of a cluster share no disk.

Each file is one object: a node fetches it once for all its workers, and from any node that has it already.
The worker writes it into a directory of its own. That what arrived is what was sent, the fingerprint says,
which the worker computes anew from the files it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config import Settings
from pipeline.corpus.tokens import TokenBudget
from pipeline.encoders.loading import LocatedMember, load_copied, located_members
from pipeline.encoders.spec import EncoderSpec
from pipeline.engines.lazy_ray import ray_module
from pipeline.errors import HoneloopError

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

# References to objects, by the relative names of the files they hold.
Files = Mapping[str, Any]


@dataclass(frozen=True)
class ShippedModel:
    """A model version on its way.

    Args:
        version: Its fingerprint.
        spec: Its EncoderSpec, as JSON.
        members: Of each member, `LocatedMember.prefix` and its files.
    """

    version: str
    spec: str
    members: tuple[tuple[str, Files], ...]


def ship_model(encoder: Encoder) -> ShippedModel:
    """Puts the files that decide the vectors of an encoder into the object store; no torch is loaded for it.

    Raises:
        HoneloopError: it was not loaded from files, or another version lies there now.
        DamagedModelError: a file is damaged.
    """
    if not encoder.source:
        raise HoneloopError(
            f"The encoder {encoder.spec.name!r} cannot be sent elsewhere: it was not loaded from files.",
            hint="Load it with `load_encoder`.",
        )
    version, members = located_members(encoder.source)
    if version != encoder.version:
        raise HoneloopError(
            f"{encoder.source} no longer holds the model version {encoder.version[:12]} but {version[:12]}.",
            hint="Put the model's files back.",
        )
    return _shipped(version, encoder.spec.name, members)


def ship_model_at(source: str) -> ShippedModel:
    """The same of an encoder that this process has not loaded.

    Args:
        source: as `load_encoder` takes it.

    Raises:
        BadInputError, DamagedModelError: as `version_of` does.
    """
    version, members = located_members(source)
    return _shipped(version, source, members)


def _shipped(version: str, name: str, members: Sequence[LocatedMember]) -> ShippedModel:
    spec = EncoderSpec(name=name, members=tuple(member.spec for member in members))
    return ShippedModel(
        version,
        spec.model_dump_json(),
        tuple(
            (member.prefix, {name: ship_file(member.located.directory / name) for name in member.files})
            for member in members
        ),
    )


def unpack_model(shipped: ShippedModel, directory: Path, *, device: str | None, batch_size: int) -> Encoder:
    """The encoder, its files written below `directory`, which is not needed any more when it is loaded.

    Raises:
        HoneloopError: what arrived is not what was sent.
        BadInputError, DamagedModelError: it cannot be loaded.
    """
    copies: list[tuple[str, Path]] = []
    for number, (prefix, files) in enumerate(shipped.members):
        place = directory / str(number)
        for name, reference in files.items():
            unpack_file(reference, place / name)
        copies.append((prefix, place))
    spec = EncoderSpec.model_validate_json(shipped.spec)
    encoder = load_copied(spec, copies, device=device, batch_size=batch_size)
    if encoder.version != shipped.version:
        raise HoneloopError(
            f"The model version {shipped.version[:12]} was sent, and {encoder.version[:12]} arrived.",
            hint="Look at the disk and the memory of the node.",
        )
    return encoder


@dataclass(frozen=True)
class ShippedRules:
    """What cutting goes by: a TokenBudget, the files and prompts of its tokenizers, rules for secrets."""

    name: str
    max_tokens: int
    counter: tuple[str, str]
    tokenizers: tuple[tuple[Any, str], ...]
    settings: Mapping[str, Any]
    secret_rules: Any


def ship_rules(settings: Settings, tokens: TokenBudget) -> ShippedRules:
    """Puts the files that decide how a file is cut into the object store. No secret setting goes along.

    Raises:
        HoneloopError: only this process can count its tokens.
    """
    if tokens.counter is None:
        raise HoneloopError(
            f"The tokens of {tokens.name} can be counted in this process alone.",
            hint="Unset HONELOOP_ENGINE.",
        )
    module, function, (tokenizers,) = tokens.counter
    return ShippedRules(
        tokens.name,
        tokens.max_tokens,
        (module, function),
        tuple((ship_file(Path(path)), prompt) for path, prompt in tokenizers),
        {name: getattr(settings, name) for name in ("find_secrets", "parse_seconds", "parse_memory_mb")},
        None if settings.secret_rules is None else ship_file(settings.secret_rules),
    )


def unpack_rules(shipped: ShippedRules, directory: Path) -> tuple[Settings, TokenBudget]:
    """The same on a node; `directory` has to stay as long as they are used."""
    placed: list[tuple[str, str]] = []
    for number, (reference, prompt) in enumerate(shipped.tokenizers):
        path = directory / f"tokenizer-{number}.json"
        unpack_file(reference, path)
        placed.append((str(path), prompt))
    rules = None
    if shipped.secret_rules is not None:
        rules = directory / "secrets.yml"
        unpack_file(shipped.secret_rules, rules)
    module, function = shipped.counter
    count = getattr(import_module(module), function)(placed)
    tokens = TokenBudget(shipped.name, shipped.max_tokens, count, (module, function, [placed]))
    # Given here, they outrank the node's own environment.
    # A worker is of one processor.
    return Settings(**shipped.settings, secret_rules=rules, parse_processes=1), tokens


def ship_file(path: Path) -> Any:
    """A reference to an object that holds the file's bytes."""
    ray = ray_module()
    # Mapped, not read: it goes into the shared memory without a copy in this process.
    content = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
    return ray.put(np.asarray(content))


def unpack_file(reference: Any, path: Path) -> None:
    """Writes the bytes of an object into a new file."""
    ray = ray_module()
    path.parent.mkdir(parents=True, exist_ok=True)
    content: np.ndarray[Any, np.dtype[np.uint8]] = ray.get(reference)
    with path.open("xb") as file:
        file.write(content.data)
