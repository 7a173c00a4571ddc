"""A member as one graph, from token ids to its vector: what is exported to ONNX.

Pooling and unit length are inside. A member with adapters is one graph too, so that its weights are there
once: the role is an input, and picks the adapter out of matrices that stand one behind the other.

This module imports torch: import it inside functions.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from pipeline.encoders.lora import Adapted
from pipeline.encoders.onnx_backend import ROLE, ROLES
from pipeline.encoders.spec import MemberSpec
from pipeline.encoders.torch_backend import pooled

# Of ONNX's operators; every ONNX Runtime since 1.17 knows it.
OPSET = 20


class _Role:
    """The number of the role whose adapter is in force, as a tensor; shared by all adapted modules."""

    def __init__(self) -> None:
        self.number = torch.tensor(0)


class _RoleAdapted(nn.Module):
    """`lora.Adapted` with a matrix for each role, zero where a role has no adapter, picked by a tensor."""

    def __init__(self, adapted: Adapted, folders: list[str | None], role: _Role) -> None:
        super().__init__()
        self.base = adapted.base
        self._embeds = isinstance(adapted.base, nn.Embedding)
        self._role = role
        pairs = [adapted.matrices(folder) for folder in folders]
        rank = max(pair[1].shape[1] for pair in pairs if pair is not None)
        size, out = next(
            (down.shape[0 if self._embeds else 1], up.shape[0]) for down, up in filter(None, pairs)
        )
        downs = torch.zeros(len(pairs), size, rank) if self._embeds else torch.zeros(len(pairs), rank, size)
        ups = torch.zeros(len(pairs), out, rank)
        for number, pair in enumerate(pairs):
            if pair is not None:
                down, up = pair
                downs[number, : down.shape[0], : down.shape[1]] = down
                ups[number, :, : up.shape[1]] = up
        # The rows of all roles' embeddings in one table: no role's need be cut out of it.
        self._rows = size
        self.register_buffer("downs", downs.flatten(0, 1) if self._embeds else downs)
        self.register_buffer("ups", ups)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The layer's output, plus the change of the role's adapter."""
        functional, number = nn.functional, self._role.number
        downs, up = self.get_buffer("downs"), self.get_buffer("ups").index_select(0, number.reshape(1))[0]
        if self._embeds:
            low = functional.embedding(inputs + number * self._rows, downs)
        else:
            low = functional.linear(inputs, downs.index_select(0, number.reshape(1))[0])
        return self.base(inputs) + functional.linear(low, up)


class Graph(nn.Module):
    """Token ids, attention mask and, with adapters, the number of the role to vectors."""

    def __init__(self, spec: MemberSpec, model: PreTrainedModel) -> None:
        super().__init__()
        self._spec = spec
        self._role = _Role()
        self.model = model
        folders = [spec.adapter(role) for role in ROLES]
        for name, module in list(model.named_modules()):
            if isinstance(module, Adapted):
                parent, _, child = name.rpartition(".")
                setattr(model.get_submodule(parent), child, _RoleAdapted(module, folders, self._role))

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, role: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Vectors, shape (batch, dims)."""
        if role is not None:
            self._role.number = role
        output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        return pooled(output.last_hidden_state, attention_mask, self._spec)


def write_graph(spec: MemberSpec, model: PreTrainedModel, path: Path) -> None:
    """Exports a member, as `building.build_model` made it on the CPU, to `path` and `path`.data.

    `model` is changed and of no use afterwards.
    """
    graph = Graph(spec, model).eval()
    # Two tensors, as one given twice is one input; no side of length 0 or 1, as those are taken for fixed.
    inputs = {name: torch.ones(2, 7, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    any_length = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    shapes = dict.fromkeys(inputs, any_length)
    if spec.adapters:
        inputs[ROLE] = torch.tensor(0)
        shapes[ROLE] = {}
    program = torch.onnx.export(
        graph,
        kwargs=inputs,
        input_names=list(inputs),
        output_names=["vectors"],
        dynamic_shapes=shapes,
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # with dynamo it is there
    program.save(str(path), external_data=True)
