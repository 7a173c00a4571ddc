"""The name of a model version: one SHA-256 over weights, tokenizer and spec."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePosixPath

from pipeline.encoders.spec import EncoderSpec, MemberSpec

FORMAT = 1

# What decides a vector stands in the spec, in the weights, in the architecture's config.json and in
# tokenizer.json. Where the files lie, what the encoder is called and what its README says decide nothing,
# so the same model in a wheel, in a copied directory or from the hub is the same version.
_SPEC_FIELDS = {
    "dims",
    "max_tokens",
    "pooling",
    "normalize",
    "query_prompt",
    "document_prompt",
    "query_adapter",
    "document_adapter",
}
ARCHITECTURE_FILES = frozenset({"config.json", "tokenizer.json", "model.safetensors.index.json"})
_BESIDE_WEIGHTS = ARCHITECTURE_FILES | {"adapter_config.json"}


def fingerprint(spec: EncoderSpec, files: Mapping[str, str]) -> str:
    """64 hex digits that are the same on every machine for the same vectors, and differ otherwise.

    Args:
        spec: the encoder's spec; of its members only what changes a vector counts.
        files: SHA-256 of each file by its relative name with forward slashes. Files that decide nothing
            (README, vocab.txt beside tokenizer.json) may be among them and are left out.
    """
    content = {
        "format": FORMAT,
        "members": [member.model_dump(mode="json", include=_SPEC_FIELDS) for member in spec.members],
        "files": {name: files[name] for name in deciding_files(files)},
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def member_version(spec: MemberSpec, files: Mapping[str, str]) -> str:
    """The version that one member would have as an encoder of its own, wherever it is a member.

    Args:
        spec: the member's.
        files: as for `fingerprint`, by their names in the member's directory.
    """
    return fingerprint(EncoderSpec(name="member", members=(spec,)), files)


def deciding_files(names: Mapping[str, str]) -> list[str]:
    """Those of the names whose content decides a vector, sorted: weights, tokenizer, architecture."""
    paths = [PurePosixPath(name) for name in names]
    folders = {path.parent for path in paths if path.suffix == ".safetensors"}
    return sorted(
        str(path)
        for path in paths
        if path.suffix == ".safetensors" or (path.parent in folders and path.name in _BESIDE_WEIGHTS)
    )
