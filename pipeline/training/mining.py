"""Hard negatives: code near a query that does not answer it, by exact search with the model that serves.

A candidate is taken only if it scores below a share of what the positive scores (NV-Retriever, Moreira et al.
2024, arXiv:2407.15831, "TopK-PercPos"): the nearer a candidate comes to the positive, the likelier it is an
answer that nobody has marked yet, and teaching a model that an answer is none hurts more than a hard negative
helps. If nothing near the query is below the threshold, the pair gets no mined negative.

Documentation pairs are trained on code without documentation, so their scores are compared without it.
Measured with MiniLM on 400 such pairs of networkx, rich and click, top 50, threshold 0.95. "Over": taken,
though without documentation it scores over the threshold. "False": its own documentation has a cosine over
0.8 to the query's, so it likely is an answer. "None": pairs without a negative.

| scores compared                              | over                    | false | none |
|----------------------------------------------|-------------------------|-------|------|
| both with documentation, as stored           | 47% (37% over positive) | 12%   | 1%   |
| positive without, candidates as stored       | 12%                     | 5%    | 12%  |
| both without                                 | 0%                      | 7%    | 1%   |
| both without, and below 0.9 with             | 0%                      | 3%    | 2%   |
| the same for the nearest 16 only: as is done | 0%                      | 3%    | 4%   |

The price is one embedding of each of those texts without its documentation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Settings
from pipeline.progress import Progress
from pipeline.training.near_duplicates import Tokens, are_near_duplicates, tokens_of
from pipeline.training.pairs import Candidate, Origin
from pipeline.training.splits import ORIGINS, Separated
from pipeline.training.store import Content

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

Vectors = NDArray[np.float32]
Number = TypeVar("Number", float, NDArray[np.float64])

# So near to the positive that it is the same code for any purpose.
SAME_CODE_COSINE = 0.95
# With their documentation, a candidate may come this near to the positive: see the table above.
DOCUMENTED_MAX_RATIO = 0.9
# How many candidates per documentation pair are compared without documentation.
COMPARED = 16
# The thresholds that are shown beside the one in force.
SHOWN_RATIOS = (0.8, 0.85, 0.9, 0.95, 1.0)
# Scores held in memory at once, 256 MB.
SCORES_AT_ONCE = 64_000_000


@dataclass(frozen=True)
class Mined:
    """A negative that was found, with the cosines that its pair's threshold was applied to."""

    content_hash: bytes
    positive_score: float
    negative_score: float


@dataclass
class Tally:
    """What mining did.

    Attributes:
        asking: Pairs that asked for a negative, by origin.
        candidates: Neighbours of their queries that were looked at, until each pair had what it asked for.
        over_threshold: Those that came too near to their positive.
        passed: Those below the threshold that are no fair negatives, by reason.
        taken: Those that became negatives.
        without: Pairs for which nothing was found, by origin.
        at_thresholds: What thresholds would do to all the neighbours of the pairs that asked.
    """

    asking: Counter[Origin] = field(default_factory=Counter[Origin])
    candidates: int = 0
    over_threshold: int = 0
    passed: Counter[str] = field(default_factory=Counter[str])
    taken: int = 0
    without: Counter[Origin] = field(default_factory=Counter[Origin])
    at_thresholds: dict[Origin, AtThresholds] = field(default_factory=dict[Origin, "AtThresholds"])


@dataclass(frozen=True)
class AtThresholds:
    """What thresholds relative to the positive's score do, by the scores of contents as they are stored.

    Attributes:
        candidates: Neighbours looked at in all.
        rejected: How many of them each threshold (share of the positive's score) rejects.
        pairs_without: How many pairs it leaves without any neighbour.
    """

    candidates: int
    rejected: dict[float, int]
    pairs_without: dict[float, int]


@dataclass(frozen=True)
class Corpus:
    """All live contents with their vectors, shape (n, dims), as the mining model made them."""

    hashes: Sequence[bytes]
    vectors: Vectors
    position: Mapping[bytes, int]


