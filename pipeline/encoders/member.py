"""One model of an encoder, computed by torch: token ids in, vectors out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.encoders.spec import MemberSpec
from pipeline.encoders.tokenizing import TextTokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pipeline.encoders.lora import AdapterSwitch

Role = Literal["query", "document"]

# Bounds the memory of one forward pass. More tokens at once are not faster: on a CPU throughput is the same
# within 5% from 512 to 4,096, and a batch that fits the cache leaves it to others too.
_BATCH_TOKENS = {"cpu": 2048}
_BATCH_TOKENS_ELSEWHERE = 16_384
# oneDNN compiles a kernel for every shape it meets, which takes longer than a few tokens of padding.
_LENGTH_STEP = 4


class Member:
    """A transformer with its tokenizer, its pooling and its device.

    Args:
        spec: what the model is.
        directory: where its files are; `Encoder.sentence_transformer` loads them again from there.
        tokenizer: its tokenizer.
        model: the transformer, on its device, in evaluation mode.
        switch: puts its adapters in force; None if it has none.
    """

    def __init__(
        self,
        spec: MemberSpec,
        directory: Path,
        tokenizer: TextTokenizer,
        model: PreTrainedModel,
        switch: AdapterSwitch | None = None,
    ) -> None:
        self.spec = spec
        self.directory = directory
        self.tokenizer = tokenizer
        self._model = model
        self._switch = switch
        # One adapter is in force at a time, and the search service answers from several threads.
        self._turn = Lock()
        pad = model.config.pad_token_id
        # Any id does: padded positions are masked out of attention and pooling.
        self._pad_id = pad if isinstance(pad, int) else 0

    @property
    def device(self) -> str:
        """The device it computes on."""
        return str(self._model.device)

    @property
    def dtype(self) -> str:
        """The number format of its weights: `float32` or `bfloat16`."""
        return str(self._model.dtype).removeprefix("torch.")

    def embed(
        self,
        texts: Sequence[str],
        role: Role,
        batch_size: int,
        advance: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Vectors of `texts`, shape (n, dims), in their order, of unit length if the spec says so.

        Tokenises all texts once, sorts them by length so that a batch hardly needs padding, and calls the
        model itself, without the per-batch work of `SentenceTransformer.encode`.
        """
        import torch

        vectors = np.empty((len(texts), self.spec.dims), dtype=np.float32)
        ids = self.tokenizer.ids(prompted(self.spec, texts, role))
        # The longest first: if memory runs out, it does so at once.
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]), reverse=True)
        with torch.inference_mode():
            most = _BATCH_TOKENS.get(self._model.device.type, _BATCH_TOKENS_ELSEWHERE)
            for batch in _batches(order, ids, batch_size, most):
                vectors[batch] = self._forward([ids[i] for i in batch], role).float().cpu().numpy()
                if advance is not None:
                    advance(len(batch))
        return vectors

    def _forward(self, ids: Sequence[Sequence[int]], role: Role) -> torch.Tensor:
        """Vectors of one batch of token ids, shape (batch, dims)."""
        import torch

        longest = self._padded_length(ids)
        padded = np.full((len(ids), longest), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(ids), longest), dtype=np.int64)
        for row, sequence in enumerate(ids):
            padded[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = 1
        device = self._model.device
        input_ids = torch.from_numpy(padded).to(device)
        attention_mask = torch.from_numpy(mask).to(device)
        if self._switch is None:
            output = self._model(input_ids=input_ids, attention_mask=attention_mask)
        else:
            with self._turn:
                self._switch.active = (
                    self.spec.query_adapter if role == "query" else self.spec.document_adapter
                )
                output = self._model(input_ids=input_ids, attention_mask=attention_mask)
        pooled = pool(output.last_hidden_state.float(), attention_mask, self.spec.pooling)
        return torch.nn.functional.normalize(pooled, dim=-1) if self.spec.normalize else pooled

    def _padded_length(self, ids: Sequence[Sequence[int]]) -> int:
        longest = max([1, *(len(sequence) for sequence in ids)])
        # Not beyond the limit: the model may have no positions there.
        return max(longest, min(-(-longest // _LENGTH_STEP) * _LENGTH_STEP, self.spec.max_tokens))


def prompted(spec: MemberSpec, texts: Sequence[str], role: Role) -> Sequence[str]:
    """The texts as the model reads them: with its prompt for the role in front."""
    prompt = spec.query_prompt if role == "query" else spec.document_prompt
    return [prompt + text for text in texts] if prompt else texts


def _batches(
    order: Sequence[int], ids: Sequence[Sequence[int]], batch_size: int, most_tokens: int
) -> Iterator[list[int]]:
    """Cuts `order` into batches of at most `batch_size` texts and, with padding, `most_tokens` tokens."""
    batch: list[int] = []
    for index in order:
        # Sorted by length, the longest first: the first of a batch is as long as the batch.
        if batch and (len(batch) == batch_size or (len(batch) + 1) * len(ids[batch[0]]) > most_tokens):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def pool(tokens: torch.Tensor, attention_mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """One vector per text out of its token vectors.

    Args:
        tokens: shape (batch, length, dims); padding is on the right.
        attention_mask: shape (batch, length), 1 for a token and 0 for padding.
        pooling: `mean`, `cls` or `last`.
    """
    import torch

    if pooling == "cls":
        return tokens[:, 0]
    if pooling == "last":
        last = attention_mask.sum(dim=1).clamp(min=1) - 1
        return tokens[torch.arange(tokens.shape[0], device=tokens.device), last]
    weights = attention_mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
