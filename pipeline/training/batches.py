"""Batches for fine-tuning: which pairs stand together, what counts as a negative in them, padded how.

A batch holds its distinct texts once. A pair without a mined negative stands beside pairs that have one, so
no negative is ever invented; and what may answer a query is never taken as a negative for it, which is more
than keeping equal texts apart: a snippet with and without its documentation is two texts, a near-duplicate of
an answer is an answer, and so may be what a commit changed beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from pipeline.training.guide import Guide
    from pipeline.training.pairs import Pair

# Padded tokens per forward pass, at the most. Texts are sorted by length first, so that short queries are not
# padded to the length of long code; the loss is that of the whole batch however it is cut.
_CPU_CHUNK_TOKENS = 1024
_ACCELERATOR_CHUNK_TOKENS = 16_384
# What one more pass, forward and back, costs beside its tokens, in tokens.
_CPU_CHUNK_COST = 64
_ACCELERATOR_CHUNK_COST = 4096


@dataclass(frozen=True)
class TokenTable:
    """The token ids of every text that is trained on or ranked, computed once.

    Args:
        ids: token ids by text, special tokens included, cut off at the training limit.
        pad_id: what shorter texts are filled up with; masked out.
        chunk_tokens: how many padded tokens go through the model at once.
        chunk_cost: how many tokens' time one more time through the model is worth.
    """

    ids: Mapping[str, Sequence[int]]
    pad_id: int
    chunk_tokens: int
    chunk_cost: int

    def chunks(self, texts: Sequence[str]) -> list[list[int]]:
        """Positions in `texts`, cut into groups of like length, the longest first.

        Of all ways to cut them in their order, the one that takes least: its tokens, padding included, and
        `chunk_cost` for each group.
        """
        lengths = [len(self.ids[text]) for text in texts]
        order = sorted(range(len(texts)), key=lambda i: lengths[i], reverse=True)
        cuts = _cheapest_cuts([lengths[i] for i in order], self.chunk_tokens, self.chunk_cost)
        return [order[start:end] for start, end in pairwise(cuts)]

    def padded(self, texts: Sequence[str]) -> dict[str, Any]:
        """The tensors `input_ids` and `attention_mask`, of shape (texts, longest), padded on the right."""
        import torch

        width = max(len(self.ids[text]) for text in texts)
        input_ids = np.full((len(texts), width), self.pad_id, dtype=np.int64)
        mask = np.zeros((len(texts), width), dtype=np.int64)
        for row, text in enumerate(texts):
            ids = self.ids[text]
            input_ids[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        return {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(mask)}


def _cheapest_cuts(widths: Sequence[int], most: int, cost: int) -> list[int]:
    """Where to cut falling widths, ends included, so that all groups together cost least.

    A group costs its first width times its size, which is `most` at the most unless it has one text only, and
    `cost`. By dynamic programming: the cheapest way to reach each place, from each place before it.
    """
    cheapest: list[float] = [0.0] + [inf] * len(widths)
    came_from = [0] * (len(widths) + 1)
    for start, width in enumerate(widths):
        largest = max(1, most // max(1, width))
        for end in range(start + 1, min(start + largest, len(widths)) + 1):
            reached = cheapest[start] + (end - start) * width + cost
            if reached < cheapest[end]:
                cheapest[end], came_from[end] = reached, start
    cuts = [len(widths)]
    while cuts[-1]:
        cuts.append(came_from[cuts[-1]])
    return cuts[::-1]


def token_table(model: SentenceTransformer, texts: Sequence[str], max_tokens: int) -> TokenTable:
    """Tokenises the distinct `texts` with the model's own tokenizer, cut off at `max_tokens`.

    The model's tokenizer is not touched: truncation is a state that would be saved with it.
    """
    from tokenizers import Tokenizer

    own = model.tokenizer
    tokenizer: Tokenizer = Tokenizer.from_str(own.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    distinct = list(dict.fromkeys(texts))
    # Python strings may hold lone surrogates; the tokenizer takes only valid Unicode.
    valid = [text.encode("utf-8", "replace").decode("utf-8") for text in distinct]
    encodings = tokenizer.encode_batch_fast(valid)
    on_cpu = model.device.type == "cpu"
    return TokenTable(
        ids={text: encoding.ids for text, encoding in zip(distinct, encodings, strict=True)},
        pad_id=own.pad_token_id if isinstance(own.pad_token_id, int) else 0,
        chunk_tokens=_CPU_CHUNK_TOKENS if on_cpu else _ACCELERATOR_CHUNK_TOKENS,
        chunk_cost=_CPU_CHUNK_COST if on_cpu else _ACCELERATOR_CHUNK_COST,
    )


def plan_batches(count: int, batch_size: int, epochs: int, seed: int) -> list[list[int]]:
    """Rows 0 … count-1 in shuffled batches, for all epochs, each row once in each epoch.

    The batches of an epoch differ in size by one at most: a last batch of two pairs would have next to no
    negatives, and its step would count as much as the others'.
    """
    generator = np.random.default_rng(seed)
    batches: list[list[int]] = []
    for _ in range(epochs):
        order = generator.permutation(count)
        parts = np.array_split(order, -(-count // batch_size))
        batches.extend([int(row) for row in part] for part in parts)
    return batches


class PlannedBatches:
    """The planned batches as the batch sampler a DataLoader takes: rows, in the planned order."""

    batch_size = None
    drop_last = False

    def __init__(self, batches: Sequence[list[int]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


class PairCollator:
    """Makes a batch's tensors out of its rows.

    The batch is a dict of

    - `chunks`: the padded tokens of its distinct texts, in groups of like length,
    - `places` (texts,): where each text's vector is in the concatenated chunks, queries before documents,
    - `positive` (pairs,): the document that is each query's positive,
    - `allowed` (pairs, documents): False where a document may not count as a negative for the query,
    - `weight` (pairs,): the confidence in each pair,
    - `mined` (negatives, 2): query and document of each negative that was mined or given by people,
    - `negative_weight` (negatives,): how far each of those is believed,
    - `doubted` (): how many documents a guide took out of `allowed`,
    - `log_weight` (pairs, documents): the logarithm of that where the document is a negative of the pair's
      own, and 0 everywhere else.

    Args:
        pairs: the training pairs that the rows index.
        tokens: the token ids of all their texts, prompts included.
        query_prompt, document_prompt: what stands before each query and document in `tokens`.
        guide: takes out what may be an unmarked answer, if there is one; what people rejected stays.
    """

    # SentenceTransformerTrainer looks for label columns when it builds a batch sampler; there are none.
    valid_label_columns: tuple[str, ...] = ()

    def __init__(
        self,
        pairs: Sequence[Pair],
        tokens: TokenTable,
        query_prompt: str = "",
        document_prompt: str = "",
        guide: Guide | None = None,
    ) -> None:
        self._pairs = pairs
        self._guide = guide
        self._tokens = tokens
        self._query_prompt = query_prompt
        self._document_prompt = document_prompt
        self._spared = spared_groups(pairs)

    @property
    def rows(self) -> int:
        """How many pairs there are."""
        return len(self._pairs)

    def __call__(self, rows: Sequence[Mapping[str, int]]) -> dict[str, Any]:
        """The batch of these rows, each `{"row": its number}`."""
        texts, judged = self.contrast([self._pairs[row["row"]] for row in rows])
        return {**self._embeddable(texts), **judged}

    def contrast(self, pairs: Sequence[Pair]) -> tuple[list[str], dict[str, Any]]:
        """The texts of a batch, queries before documents, and by what their vectors are judged.

        That is all of the batch but `chunks` and `places`; `pairs` are some of the collator's own.
        """
        import torch

        documents: dict[str, int] = {}
        groups: list[set[bytes]] = []  # several contents may have one text

        def place(text: str, group: bytes) -> int:
            if text not in documents:
                documents[text] = len(documents)
                groups.append(set())
            groups[documents[text]].add(group)
            return documents[text]

        positive = [place(pair.positive_text, pair.group) for pair in pairs]
        mined: list[tuple[int, int]] = []
        weights: list[float] = []
        surest: dict[tuple[int, int], float] = {}
        for query, pair in enumerate(pairs):
            for negative in pair.negatives:
                if negative.group not in self._spared[pair.group_key]:
                    one = query, place(negative.text, negative.group)
                    mined.append(one)
                    weights.append(negative.weight)
                    # Two contents may have one text, which stands in the batch once.
                    surest[one] = max(negative.weight, surest.get(one, 0.0))
        allowed = np.ones((len(pairs), len(documents)), dtype=np.bool_)
        for query, pair in enumerate(pairs):
            spared = self._spared[pair.group_key]
            allowed[query] = [spared.isdisjoint(of_document) for of_document in groups]
            allowed[query, positive[query]] = True
        doubted = 0
        if self._guide is not None:
            away = self._guide.doubts([pair.query for pair in pairs], list(documents), positive) & allowed
            for query, pair in enumerate(pairs):
                # A person's no is worth more than a model's doubt.
                rejected = (documents.get(each.text) for each in pair.negatives if each.reason == "rejected")
                away[query, [document for document in rejected if document is not None]] = False
            allowed &= ~away
            doubted = int(away.sum())
        log_weight = np.zeros((len(pairs), len(documents)), dtype=np.float32)
        for (query, document), weight in surest.items():
            if document != positive[query]:
                log_weight[query, document] = np.log(weight)

        texts = [self._query_prompt + pair.query for pair in pairs]
        texts += [self._document_prompt + text for text in documents]
        return texts, {
            "positive": torch.tensor(positive),
            "allowed": torch.from_numpy(allowed),
            "weight": torch.tensor([pair.weight for pair in pairs], dtype=torch.float32),
            "mined": torch.tensor(mined, dtype=torch.int64).reshape(-1, 2),
            "negative_weight": torch.tensor(weights, dtype=torch.float32),
            "doubted": torch.tensor(doubted),
            "log_weight": torch.from_numpy(log_weight),
        }

    def _embeddable(self, texts: Sequence[str]) -> dict[str, Any]:
        import torch

        distinct = list(dict.fromkeys(texts))
        chunks = self._tokens.chunks(distinct)
        place_of = {distinct[position]: i for i, position in enumerate(p for chunk in chunks for p in chunk)}
        return {
            "chunks": [self._tokens.padded([distinct[i] for i in chunk]) for chunk in chunks],
            "places": torch.tensor([place_of[text] for text in texts]),
        }


def spared_groups(pairs: Sequence[Pair]) -> dict[bytes, set[bytes]]:
    """What may not count as a negative for each query, in any spelling: groups by the query's group.

    Its answers and their near-duplicates, and what may be an answer (`Pair.spared`).
    """
    spared: dict[bytes, set[bytes]] = {}
    for pair in pairs:
        spared.setdefault(pair.group_key, set()).update(pair.spared, (pair.group,))
    return spared
