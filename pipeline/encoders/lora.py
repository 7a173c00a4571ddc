"""LoRA adapters beside frozen weights: one set of weights, another small change of it for each role.

An adapter in PEFT's format is a folder with adapter_config.json and adapter_model.safetensors. It changes a
matrix W to W + s·B·A, with A of shape (r, in), B of shape (out, r) and s = alpha / r (Hu et al., "LoRA:
Low-Rank Adaptation of Large Language Models", 2021); an embedding table to W + s·(B·A)ᵀ. The product is not
added to W, so that two adapters do not need two copies of a large model.

This module imports torch: import it inside functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from pipeline.encoders.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, DamagedModelError, read_json

_PREFIX = "base_model.model."
_ENDINGS = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_embedding_A": "a",
    ".lora_embedding_B": "b",
}
# Makes another vector, for classification, and is not built; adapters of all layers change it too.
_POOLER = "pooler"
# Variants of LoRA that compute something else; an adapter that uses one is refused, not approximated.
_UNSUPPORTED = ("use_dora", "modules_to_save", "alora_invocation_tokens", "trainable_token_indices")


class AdapterSwitch:
    """Which adapter of a model is in force; shared by all its adapted modules."""

    def __init__(self) -> None:
        self.active: str | None = None


class Adapted(nn.Module):
    """A linear layer or embedding with the changes that each adapter makes to it.

    Args:
        base: the layer itself.
        switch: says which adapter is in force.
    """

    def __init__(self, base: nn.Linear | nn.Embedding, switch: AdapterSwitch) -> None:
        super().__init__()
        self.base = base
        self._embeds = isinstance(base, nn.Embedding)
        self._switch = switch
        self._names: dict[str, int] = {}

    def add(self, name: str, a: torch.Tensor, b: torch.Tensor, scale: float) -> None:
        """Adds the adapter `name`: `a` of shape (r, in), `b` of shape (out, r)."""
        number = self._names.setdefault(name, len(self._names))
        # Buffers follow the model to its device. An embedding looks rows up, so its A is kept transposed.
        down = a.t() if self._embeds else a
        self.register_buffer(f"down{number}", down.contiguous(), persistent=False)
        self.register_buffer(f"up{number}", (b * scale).contiguous(), persistent=False)

    def matrices(self, name: str | None) -> tuple[torch.Tensor, torch.Tensor] | None:
        """What the adapter `name` multiplies by, first and second; None if it does not change this layer.

        The first has shape (r, in), of an embedding (rows, r); the second, with the scale in it, (out, r).
        """
        number = self._names.get(name or "")
        if number is None:
            return None
        return self.get_buffer(f"down{number}"), self.get_buffer(f"up{number}")

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The layer's output, plus the change of the adapter in force."""
        outputs: torch.Tensor = self.base(inputs)
        matrices = self.matrices(self._switch.active)
        if matrices is None:
            return outputs
        down, up = matrices
        functional = nn.functional
        low = functional.embedding(inputs, down) if self._embeds else functional.linear(inputs, down)
        return outputs + functional.linear(low, up)


def add_adapters(model: nn.Module, directory: Path, names: tuple[str, ...], fix: str) -> AdapterSwitch:
    """Adds the adapters in the folders `names` of `directory` to a model, in place, none of them in force.

    Raises:
        DamagedModelError: an adapter's files are missing, are of a variant of LoRA that this module does not
            compute, or do not fit the model.
    """
    switch = AdapterSwitch()
    for name in names:
        config = read_json(directory / name / ADAPTER_CONFIG, fix)
        path = directory / name / ADAPTER_WEIGHTS
        variant = [key for key in _UNSUPPORTED if config.get(key)]
        if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or variant:
            raise DamagedModelError(
                f"{path.parent / ADAPTER_CONFIG} is not a plain LoRA adapter{': ' * bool(variant)}"
                f"{', '.join(variant)}.",
                hint="Use a model whose adapters are plain LoRA.",
            )
        for target, matrices in _by_target(path, fix).items():
            if _POOLER in target.split("."):
                continue
            module = _adapted(model, target, switch, path, fix)
            a, b = matrices.get("a"), matrices.get("b")
            if a is None or b is None or a.shape[0] != b.shape[1]:
                raise DamagedModelError(f"{path} has no matching pair of matrices for {target}.", hint=fix)
            expected = _shape(module.base)
            if (b.shape[0], a.shape[1]) != expected:
                raise DamagedModelError(
                    f"{path} changes {target} as if it were {(b.shape[0], a.shape[1])}; it is {expected}.",
                    hint=fix,
                )
            module.add(name, a.float(), b.float(), _scale(config, target, a.shape[0]))
    return switch


def _by_target(path: Path, fix: str) -> dict[str, dict[str, torch.Tensor]]:
    targets: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(path).items():
        ending = next((each for each in _ENDINGS if key.endswith(each)), None)
        if ending is None:
            raise DamagedModelError(f"{path} has a tensor {key!r} that is not LoRA's.", hint=fix)
        target = key.removesuffix(ending).removeprefix(_PREFIX)
        targets.setdefault(target, {})[_ENDINGS[ending]] = tensor
    return targets


def _adapted(model: nn.Module, target: str, switch: AdapterSwitch, path: Path, fix: str) -> Adapted:
    modules = dict(model.named_modules())
    # An adapter made of a model with a head names its modules one level deeper.
    name = target if target in modules else target.partition(".")[2]
    found = modules.get(name)
    if isinstance(found, Adapted):
        return found
    if not isinstance(found, nn.Linear | nn.Embedding):
        raise DamagedModelError(f"{path} changes {target}, which the model does not have.", hint=fix)
    adapted = Adapted(found, switch)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, adapted)
    return adapted


def _shape(layer: nn.Module) -> tuple[int, int]:
    """(out, in) of a linear layer; of an embedding, its vectors' length and its number of rows."""
    if isinstance(layer, nn.Embedding):
        return layer.embedding_dim, layer.num_embeddings
    return int(layer.out_features), int(layer.in_features)  # pyright: ignore[reportArgumentType]


def _scale(config: dict[str, Any], target: str, rank: int) -> float:
    patterns: dict[str, Any] = config.get("alpha_pattern") or {}
    alpha = next((v for k, v in patterns.items() if target.endswith(k)), config.get("lora_alpha", rank))
    return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)
