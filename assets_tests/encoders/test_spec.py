"""EncoderSpec: data that travels, and the presets' promises."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.encoders.presets import PRESETS
from pipeline.encoders.spec import EncoderSpec, MemberSpec


def member(**changes: Any) -> MemberSpec:
    return MemberSpec.model_validate({"source": "path:/models/m", "dims": 8, "max_tokens": 16, **changes})


def test_a_spec_survives_json() -> None:
    for spec in PRESETS.values():
        assert EncoderSpec.model_validate_json(spec.model_dump_json()) == spec


def test_dims_add_up_and_the_shortest_limit_holds() -> None:
    spec = EncoderSpec(name="two", members=(member(), member(dims=4, max_tokens=12, trainable=False)))
    assert (spec.dims, spec.max_tokens, spec.trainable_member) == (12, 12, 0)


def test_presets_have_the_promised_dims() -> None:
    assert {name: spec.dims for name, spec in PRESETS.items()} == {
        "minilm": 384,
        "qodo": 1536,
        "jina": 1024,
        "qodo+jina": 2560,
    }


def test_only_the_fine_tunable_member_of_a_concatenation_trains() -> None:
    assert PRESETS["qodo+jina"].trainable_member == 0
    assert PRESETS["jina"].trainable_member is None


def test_hub_presets_are_pinned_to_a_full_commit() -> None:
    members = [member for spec in PRESETS.values() for member in spec.members]
    hub = [member for member in members if member.source.startswith("hub:")]
    assert hub
    assert all(re.fullmatch(r"[0-9a-f]{40}", member.revision or "") for member in hub)


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "http://example.org/model"},
        {"source": "path:"},
        {"dims": 0},
        {"max_tokens": 1},
        {"pooling": "max"},
        {"weights_sha256": "53aa"},
        {"query_adapter": "../elsewhere", "trainable": False},
        {"query_adapter": "retrieval", "trainable": True},
        {"pickle": True},
    ],
)
def test_a_spec_that_cannot_be_meant_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        member(**changes)


def test_two_members_cannot_both_train() -> None:
    with pytest.raises(ValidationError, match="at most one member"):
        EncoderSpec(name="two", members=(member(), member()))
