"""oneDNN's linear layers: the same products as torch's own, and the same gradients."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.encoders.encoder import Encoder
from pipeline.encoders.linear import PackedLinear, TrainableLinear, is_faster, pack_linears, quicken_training
from pipeline.encoders.loading import load_encoder
from pipeline.encoders.torch_backend import TorchBackend

SHAPES = [(1, 24), (7, 24), (2, 5, 24)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_packed_layers_compute_the_same(shape: tuple[int, ...], bias: bool) -> None:
    layer = nn.Linear(24, 40, bias=bias)
    inputs = torch.randn(*shape)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(layer)(inputs), layer(inputs), rtol=0, atol=1e-5)
        torch.testing.assert_close(
            PackedLinear(layer, gelu=True)(inputs), nn.functional.gelu(layer(inputs)), rtol=0, atol=1e-5
        )


def test_inputs_need_not_be_contiguous() -> None:
    layer = nn.Linear(24, 8)
    inputs = torch.randn(24, 6).t()
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(layer)(inputs), layer(inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_of_the_definition(shape: tuple[int, ...], bias: bool) -> None:
    layer = nn.Linear(24, 40, bias=bias).double()
    single = copy.deepcopy(layer).float()
    quicken_training(single)
    exact = nn.Sequential(single)
    quicken_training(exact)
    assert type(exact[0]) is TrainableLinear
    inputs = torch.randn(*shape)
    results: list[list[torch.Tensor]] = []
    for model, x in ((layer, inputs.double()), (exact, inputs.clone())):
        x.requires_grad_(True)
        model(x).pow(2).sum().backward()
        assert x.grad is not None
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        results.append([x.grad.float(), *(gradient.float() for gradient in gradients)])
    assert len(results[0]) == len(results[1]) == 2 + bias
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_what_needs_no_gradient_gets_none() -> None:
    layer = nn.Sequential(nn.Linear(24, 8))
    quicken_training(layer)
    layer[0].weight.requires_grad_(False)
    layer(torch.randn(3, 24)).sum().backward()
    assert layer[0].weight.grad is None
    assert layer[0].bias.grad is not None


def test_autocast_is_left_to_torch() -> None:
    layer = nn.Sequential(nn.Linear(24, 8))
    quicken_training(layer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.randn(3, 24)).dtype == torch.bfloat16


def test_names_and_weights_of_a_model_to_train_stay() -> None:
    model = nn.Sequential(nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quicken_training(model)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert isinstance(model[0], nn.Linear)


def test_only_exact_gelu_is_taken_into_the_layer_before_it() -> None:
    class Block(nn.Module):
        def __init__(self, approximate: str) -> None:
            super().__init__()
            self.dense = nn.Linear(24, 8)
            self.intermediate_act_fn = nn.GELU(approximate=approximate)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.intermediate_act_fn(self.dense(inputs))

    inputs = torch.randn(4, 24)
    for approximate, kept in (("none", nn.Identity), ("tanh", nn.GELU)):
        block = Block(approximate)
        with torch.inference_mode():
            expected = block(inputs)
            pack_linears(block)
            assert isinstance(block.intermediate_act_fn, kept)
            torch.testing.assert_close(block(inputs), expected, rtol=0, atol=1e-5)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with AVX-512, whatever this one has: oneDNN computes on both."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


@pytest.mark.usefixtures("wide")
def test_other_number_formats_are_not_touched() -> None:
    assert is_faster(nn.Linear(4, 4))
    assert not is_faster(nn.Linear(4, 4).bfloat16())
    assert not is_faster(nn.Linear(4, 4).double())


@pytest.mark.usefixtures("wide")
def test_the_model_of_an_encoder_on_the_cpu_is_packed() -> None:
    modules = _modules(load_encoder("minilm", device="cpu"))
    assert not any(type(module) is nn.Linear for module in modules)
    assert sum(isinstance(module, PackedLinear) for module in modules) == 6 * 6


def test_where_mkl_is_faster_it_computes_and_the_vectors_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = ["def add(a, b): return a + b", "reads a file", ""]
    vectors: list[np.ndarray] = []
    for capability in ("AVX512", "AVX2"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda found=capability: found)
        encoder = load_encoder("minilm", device="cpu")
        vectors.append(encoder.embed_documents(texts))
    assert not any(isinstance(module, PackedLinear) for module in _modules(encoder))
    np.testing.assert_allclose(vectors[0], vectors[1], rtol=0, atol=1e-5)


def _modules(encoder: Encoder) -> list[nn.Module]:
    backend = encoder._members[0].backend
    assert isinstance(backend, TorchBackend)
    return list(backend._model.modules())
