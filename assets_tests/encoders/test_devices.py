"""Devices: torch is asked, a person may overrule it, and a wrong wish is an error that says what there is."""

from __future__ import annotations

import pytest
import torch

from pipeline.encoders.devices import available_devices, best_device, compute_dtype, supports_bf16
from pipeline.encoders.encoder import Encoder
from pipeline.errors import BadInputError


def test_the_best_device_is_the_first_that_torch_has() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu"
    assert best_device() == available_devices()[0] == expected
    assert available_devices()[-1] == "cpu"


def test_the_environment_overrules_torch_and_a_request_overrules_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HONELOOP_DEVICE", " CPU ")
    assert best_device() == "cpu"
    monkeypatch.setenv("HONELOOP_DEVICE", "toaster")
    assert best_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["toaster", "cuda:99", "meta", "cpu:x"])
def test_a_device_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONELOOP_DEVICE", name)
    with pytest.raises(BadInputError) as error:
        best_device()
    assert repr(name) in error.value.message
    assert "cpu" in error.value.hint
    assert "HONELOOP_DEVICE" in error.value.hint


def test_the_cpu_computes_in_float32() -> None:
    assert not supports_bf16("cpu")
    assert compute_dtype("cpu") is torch.float32


def test_an_encoder_says_where_and_in_what_it_computes(minilm: Encoder) -> None:
    assert (minilm.device, minilm.dtype) == ("cpu", "float32")
