"""An encoder whose files were copied to another machine is the same version, and computes the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.encoders.encoder import Encoder
from pipeline.encoders.files import WEIGHTS, DamagedModelError
from pipeline.encoders.loading import load_copied, located_members
from pipeline.encoders.spec import EncoderSpec

TEXTS = ["def f(x): return x", "class Stack: pass", ""]


def copied(encoder: Encoder, target: Path) -> tuple[EncoderSpec, list[tuple[str, Path]]]:
    """The files that decide its vectors, and no other, somewhere else."""
    version, members = located_members(encoder.source)
    assert version == encoder.version
    copies: list[tuple[str, Path]] = []
    for number, member in enumerate(members):
        place = target / str(number)
        for name in member.files:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(member.located.directory / name, place / name)
        copies.append((member.prefix, place))
    return EncoderSpec(name=encoder.spec.name, members=tuple(each.spec for each in members)), copies


def test_one_member(minilm: Encoder, tmp_path: Path) -> None:
    spec, copies = copied(minilm, tmp_path)
    there = load_copied(spec, copies, device="cpu")
    assert there.version == minilm.version
    assert np.array_equal(there.embed_documents(TEXTS), minilm.embed_documents(TEXTS))


@pytest.mark.usefixtures("small_hub")
def test_two_members_with_adapters(qodo_jina: Encoder, tmp_path: Path) -> None:
    spec, copies = copied(qodo_jina, tmp_path)
    assert [prefix for prefix, _ in copies] == ["0/", "1/"]
    there = load_copied(spec, copies, device="cpu")
    assert there.version == qodo_jina.version
    assert np.array_equal(there.embed_documents(TEXTS), qodo_jina.embed_documents(TEXTS))


def test_what_arrives_otherwise_is_another_version_or_refused(minilm: Encoder, tmp_path: Path) -> None:
    spec, copies = copied(minilm, tmp_path)
    weights = copies[0][1] / WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert load_copied(spec, copies, device="cpu").version != minilm.version
    weights.write_bytes(content[:-100])
    with pytest.raises(DamagedModelError, match="truncated"):
        load_copied(spec, copies, device="cpu")