class Fairness:
    """Why a content would be no fair negative for a pair, its score aside.

    Args:
        separated: All pairs, to know what is held out and what else answers a query.
        contents: The positives of the pairs, all that `reason` is asked about, and all that answers a query.
    """

    def __init__(self, separated: Separated, contents: Mapping[bytes, Content]) -> None:
        self._separated = separated
        self._contents = contents
        self._tokens: dict[bytes, Tokens] = {}
        self._held_out: dict[bytes, bool] = {}

    def reason(self, pair: Candidate, content_hash: bytes, *, judged: bool = False) -> str | None:
        """The reason, or None if it is fair.

        Args:
            pair: For which pair.
            content_hash: What.
            judged: Whether people found it irrelevant; then what it is called does not matter.
        """
        answers = self._separated.answers[pair.group_key]
        content = self._contents[content_hash]
        # From the cheapest to the dearest; what follows the first that holds is not computed.
        objections: tuple[tuple[str, Callable[[], bool]], ...] = (
            ("answers the query", lambda: content_hash in answers),
            (
                "changed by the same commit"
                if pair.origin == "commit"
                else "somebody liked it for the query",
                lambda: content_hash in pair.unsure,
            ),
            (
                "nothing but documentation",
                lambda: pair.origin == "docstring" and content.without_documentation is None,
            ),
            # Overloads and namesakes in other classes mostly do the same thing.
            (
                "same name as the positive",
                lambda: not judged and bool(content.names & self._contents[pair.content_hash].names),
            ),
            # A class lists its methods, and a function holds the functions that are defined in it.
            ("around the positive, or inside it", lambda: not judged and self._encloses(content, pair)),
            ("near-duplicate of an answer", lambda: self._is_like_any(content_hash, answers)),
            (
                "held out for measuring",
                lambda: pair.split == "train" and self._is_held_out(content_hash),
            ),
        )
        return next((reason for reason, holds in objections if holds()), None)

    def _encloses(self, content: Content, pair: Candidate) -> bool:
        positive = self._contents[pair.content_hash]
        return content.is_around(positive) or positive.is_around(content)

    def _is_like_any(self, content_hash: bytes, answers: Iterable[bytes]) -> bool:
        tokens = self._tokens_of(content_hash)
        return any(are_near_duplicates(tokens, self._tokens_of(answer)) for answer in answers)

    def _tokens_of(self, content_hash: bytes) -> Tokens:
        if content_hash not in self._tokens:
            self._tokens[content_hash] = tokens_of(self._contents[content_hash].code)
        return self._tokens[content_hash]

    def _is_held_out(self, content_hash: bytes) -> bool:
        if content_hash not in self._held_out:
            self._held_out[content_hash] = self._separated.is_held_out(
                content_hash, self._tokens_of(content_hash)
            )
        return self._held_out[content_hash]


