"""The snippets that people showed to be irrelevant for a query, and how much each of them counts.

A rejected one was looked at; one that was passed over, standing above the chosen one, only perhaps. So it
weighs less than any rejected one, in proportion to how likely it was looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple
from uuid import UUID

from pipeline.config import Settings
from pipeline.feedback.confidence import Examination, capped_scales, passed_over_weight, rejected_weight
from pipeline.feedback.resolving import Positive, Rejected
from pipeline.feedback.weights import mean_scale, shared_totals

NegativeReason = Literal["rejected", "passed-over"]
Shown = Mapping[UUID, Sequence[tuple[bytes, int]]]


class JudgedNegative(NamedTuple):
    """A content that people showed to be irrelevant for a query, how, and how much that counts (0 to 1]."""

    content_hash: bytes
    reason: NegativeReason
    weight: float


def refused_negatives(
    rejected: Mapping[bytes, Sequence[Rejected]], settings: Settings, dropped: Counter[str]
) -> dict[bytes, tuple[JudgedNegative, ...]]:
    """The rejected negatives of each group, the heaviest first, no more than one pair takes."""
    totals = shared_totals([(each.share, each.rejecters) for found in rejected.values() for each in found])
    scales = capped_scales(totals, settings.max_user_share)
    refused: dict[bytes, tuple[JudgedNegative, ...]] = {}
    for key, found in rejected.items():
        weighed = sorted(
            (
                JudgedNegative(
                    each.content_hash,
                    "rejected",
                    rejected_weight(each.share * mean_scale(each.rejecters, scales)),
                )
                for each in found
            ),
            key=lambda negative: (-negative.weight, negative.content_hash),
        )
        refused[key] = tuple(weighed[: settings.max_rejected_per_pair])
        dropped["rejected, beyond what one pair takes"] += len(weighed) - len(refused[key])
    return refused


def passed_over_negatives(
    positive: Positive, shown: Shown, examination: Examination, *, eligible: Collection[bytes]
) -> list[JudgedNegative]:
    """What was passed over on the way to a positive, the surest first.

    Each person counts once for each snippet, with the search of theirs in which they most likely looked at
    it: who was sent a link to one snippet in somebody else's search has passed over nothing.

    Args:
        positive: What was chosen.
        shown: Per search: content hash and rank of what stood above the lowest snippet chosen in it.
        examination: How likely each rank is looked at.
        eligible: What may be a negative: neither rejected by people, nor liked by anybody, for the query.
    """
    looked_at: dict[bytes, list[float]] = {}
    for person in positive.supporters:
        lowest = {
            UUID(signal.search): signal.rank  # one snippet has one rank in a search
            for signal in positive.judged.signals[person]
            if signal.judgement != "reject" and signal.rank is not None and signal.saw_the_list
        }
        theirs: dict[bytes, float] = {}
        for search, rank in lowest.items():
            for content_hash, above in shown.get(search, ()):
                if above < rank and content_hash in eligible:
                    theirs[content_hash] = max(theirs.get(content_hash, 0.0), examination.at(above))
        for content_hash, likely in theirs.items():
            looked_at.setdefault(content_hash, []).append(likely)
    negatives = [
        JudgedNegative(content_hash, "passed-over", passed_over_weight(likely))
        for content_hash, likely in looked_at.items()
    ]
    return sorted(negatives, key=lambda negative: (-negative.weight, negative.content_hash))
