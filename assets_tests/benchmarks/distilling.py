"""Trainings that no recipe of Honeloop's makes, for `screened_ideas`: a loop, two losses, and a teacher.

The teacher is late interaction (Khattab and Zaharia, "ColBERT", 2020) over the token vectors of the base
itself, beside its cosine: it asks of each of the query's tokens how near the nearest of the code's is. It has
to keep a vector for each token, which nothing here can store. So the question is whether the one vector that
is stored can learn to rank as it does. It needs nobody's judgement, so that any query teaches.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from assets_tests.benchmarks.judged import Judgement, corpus_vectors
from assets_tests.benchmarks.plain_recipe import BATCH_SIZE, LEARNING_RATE, MAX_TOKENS, WARMUP_SHARE
from pipeline.encoders.quiet import quiet
from pipeline.evaluation.store import live_hashes
from pipeline.training import store
from pipeline.training.batches import TokenTable, plan_batches, token_table
from pipeline.training.documentation_pairs import documentation_candidates
from pipeline.workbench import Workbench

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

    from pipeline.encoders.encoder import Encoder

LATE_WEIGHT = 0.8  # beside the cosine; of 0.5 to 1.2, which gained when the teacher itself was looked at
FIRST = 3  # of each query's answers stand in its batch
LISTS = 16  # queries in a batch
SOFTNESS = 0.1  # what scores are divided by before the softmax
TEMPERATURE = 0.05  # that of `MultipleNegativesRankingLoss`
MAX_NORM = 1.0
Row = TypeVar("Row")


class Asked(NamedTuple):
    """A query and the texts that a student learns to order for it."""

    query: str
    texts: tuple[str, ...]


class Chunk(NamedTuple):
    """Some texts as a model sees them.

    Attributes:
        positions: Which of the texts.
        pooled: Their unit vectors, shape (texts, dims).
        words: Unit vectors of their tokens, shape (texts, longest, dims); zero for special ones and padding.
        counts: How many tokens each has, special ones aside.
    """

    positions: list[int]
    pooled: torch.Tensor
    words: torch.Tensor
    counts: torch.Tensor

    @property
    def own(self) -> list[torch.Tensor]:
        """Each text's tokens, special ones aside, shape (tokens, dims) each."""
        # Padding is on the right, and the first is special.
        return [each[1 : 1 + int(count)] for each, count in zip(self.words, self.counts, strict=True)]