def nearest(
    queries: Vectors, vectors: Vectors, count: int, advance: Callable[[int], None] = lambda _: None
) -> tuple[NDArray[np.intp], Vectors]:
    """The rows of `vectors` with the highest cosine to each query, by exact search.

    Args:
        queries: Unit vectors, shape (q, dims).
        vectors: Unit vectors, shape (n, dims).
        count: How many per query; all n if there are fewer.
        advance: Told of each block of queries done.

    Returns:
        Rows and cosines, each of shape (q, min(count, n)), the highest first, equal ones by row.
    """
    count = min(count, len(vectors))
    rows = np.empty((len(queries), count), dtype=np.intp)
    scores = np.empty((len(queries), count), dtype=np.float32)
    block = max(1, SCORES_AT_ONCE // max(1, len(vectors)))
    for start in range(0, len(queries) if count else 0, block):
        all_scores = queries[start : start + block] @ vectors.T
        part = np.argpartition(-all_scores, count - 1, axis=1)[:, :count]
        part.sort(axis=1)
        part_scores = np.take_along_axis(all_scores, part, axis=1)
        order = np.argsort(-part_scores, axis=1, kind="stable")
        rows[start : start + block] = np.take_along_axis(part, order, axis=1)
        scores[start : start + block] = np.take_along_axis(part_scores, order, axis=1)
        advance(len(all_scores))
    return rows, scores


def threshold(positive_score: Number, max_ratio: float) -> Number:
    """What a candidate's cosine must stay below: a share of the positive's, even of a negative one."""
    return positive_score - (1 - max_ratio) * abs(positive_score)


class Miner:
    """Finds negatives for many pairs of one corpus.

    Args:
        encoder: The model that made `corpus.vectors`.
        corpus: Where to look.
        pairs: The pairs; their positives are in the corpus.
        settings: Pool, threshold and number of negatives.
        progress: Told of searching and embedding.
    """

    def __init__(
        self,
        encoder: Encoder,
        corpus: Corpus,
        pairs: Sequence[Candidate],
        settings: Settings,
        progress: Progress,
    ) -> None:
        self.tally = Tally()
        self._encoder = encoder
        self._corpus = corpus
        self._pairs = pairs
        self._settings = settings
        self._progress = progress
        self._queries = encoder.embed_queries([pair.query for pair in pairs])
        with progress.stage("Searching for hard negatives", len(pairs)) as advance:
            self._rows, self._scores = nearest(
                self._queries, corpus.vectors, settings.hard_negative_pool, advance
            )

    def neighbours(self) -> set[bytes]:
        """All contents that may be taken: `mine` has to be told what they are."""
        return {self._corpus.hashes[row] for row in np.unique(self._rows)}

    def score(self, number: int, content_hash: bytes) -> float:
        """Cosine of a pair's query and a content, as stored."""
        return float(self._queries[number] @ self._vector(content_hash))

    def positive_score(self, number: int) -> float:
        """Cosine of a pair's query and its positive, as stored."""
        return self.score(number, self._pairs[number].content_hash)

    def mine(
        self, wanted: Sequence[int], fairness: Fairness, contents: Mapping[bytes, Content]
    ) -> list[list[Mined]]:
        """The negatives of each pair, the hardest first.

        Args:
            wanted: How many each pair wants, in the order of the pairs.
            fairness: What else a negative must be.
            contents: The pairs' positives and `neighbours`.
        """
        found: list[list[Mined]] = [[] for _ in self._pairs]
        self._weigh_thresholds(wanted)
        compared: dict[int, list[bytes]] = {}
        for number, (pair, count) in enumerate(zip(self._pairs, wanted, strict=True)):
            if count == 0:
                continue
            if pair.origin == "docstring":
                limit = min(self._settings.hard_negative_max_ratio, DOCUMENTED_MAX_RATIO)
                below = self._below(number, limit, fairness)
                compared[number] = [content_hash for content_hash, _, _ in islice(below, COMPARED)]
            else:
                below = self._below(number, self._settings.hard_negative_max_ratio, fairness)
                found[number] = [Mined(*each) for each in islice(below, count)]
        if compared:
            self._compare_without_documentation(compared, wanted, contents, found)
        for pair, count, mined in zip(self._pairs, wanted, found, strict=True):
            self.tally.asking[pair.origin] += count > 0
            self.tally.without[pair.origin] += count > 0 and not mined
            self.tally.taken += len(mined)
        return found

    def _weigh_thresholds(self, wanted: Sequence[int]) -> None:
        """Counts what each threshold would reject, for the pairs that ask for negatives."""
        for origin in ORIGINS:
            numbers = [
                number
                for number, (pair, count) in enumerate(zip(self._pairs, wanted, strict=True))
                if pair.origin == origin and count
            ]
            if not numbers:
                continue
            positives = np.array([self.positive_score(number) for number in numbers])[:, None]
            own = np.array([self._corpus.position[self._pairs[number].content_hash] for number in numbers])
            others = self._rows[numbers] != own[:, None]
            rejected: dict[float, int] = {}
            without: dict[float, int] = {}
            for ratio in sorted({*SHOWN_RATIOS, self._settings.hard_negative_max_ratio}):
                over = self._scores[numbers] >= threshold(positives, ratio)
                rejected[ratio] = int((over & others).sum())
                without[ratio] = int((~(~over & others).any(axis=1)).sum())
            self.tally.at_thresholds[origin] = AtThresholds(int(others.sum()), rejected, without)

    def _vector(self, content_hash: bytes) -> Vectors:
        return self._corpus.vectors[self._corpus.position[content_hash]]

    def _below(
        self, number: int, max_ratio: float, fairness: Fairness
    ) -> Iterator[tuple[bytes, float, float]]:
        """The fair candidates below the threshold, the nearest first: hash, the positive's score, its own."""
        pair = self._pairs[number]
        positive = self._vector(pair.content_hash)
        positive_score = float(self._queries[number] @ positive)
        for row, found in zip(self._rows[number], self._scores[number], strict=True):
            content_hash, score = self._corpus.hashes[row], float(found)
            if content_hash == pair.content_hash:
                continue
            self.tally.candidates += 1
            if score >= threshold(positive_score, max_ratio):
                self.tally.over_threshold += 1
                continue
            if float(self._corpus.vectors[row] @ positive) > SAME_CODE_COSINE:
                reason = "same code as the positive"
            else:
                reason = fairness.reason(pair, content_hash)
            if reason is not None:
                self.tally.passed[reason] += 1
                continue
            yield content_hash, positive_score, score

    def _compare_without_documentation(
        self,
        compared: Mapping[int, Sequence[bytes]],
        wanted: Sequence[int],
        contents: Mapping[bytes, Content],
        found: list[list[Mined]],
    ) -> None:
        """Takes those of `compared` that stay below the threshold when nobody's documentation counts."""
        positives = [self._pairs[number].content_hash for number in compared]
        vectors = self._undocumented_vectors(
            {*positives, *(content_hash for each in compared.values() for content_hash in each)}, contents
        )
        for number, hashes in compared.items():
            query = self._queries[number]
            positive_score = float(query @ vectors[self._pairs[number].content_hash])
            scored = [(float(query @ vectors[content_hash]), content_hash) for content_hash in hashes]
            below = [
                Mined(content_hash, positive_score, score)
                for score, content_hash in scored
                if score < threshold(positive_score, self._settings.hard_negative_max_ratio)
            ]
            self.tally.over_threshold += len(scored) - len(below)
            below.sort(key=lambda mined: (-mined.negative_score, mined.content_hash))
            found[number] = below[: wanted[number]]

    def _undocumented_vectors(
        self, hashes: set[bytes], contents: Mapping[bytes, Content]
    ) -> dict[bytes, Vectors]:
        vectors = {
            content_hash: self._vector(content_hash)
            for content_hash in hashes
            if contents[content_hash].undocumented is None  # then it is embedded as it stands
        }
        cut = sorted(hashes - vectors.keys())
        if not cut:
            return vectors
        with self._progress.stage("Embedding code without its documentation", len(cut)) as advance:
            embedded = self._encoder.embed_documents(
                [contents[content_hash].code for content_hash in cut], advance
            )
        vectors.update(zip(cut, embedded, strict=True))
        return vectors
