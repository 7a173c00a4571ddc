"""A model computed by torch, on whichever device it was put."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.encoders.member import Role
from pipeline.encoders.spec import MemberSpec

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pipeline.encoders.lora import AdapterSwitch


class TorchBackend:
    """A transformer on its device, with its pooling. See `member.Backend`.

    Args:
        spec: what the model is.
        model: the transformer, in evaluation mode.
        switch: puts its adapters in force; None if it has none.
    """

    name = "torch"

    def __init__(self, spec: MemberSpec, model: PreTrainedModel, switch: AdapterSwitch | None = None) -> None:
        self._spec = spec
        self._model = model
        self._switch = switch
        # One adapter is in force at a time, and the search service answers from several threads.
        self._turn = Lock()
        self.pad_id = pad_id_of(model)

    @property
    def device(self) -> str:
        """The device it computes on."""
        return str(self._model.device)

    @property
    def dtype(self) -> str:
        """The number format of its weights: `float32` or `bfloat16`."""
        return str(self._model.dtype).removeprefix("torch.")

    def run(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64], role: Role
    ) -> NDArray[np.float32]:
        """See `member.Backend.run`."""
        import torch

        with torch.inference_mode():
            ids = torch.from_numpy(input_ids).to(self._model.device)
            mask = torch.from_numpy(attention_mask).to(self._model.device)
            if self._switch is None:
                output = self._model(input_ids=ids, attention_mask=mask)
            else:
                with self._turn:
                    self._switch.active = self._spec.adapter(role)
                    output = self._model(input_ids=ids, attention_mask=mask)
            return pooled(output.last_hidden_state.float(), mask, self._spec).cpu().numpy()


def pad_id_of(model: PreTrainedModel) -> int:
    """The token that shorter texts are filled up with. Any does: padding is masked out everywhere."""
    pad = model.config.pad_token_id
    return pad if isinstance(pad, int) else 0


def pooled(tokens: torch.Tensor, attention_mask: torch.Tensor, spec: MemberSpec) -> torch.Tensor:
    """One vector per text out of its token vectors, of unit length if the spec says so.

    Args:
        tokens: shape (batch, length, dims); padding is on the right.
        attention_mask: shape (batch, length), 1 for a token and 0 for padding.
        spec: says how.
    """
    import torch

    vectors = _pool(tokens, attention_mask, spec.pooling)
    return torch.nn.functional.normalize(vectors, dim=-1) if spec.normalize else vectors


def _pool(tokens: torch.Tensor, attention_mask: torch.Tensor, pooling: str) -> torch.Tensor:
    import torch

    if pooling == "cls":
        return tokens[:, 0]
    if pooling == "last":
        last = attention_mask.sum(dim=1).clamp(min=1) - 1
        return tokens[torch.arange(tokens.shape[0], device=tokens.device), last]
    weights = attention_mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