@dataclass(frozen=True)
class Teacher:
    """Scores queries against documents by their tokens; its model stays as it is."""

    model: SentenceTransformer
    tokens: TokenTable

    def scores(self, queries: Sequence[str], documents: Sequence[str]) -> torch.Tensor:
        """What it teaches: the cosine, and late interaction by its weight. Shape (queries, documents)."""
        cosines, late = self.both(queries, documents)
        return cosines + LATE_WEIGHT * late

    def both(self, queries: Sequence[str], documents: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """The cosines, and of each query's tokens the mean cosine to the nearest token of each document.

        Shape (queries, documents) each. One chunk of documents is held at a time.
        """
        import torch

        with torch.no_grad():
            vectors = torch.empty(len(queries), self.model.get_embedding_dimension() or 0)
            words: dict[int, torch.Tensor] = {}
            for chunk in self.chunks(queries):
                vectors[chunk.positions] = chunk.pooled
                words |= dict(zip(chunk.positions, chunk.own, strict=True))
            each = [words[position] for position in range(len(queries))]
            counts = torch.tensor([len(one) for one in each])
            owner, together = torch.repeat_interleave(torch.arange(len(each)), counts), torch.cat(each)
            cosines = torch.empty(len(queries), len(documents))
            late = torch.empty(len(queries), len(documents))
            for chunk in self.chunks(documents):
                cosines[:, chunk.positions] = vectors @ chunk.pooled.T
                near = together @ chunk.words.flatten(0, 1).T
                nearest = near.view(len(together), len(chunk.positions), -1).amax(dim=2)
                summed = torch.zeros(len(queries), len(chunk.positions)).index_add(0, owner, nearest)
                late[:, chunk.positions] = summed / counts.clamp(min=1).unsqueeze(1)
        return cosines, late

    def chunks(self, texts: Sequence[str]) -> Iterator[Chunk]:
        """All texts, some of like length at a time."""
        import torch

        for positions in self.tokens.chunks(texts):
            batch = self.tokens.padded([texts[position] for position in positions])
            seen = self.model(dict(batch))
            inner = batch["attention_mask"].clone()
            inner[torch.arange(len(positions)), inner.sum(dim=1) - 1] = 0
            inner[:, 0] = 0
            words = torch.nn.functional.normalize(seen["token_embeddings"], dim=-1)
            yield Chunk(positions, seen["sentence_embedding"], words * inner.unsqueeze(-1), inner.sum(dim=1))


def teacher_of(encoder: Encoder, texts: Sequence[str], max_tokens: int) -> Teacher:
    """The teacher that an encoder's model is, for these texts, each cut off at `max_tokens`."""
    model = encoder.sentence_transformer().eval()
    return Teacher(model, token_table(model, texts, max_tokens))


def lists_to_learn(
    bench: Workbench, base: Encoder, learning: Sequence[Judgement], documentation: int
) -> list[Asked]:
    """Queries with the first answers of the base: of the accepted judgements, and out of documentation.

    What documentation finds is shown without its own, as in the training set: its words stand there again.
    """
    hashes = live_hashes(bench.db)
    with bench.db.connect() as connection:
        contents = store.contents(connection, hashes)
        found, _ = documentation_candidates(connection, bench.settings)
    said = [each.query for each in found if each.split == "train"][:documentation]
    typed = sorted({each.query for each in learning if each.judgement == "accept"})
    queries = [*typed, *said]
    near = base.embed_queries(queries) @ corpus_vectors(bench, base, hashes).T
    lists: list[Asked] = []
    for number, query in enumerate(queries):
        first = [contents[hashes[int(place)]] for place in np.argsort(-near[number])[:FIRST]]
        is_typed = number < len(typed)
        lists.append(Asked(query, tuple(each.text if is_typed else each.code for each in first)))
    return lists


def distil(base: Encoder, lists: Sequence[Asked], seed: int, directory: Path) -> Encoder:
    """The base after one epoch in which its vectors learned to rank as its tokens do; see `divergence`.

    A query's list is all texts of its batch: its own first answers, and those of the others.
    """

    def loss(rows: Sequence[int]) -> torch.Tensor:
        queries = [mixed[row].query for row in rows]
        documents = list(dict.fromkeys(text for row in rows for text in mixed[row].texts))
        learned = pooled(student, teacher.tokens, queries) @ pooled(student, teacher.tokens, documents).T
        return divergence(learned, teacher.scores(queries, documents))

    mixed = _mixed(lists, seed)
    with quiet():
        teacher = teacher_of(base, [text for each in mixed for text in (each.query, *each.texts)], MAX_TOKENS)
        student = base.sentence_transformer().eval()  # as the teacher: nothing is dropped
        train_steps(student, plan_batches(len(mixed), LISTS, 1, seed), loss)
        return kept(student, base, directory)


def divergence(learned: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    """How far a student's order of each query's list is from the teacher's; scores of shape (queries, texts).

    The Kullback–Leibler divergence of softmax(learned / τ) from softmax(taught / τ), the mean over queries:
    the loss of Lin, Yang and Lin, "Distilling Dense Representations for Ranking using Tightly-Coupled
    Teachers" (2020), who teach one vector late interaction, too; without their part for labels.
    """
    import torch

    return torch.nn.functional.kl_div(
        (learned / SOFTNESS).log_softmax(dim=1),
        (taught / SOFTNESS).log_softmax(dim=1),
        log_target=True,
        reduction="batchmean",
    )


def push_away(
    base: Encoder, judgements: Sequence[tuple[str, str, bool]], seed: int, directory: Path
) -> Encoder:
    """The plain recipe with rejects taken at their word; see `judged_loss`.

    Args:
        base: What is trained from.
        judgements: Query, snippet, and whether it was accepted.
        seed: Of the order and of dropout, the plain recipe's 0.1.
        directory: Where the model is kept.
    """
    import torch
    from transformers import set_seed

    def loss(rows: Sequence[int]) -> torch.Tensor:
        batch = [mixed[row] for row in rows]
        documents = list(dict.fromkeys(snippet for _, snippet, _ in batch))
        queries = pooled(model, tokens, [query for query, _, _ in batch])
        return judged_loss(
            queries @ pooled(model, tokens, documents).T / TEMPERATURE,
            torch.tensor([documents.index(snippet) for _, snippet, _ in batch]),
            torch.tensor([is_accepted for _, _, is_accepted in batch]),
        )

    mixed = _mixed(judgements, seed)
    with quiet():
        set_seed(seed)
        model = base.sentence_transformer().train()
        tokens = token_table(model, [text for query, code, _ in mixed for text in (query, code)], MAX_TOKENS)
        train_steps(model, plan_batches(len(mixed), BATCH_SIZE, 1, seed), loss)
        return kept(model, base, directory)


def judged_loss(scores: torch.Tensor, own: torch.Tensor, accepted: torch.Tensor) -> torch.Tensor:
    """−log p of an accepted snippet, −log(1 − p) of a rejected one; the mean over judgements.

    p is the judged snippet's share in the softmax over all snippets of the batch. The first is the plain
    recipe's loss, the second the unlikelihood of Welleck and others, "Neural Text Generation with
    Unlikelihood Training" (2020), said there of words.

    Args:
        scores: Of each judgement's query, by snippet, shape (judgements, snippets).
        own: Which snippet was judged, shape (judgements,).
        accepted: Whether it was accepted, shape (judgements,).
    """
    import torch

    place = own.unsqueeze(1)
    judged = scores.gather(1, place).squeeze(1)
    others = scores.scatter(1, place, -torch.inf).logsumexp(dim=1)
    return (scores.logsumexp(dim=1) - torch.where(accepted, judged, others)).mean()


def average_of(encoders: Sequence[Encoder], directory: Path) -> Encoder:
    """The average of their weights, as the recipe `merged` takes it."""
    from pipeline.training.merging import merged

    with quiet():
        models = [each.sentence_transformer() for each in encoders]
        models[0].load_state_dict(merged([model.state_dict() for model in models]))
        return kept(models[0], encoders[0], directory)


def pooled(model: SentenceTransformer, tokens: TokenTable, texts: Sequence[str]) -> torch.Tensor:
    """Unit vectors with gradients, shape (texts, dims), in the order of the texts."""
    import torch

    chunks = tokens.chunks(texts)
    parts = [
        model(tokens.padded([texts[position] for position in chunk]))["sentence_embedding"]
        for chunk in chunks
    ]
    order = torch.tensor([position for chunk in chunks for position in chunk])
    return torch.cat(parts)[order.argsort()]


def train_steps(
    model: SentenceTransformer,
    batches: Sequence[Sequence[int]],
    loss: Callable[[Sequence[int]], torch.Tensor],
) -> None:
    """A step for each batch, by the plain recipe's optimiser, learning rate and warm-up."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    model.requires_grad_(True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    steps = len(batches)
    schedule = get_linear_schedule_with_warmup(optimiser, round(WARMUP_SHARE * steps), steps)
    for rows in batches:
        loss(rows).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()


def kept(model: SentenceTransformer, base: Encoder, directory: Path) -> Encoder:
    """The model as an encoder, saved in `directory` and loaded from there."""
    from pipeline.encoders.loading import load_encoder

    model.save_pretrained(str(directory), create_model_card=False, safe_serialization=True)
    return load_encoder(str(directory), device=base.device, batch_size=base.batch_size)


def _mixed(rows: Sequence[Row], seed: int) -> list[Row]:
    # Sorted first: otherwise the order in which they were found would matter.
    mixed = sorted(rows, key=repr)
    random.Random(seed).shuffle(mixed)
    return mixed
