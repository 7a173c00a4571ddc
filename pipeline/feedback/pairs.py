"""From what people did to pairs: (query, snippet) with a weight, and the snippets known to be irrelevant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.config import Settings
from pipeline.feedback import store
from pipeline.feedback.confidence import Examination, Judgement
from pipeline.feedback.judged import Judged, grouped, is_nameless
from pipeline.feedback.negatives import (
    JudgedNegative,
    NegativeReason,
    passed_over_negatives,
    refused_negatives,
)
from pipeline.feedback.position_bias import PositionBias, estimate_position_bias
from pipeline.feedback.resolving import Positive, Rejected, resolved, verdicts_of
from pipeline.feedback.weights import Given, capped_weights, inverse_propensity, self_normalised
from pipeline.store.connections import Connection, Database

__all__ = ["FeedbackPair", "FeedbackPairs", "JudgedNegative", "NegativeReason", "feedback_pairs"]

# What a pair is said to rest on: the strongest of these.
STRENGTH: tuple[Judgement, ...] = ("accept", "copy", "click")


@dataclass(frozen=True)
class FeedbackPair:
    """A query and a snippet that people found relevant for it.

    Attributes:
        query: As it was first typed; other spellings of it belong to the same group.
        group_key: What those spellings share, 32 bytes.
        content_hash: The snippet's content, a live one.
        weight: Over 0, at most 1: how far it is believed, after the correction for its rank and the caps on
            any one person.
        language: Of the snippet.
        users: How many people it rests on.
        negatives: The rejected, then those passed over, the heaviest first.
        unsure: Contents that somebody liked for the query too, but not so surely that they became a pair.
        newest_feedback_id: The latest judgement that bears on it.
        judgement: The strongest it rests on.
        at: When the latest judgement it rests on was made.
    """

    query: str
    group_key: bytes
    content_hash: bytes
    weight: float
    language: str
    users: int
    negatives: tuple[JudgedNegative, ...]
    unsure: frozenset[bytes]
    newest_feedback_id: int
    judgement: Judgement
    at: datetime


@dataclass(frozen=True)
class FeedbackPairs:
    """All pairs, in a stable order; how much of the feedback did not become one, by reason; and position
    bias.
    """

    pairs: tuple[FeedbackPair, ...]
    dropped: dict[str, int]
    position_bias: PositionBias


def feedback_pairs(db: Database, settings: Settings) -> FeedbackPairs:
    """All pairs that the feedback supports: confidence over `settings.positive_confidence`, uncontradicted.

    A negative is a snippet that was rejected for the same query, or one that stood above the chosen one in
    the same search and got no click, copy or accept from anybody.
    """
    with db.connect() as connection:
        return pairs_in(connection, settings)


def position_bias(connection: Connection, settings: Settings) -> PositionBias:
    """How likely each rank is looked at, as far as the searches in the database tell."""
    return estimate_position_bias(
        store.shown_at_several_ranks(connection, settings.propensity_max_rank),
        max_rank=settings.propensity_max_rank,
        min_ranks=min(settings.propensity_min_ranks, settings.propensity_max_rank),
        min_clicks=settings.propensity_min_clicks,
        max_share=settings.max_user_share,
    )


def pairs_in(connection: Connection, settings: Settings, *, with_vanished: bool = False) -> FeedbackPairs:
    """`feedback_pairs` as the connection's transaction sees it.

    Args:
        connection: In a transaction.
        settings: See "Feedback and training set" there.
        with_vanished: Pairs of code that is gone, too.
    """
    groups = grouped(store.events(connection))
    live = store.languages(connection, with_vanished=with_vanished)
    shown = store.shown_above(connection)
    bias = position_bias(connection, settings)
    verdicts = verdicts_of(groups, settings, bias.examination)
    dropped: Counter[str] = Counter()
    positives: dict[bytes, list[Positive]] = {}
    rejected: dict[bytes, list[Rejected]] = {}
    for key, group in groups.items():
        positives[key], rejected[key] = resolved(group, verdicts[key], live, settings, dropped)
    every = [positive for found in positives.values() for positive in found]
    weights = _weights(every, bias.examination, settings)
    refused = refused_negatives({key: rejected[key] for key in groups if positives[key]}, settings, dropped)
    liked = {key: group.liked() for key, group in groups.items() if positives[key]}
    pairs = [
        FeedbackPair(
            query=group.query,
            group_key=key,
            content_hash=positive.content_hash,
            weight=weights[id(positive)],
            language=live[positive.content_hash],
            users=len(positive.supporters),
            negatives=(
                *refused[key],
                *passed_over_negatives(
                    positive,
                    shown,
                    bias.examination,
                    eligible=live.keys() - liked[key] - {each.content_hash for each in rejected[key]},
                ),
            ),
            unsure=liked[key]
            - {each.content_hash for each in positives[key]}
            - {each.content_hash for each in rejected[key]},
            newest_feedback_id=positive.judged.newest_id,
            judgement=_strongest(positive),
            at=_latest(positive),
        )
        for key, group in groups.items()
        for positive in positives[key]
    ]
    pairs.sort(key=lambda pair: (pair.group_key, pair.content_hash))
    counted = {reason: count for reason, count in sorted(dropped.items()) if count}
    return FeedbackPairs(tuple(pairs), counted, bias)


def stats(db: Database) -> store.FeedbackStats:
    """How much feedback there is, for `honeloop status`."""
    with db.connect() as connection:
        return store.read_stats(connection)


def _weights(positives: Sequence[Positive], examination: Examination, settings: Settings) -> dict[int, float]:
    """Each positive's weight by its `id`: confidence, corrected for its rank, after the caps on people.

    Only what rests on clicks and copies alone is corrected: who judges in so many words has looked.
    """
    weights = {id(positive): positive.confidence for positive in positives}
    implicit = [positive for positive in positives if positive.implicit]
    if examination.estimated and implicit:
        corrections = [
            inverse_propensity(
                [_looked_at(positive.judged, person, examination) for person in positive.supporters],
                settings.max_propensity_correction,
            )
            for positive in implicit
        ]
        corrected = self_normalised([positive.confidence for positive in implicit], corrections)
        weights.update((id(positive), weight) for positive, weight in zip(implicit, corrected, strict=True))
    capped = capped_weights(
        [Given(weights[id(each)], each.content_hash, each.supporters) for each in positives],
        max_share=settings.max_user_share,
        max_per_snippet=settings.max_user_snippet_weight,
        nameless=is_nameless,
    )
    return {id(positive): weight for positive, weight in zip(positives, capped, strict=True)}


def _looked_at(judged: Judged, person: str, examination: Examination) -> float:
    """How likely it was that this person looked at what they chose: at the best rank they chose it at."""
    return max(
        examination.at(signal.rank) for signal in judged.signals[person] if signal.judgement != "reject"
    )


def _strongest(positive: Positive) -> Judgement:
    said = {signal.judgement for person in positive.supporters for signal in positive.judged.signals[person]}
    return next(judgement for judgement in STRENGTH if judgement in said)


def _latest(positive: Positive) -> datetime:
    return max(
        signal.at
        for person in positive.supporters
        for signal in positive.judged.signals[person]
        if signal.judgement != "reject"
    )
