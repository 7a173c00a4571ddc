"""What a training set is made of: pairs with their negatives. Only the data, no way of making it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.feedback.pairs import JudgedNegative

Split = Literal["train", "validation", "test"]
Origin = Literal["feedback", "docstring", "commit"]
NegativeReason = Literal["rejected", "passed-over", "mined"]


@dataclass(frozen=True)
class Candidate:
    """A pair that may enter the training set: not yet checked against the others, without mined negatives.

    Attributes:
        origin: Where it came from.
        query: What was asked; for origin docstring, the documentation.
        group_key: What all spellings of the query share; the split is drawn from it.
        split: The side its query stands on.
        content_hash: The relevant content, a live one.
        text: What the model is shown of it; for origin docstring, without the documentation.
        code: The content without its documentation: what near-duplicates are told by.
        weight: Over 0, at most 1.
        language: Of the content.
        judged: Contents that people found irrelevant for the query, how they showed it, and what it weighs.
        unsure: Contents that are no positive for the query, and no negative either: somebody liked them, but
            not surely enough; or the commit changed them too.
        because: What it rests on, for people to read; names nobody. JSON.
    """

    origin: Origin
    query: str
    group_key: bytes
    split: Split
    content_hash: bytes
    text: str
    code: str
    weight: float
    language: str
    judged: tuple[JudgedNegative, ...] = ()
    unsure: frozenset[bytes] = frozenset()
    because: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Negative:
    """A snippet that is not relevant for its pair's query.

    Attributes:
        content_hash: Its content.
        text: What the model is shown of it: without documentation if the positive is shown without.
        reason: Rejected or passed over by people, or mined.
        positive_score: Cosine of query and positive under the mining model; None if it was not computed.
        negative_score: Cosine of query and this snippet, likewise.
        code: Without its documentation, where that differs from `text`.
        weight: Over 0, at most 1: how far it is believed; less than 1 for one that was passed over.
        copy_group: What it shares with its near-duplicates; None: with nothing, so its own content hash.
    """

    content_hash: bytes
    text: str
    reason: NegativeReason
    positive_score: float | None
    negative_score: float | None
    code: str | None = None
    weight: float = 1.0
    copy_group: bytes | None = None

    @property
    def group(self) -> bytes:
        """What all its near-duplicates in the training set share with it, 32 bytes."""
        return self.copy_group or self.content_hash


@dataclass(frozen=True)
class Pair:
    """A query and a snippet that is relevant for it, with snippets that are not.

    Attributes:
        id: Its row in the database.
        split: The side it stands on.
        origin: Where it came from.
        query: What was asked.
        positive_hash: The relevant content.
        positive_text: What the model is shown of it; for origin docstring, without the documentation.
        weight: Over 0, at most 1: how far it is believed.
        language: Of the relevant content.
        group_key: What all spellings of the query share.
        negatives: What people said first, then mined ones; may be empty.
        positive_code: The content without its documentation, where that differs from `positive_text`.
        because: What it rests on, for people to read; names nobody. JSON.
        copy_group: What the positive shares with its near-duplicates; None: its own content hash.
        spared: The groups (`group`, `Negative.group`) of all that may not count as a negative for the query:
            its answers, the ones dropped from the set too, and what may be one. In a batch, a document of
            such a group is masked for this query.
    """

    id: int
    split: Split
    origin: Origin
    query: str
    positive_hash: bytes
    positive_text: str
    weight: float
    language: str
    group_key: bytes
    negatives: tuple[Negative, ...] = ()
    positive_code: str | None = None
    because: Mapping[str, Any] = field(default_factory=dict[str, Any])
    copy_group: bytes | None = None
    spared: frozenset[bytes] = frozenset()

    @property
    def group(self) -> bytes:
        """What all near-duplicates of the positive in the training set share with it, 32 bytes."""
        return self.copy_group or self.positive_hash

    def spares(self, group: bytes) -> bool:
        """Whether a document of this group may not count as a negative for the query."""
        return group == self.group or group in self.spared


@dataclass(frozen=True)
class TrainingSet:
    """All pairs of all splits, in a stable order.

    Attributes:
        id: Its row in the database.
        fingerprint: SHA-256 over its pairs and negatives: same data, same name.
        pairs_fingerprint: SHA-256 over what decides them but the mining: same pairs are not mined again.
        model_version: Whose vectors the negatives were mined from.
        counts: Pairs by split and origin, what was dropped and why, what mining found; JSON.
        pairs: The pairs.
        reused: Whether it was stored before it was asked for.
    """

    id: int
    fingerprint: str
    pairs_fingerprint: str
    model_version: str
    counts: dict[str, Any]
    pairs: tuple[Pair, ...]
    reused: bool = False

    def of(self, split: Split) -> tuple[Pair, ...]:
        """The pairs of one split."""
        return tuple(pair for pair in self.pairs if pair.split == split)
