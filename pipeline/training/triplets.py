"""Samples of a training set, for people to read: a pair, why it is one, its negatives, and why they are."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import BadInputError
from pipeline.store.connections import Connection
from pipeline.training.pairs import Negative, Origin, Pair, Split, TrainingSet

_PLACES = """
SELECT DISTINCT ON (s.content_hash) s.content_hash, r.name, s.path, s.symbol, s.start_line
FROM snippets s JOIN repositories r ON r.id = s.repository_id
WHERE s.content_hash = ANY(%s) ORDER BY s.content_hash, s.vanished_at IS NOT NULL, s.id
"""


@dataclass(frozen=True)
class Place:
    """Where a snippet stands."""

    repository: str
    path: str
    symbol: str
    line: int

    def __str__(self) -> str:
        return f"{self.repository} {self.path}:{self.line} {self.symbol}"


def sampled(
    training_set: TrainingSet, count: int, seed: int, *, origin: Origin | None, split: Split | None
) -> tuple[list[Pair], int]:
    """At most `count` pairs drawn by `seed`, the same for the same data, and how many there are to draw from.

    Raises:
        BadInputError: there are none; the message says which there are.
    """
    eligible = [
        pair for pair in training_set.pairs if origin in (None, pair.origin) and split in (None, pair.split)
    ]
    if not eligible:
        there = sorted({f"{pair.origin} ({pair.split})" for pair in training_set.pairs})
        raise BadInputError(
            f"Training set {training_set.id} has no such pairs.", hint=f"It has: {', '.join(there)}."
        )
    eligible.sort(key=lambda pair: (pair.group_key, pair.positive_hash))
    drawn = random.Random(seed).sample(eligible, min(count, len(eligible)))
    return drawn, len(eligible)


def places(connection: Connection, pairs: Sequence[Pair]) -> dict[bytes, Place]:
    """Where the snippets of these pairs stand, by content hash; those that are gone were there once."""
    hashes = {pair.positive_hash for pair in pairs}
    hashes.update(negative.content_hash for pair in pairs for negative in pair.negatives)
    return {
        content_hash: Place(*rest) for content_hash, *rest in connection.execute(_PLACES, [sorted(hashes)])
    }


def why_positive(pair: Pair) -> str:
    """What a pair rests on, in words."""
    because = pair.because
    if pair.origin == "docstring":
        return "It is what its author says of it; the documentation is cut out of the code."
    if pair.origin == "commit" and because:
        changed = "added it" if because["changed"] >= 1 else f"changed {because['changed']:.0%} of it"
        others = because["functions"] - 1
        return (
            f"Commit {because['commit']} of {because['repository']} {changed}"
            + (f" and {others} other function{'s' if others > 1 else ''}" if others else "")
            + f"; it still has {because['likeness']:.0%} of what the commit left."
        )
    if pair.origin == "feedback" and because:
        people = because["people"]
        return (
            f"{'One person' if people == 1 else f'{people} people'} found it relevant, "
            f"by {because['judgement']} at best."
        )
    return "It is not recorded on what it rests."


def why_negative(negative: Negative) -> str:
    """Why a snippet is a negative, in words."""
    if negative.reason == "rejected":
        return "People rejected it for this query."
    if negative.reason == "passed-over":
        return f"It stood above the chosen one and nobody took it; counts {negative.weight:.2f}."
    return "Near the query, yet below the threshold, and nothing says that it answers."


def margin(negative: Negative) -> float | None:
    """Cosine of the positive less that of the negative, under the mining model; None if not computed."""
    if negative.positive_score is None or negative.negative_score is None:
        return None
    return negative.positive_score - negative.negative_score


def triplet_json(pair: Pair, where: Mapping[bytes, Place]) -> dict[str, Any]:
    """A pair with its negatives as `honeloop triplets show --json` prints it."""
    return {
        "query": pair.query,
        "origin": pair.origin,
        "split": pair.split,
        "language": pair.language,
        "weight": pair.weight,
        "because": dict(pair.because),
        "why": why_positive(pair),
        "positive": _snippet_json(pair.positive_hash, pair.positive_text, where),
        "negatives": [
            {
                **_snippet_json(negative.content_hash, negative.text, where),
                "reason": negative.reason,
                "why": why_negative(negative),
                "weight": negative.weight,
                "positive_score": negative.positive_score,
                "negative_score": negative.negative_score,
                "margin": margin(negative),
            }
            for negative in pair.negatives
        ],
    }


def _snippet_json(content_hash: bytes, text: str, where: Mapping[bytes, Place]) -> dict[str, Any]:
    place = where.get(content_hash)
    found = (
        {"repository": None, "path": None, "symbol": None, "line": None}
        if place is None
        else {
            "repository": place.repository,
            "path": place.path,
            "symbol": place.symbol,
            "line": place.line,
        }
    )
    return {"content_hash": content_hash.hex(), **found, "text": text}
