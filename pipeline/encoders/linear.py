"""Linear layers computed by oneDNN on the CPU: the same float32 products, up to 2.4 times as fast.

torch computes float32 products with MKL, which leaves AVX-512 unused on AMD processors: 95 against 225
GFLOP/s per core where this was measured. oneDNN, which torch ships too, uses what the processor has. Where
that is AVX2 and no more, MKL is the faster one, 176 against 145 GFLOP/s on two cores, and is left in place.
The operators called here are those that `torch.compile` puts in the place of linear layers. Both libraries'
products differ by rounding only, about 1e-7 in a unit vector.

This module imports torch: import it inside functions.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from torch.autograd.function import once_differentiable

# Attributes of transformers' modules that compute `activation(linear(x))`: oneDNN does both at once.
_ACTIVATED = (("dense", "intermediate_act_fn"), ("fc1", "activation_fn"))


def is_faster(model: nn.Module) -> bool:
    """Whether oneDNN can compute a model's linear layers, and does so faster than MKL.

    It can if they are float32 on the CPU, and torch is built with it.
    """
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    if torch.backends.cpu.get_cpu_capability() == "AVX2":
        return False
    parameters = list(model.parameters())
    return all(p.device.type == "cpu" and p.dtype == torch.float32 for p in parameters)


def pack_linears(model: nn.Module) -> None:
    """Replaces a model's linear layers, in place, by ones that only compute: the model cannot train then."""
    for module in model.modules():
        for linear, activation in _ACTIVATED:
            layer, function = getattr(module, linear, None), getattr(module, activation, None)
            if type(layer) is nn.Linear and function is not None and _is_exact_gelu(function):
                setattr(module, linear, PackedLinear(layer, gelu=True))
                setattr(module, activation, nn.Identity())
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, PackedLinear(child))


def quicken_training(model: nn.Module) -> None:
    """Makes a model's linear layers compute with oneDNN, forward and backward; names and weights stay."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = TrainableLinear


def _is_exact_gelu(function: object) -> bool:
    """Whether a function is the GELU by the error function, and not one of its approximations."""
    if isinstance(function, nn.GELU):
        return function.approximate == "none"
    from transformers.activations import GELUActivation

    return isinstance(function, GELUActivation)


class PackedLinear(nn.Module):
    """A linear layer with its weights in oneDNN's own layout, optionally followed by GELU. Inference only."""

    def __init__(self, layer: nn.Linear, *, gelu: bool = False) -> None:
        super().__init__()
        self.in_features = layer.in_features
        self.out_features = layer.out_features
        # nn.Linear(bias=False) has None there, which torch's annotations leave out.
        bias = cast("torch.Tensor | None", layer.bias)
        self._bias = None if bias is None else bias.detach()
        # No batch size is given for the layout: one layout serves all lengths.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)
        self._gelu = gelu

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs, shape (..., out_features), of inputs of shape (..., in_features)."""
        return _product(inputs, self._weight, self._bias, gelu=self._gelu)


class TrainableLinear(nn.Linear):
    """`nn.Linear` whose products are oneDNN's, forward and backward, when they are float32 on the CPU."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Outputs, shape (..., out_features), of inputs of shape (..., in_features)."""
        plain = input.device.type == "cpu" and input.dtype == self.weight.dtype == torch.float32
        if not plain or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        # apply() is untyped in torch.
        return cast("torch.Tensor", _LinearProduct.apply(input, self.weight, self.bias))


class _LinearProduct(torch.autograd.Function):
    """y = x Wᵀ + b, with dx = dy W, dW = dyᵀ x and db = the sum of dy."""

    @staticmethod
    def forward(
        ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(inputs, weight)
        return _product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride] (once_differentiable is annotated loosely)
        inputs, weight = ctx.saved_tensors
        outer = gradients[0].reshape(-1, weight.shape[0])
        needs = ctx.needs_input_grad
        to_inputs = _product(outer, weight.t().contiguous(), None).view_as(inputs) if needs[0] else None
        to_weight = None
        if needs[1]:
            inner = inputs.reshape(-1, weight.shape[1])
            to_weight = _product(outer.t().contiguous(), inner.t().contiguous(), None)
        return to_inputs, to_weight, outer.sum(dim=0) if needs[2] else None


def _product(
    inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *, gelu: bool = False
) -> torch.Tensor:
    # "none" after "gelu" means: not the tanh approximation.
    attributes = ("gelu", [], "none") if gelu else ("none", [], "")
    return torch.ops.mkldnn._linear_pointwise(inputs.contiguous(), weight, bias, *attributes)
