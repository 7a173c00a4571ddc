"""Which pairs train, which validate and which test: decided by the query alone, and kept free of leakage.

The side is a hash of the query's group, so it never moves, whatever else arrives. Leakage is then removed by
dropping pairs, never by moving them. A snippet, with all its near-duplicates, stands on one side only; where
two pairs disagree, the one that comes later in this order is dropped:

1. Feedback before documentation before commits. A judgement costs somebody's attention and there are few;
   documentation is plentiful, and another piece of it takes the place of the one dropped. Of 779 pairs that
   people accepted among 6,267 documented functions (CoSQA), 37 are dropped this way, and 85 if documentation
   may test what people judged for training.
2. Test before validation before train: what measures is never given up for what trains.
3. By hash, so that growth does not change which of the earlier pairs are in.

What documentation and commits say is held apart as well: in words all but the same as those of a query on
another side they are dropped, whatever code they are about. What people asked is never dropped for its words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.config import Settings
from pipeline.feedback.grouping import group_key, normalise_query
from pipeline.training.near_duplicates import NearDuplicates, Tokens, tokens_of, words_of
from pipeline.training.pairs import Candidate, Origin, Split

ORIGINS: tuple[Origin, ...] = ("feedback", "docstring", "commit")
SPLITS: tuple[Split, ...] = ("test", "validation", "train")


@dataclass(frozen=True)
class Separated:
    """Pairs of which no two leak into each other.

    Attributes:
        kept: The pairs, in a stable order.
        dropped: How many pairs of which origin were dropped, by reason.
        sides: The side of each positive.
        known: The code of each positive, by content hash.
        answers: All that answers a query, dropped or not, by the query's group.
    """

    kept: tuple[Candidate, ...]
    dropped: dict[Origin, Counter[str]]
    sides: Mapping[bytes, Split]
    known: NearDuplicates[bytes]
    answers: Mapping[bytes, set[bytes]]

    def is_held_out(self, content_hash: bytes, tokens: Tokens) -> bool:
        """Whether a content, or a near-duplicate of it, is a positive of the validation or test side."""
        side = self.sides.get(content_hash)
        if side is not None:
            return side != "train"
        return any(self.sides[other] != "train" for other in self.known.of(tokens))


def split_of(query: str, settings: Settings) -> Split:
    """The side `query` stands on: the same for every spelling of it, tonight and every night."""
    return split_of_group(group_key(query), settings)


def split_of_group(key: bytes, settings: Settings) -> Split:
    """The side of a query whose `group_key` is known."""
    drawn = int.from_bytes(key[:8]) % 10_000 / 100
    if drawn < settings.test_percent:
        return "test"
    return "validation" if drawn < settings.test_percent + settings.validation_percent else "train"


def hash_order(group: bytes, content_hash: bytes) -> bytes:
    """What pairs are sorted by before any are cut off; independent of the bytes that decide the split."""
    return group[8:16] + content_hash


def documentation_caps(settings: Settings) -> dict[Split, int]:
    """How many documentation pairs each side takes at the most."""
    return {
        "test": settings.max_test_documentation_pairs,
        "validation": settings.max_validation_documentation_pairs,
        "train": settings.max_documentation_pairs,
    }


def commit_caps(settings: Settings) -> dict[Split, int]:
    """How many commit pairs each side takes at the most."""
    return {
        "test": settings.max_test_commit_pairs,
        "validation": settings.max_validation_commit_pairs,
        "train": settings.max_commit_pairs,
    }


def separate(candidates: Iterable[Candidate], settings: Settings) -> Separated:
    """Drops what leaks, and what is over the caps; see above for who gives way."""
    caps: dict[Origin, dict[Split, int]] = {
        "docstring": documentation_caps(settings),
        "commit": commit_caps(settings),
    }
    sides: dict[bytes, Split] = {}
    known: NearDuplicates[bytes] = NearDuplicates()
    asked: dict[tuple[bytes, bytes], Origin] = {}
    queries: NearDuplicates[bytes] = NearDuplicates()
    side_of_query: dict[bytes, Split] = {}
    taken: Counter[tuple[Origin, Split]] = Counter()
    dropped: dict[Origin, Counter[str]] = {}
    kept: list[Candidate] = []
    answers: dict[bytes, set[bytes]] = {}
    for candidate in sorted(candidates, key=_rank):
        answers.setdefault(candidate.group_key, set()).add(candidate.content_hash)
        reasons = dropped.setdefault(candidate.origin, Counter())
        content_hash, split, origin = candidate.content_hash, candidate.split, candidate.origin
        if (candidate.group_key, content_hash) in asked:
            first = asked[candidate.group_key, content_hash]
            reasons["known from feedback" if first == "feedback" else "the same pair once more"] += 1
            continue
        if origin in caps and taken[origin, split] >= caps[origin][split]:
            reasons["over the cap"] += 1
            continue
        words = words_of(normalise_query(candidate.query))
        if origin != "feedback" and any(side_of_query[other] != split for other in queries.of(words)):
            reasons["near-identical words on another side"] += 1
            continue
        if content_hash not in sides:
            tokens = tokens_of(candidate.code)
            if any(sides[other] != split for other in known.of(tokens)):
                reasons["near-duplicate on another side"] += 1
                continue
            sides[content_hash] = split
            known.add(content_hash, tokens)
        elif sides[content_hash] != split:
            reasons["same snippet on another side"] += 1
            continue
        taken[origin, split] += 1
        asked[candidate.group_key, content_hash] = origin
        if candidate.group_key not in side_of_query:
            side_of_query[candidate.group_key] = split
            queries.add(candidate.group_key, words)
        kept.append(candidate)
    return Separated(tuple(kept), dropped, sides, known, answers)


def _rank(candidate: Candidate) -> tuple[int, int, bytes]:
    return (
        ORIGINS.index(candidate.origin),
        SPLITS.index(candidate.split),
        hash_order(candidate.group_key, candidate.content_hash),
    )
