"""From what people did to pairs: (query, snippet) with a weight, and the snippets known to be irrelevant."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from pipeline.config import Settings
from pipeline.feedback import store
from pipeline.feedback.confidence import (
    Signal,
    Verdict,
    capped_scales,
    person_verdict,
    resolve,
    supports,
)
from pipeline.feedback.grouping import group_key
from pipeline.store.connections import Database

NegativeReason = Literal["rejected", "passed-over"]
Shown = Mapping[UUID, Sequence[tuple[bytes, int]]]


@dataclass(frozen=True)
class FeedbackPair:
    """A query and a snippet that people found relevant for it.

    Attributes:
        query: As it was first typed; other spellings of it belong to the same group.
        group_key: What those spellings share, 32 bytes.
        content_hash: The snippet's content, a live one.
        weight: Over 0, at most 1: how far it is believed, after the caps on any one person.
        language: Of the snippet.
        users: How many people it rests on.
        negatives: Content hashes with the reason, the rejected first, then those passed over most often.
        unsure: Contents that somebody liked for the query too, but not so surely that they became a pair.
        newest_feedback_id: The latest judgement that bears on it.
    """

    query: str
    group_key: bytes
    content_hash: bytes
    weight: float
    language: str
    users: int
    negatives: tuple[tuple[bytes, NegativeReason], ...]
    unsure: frozenset[bytes]
    newest_feedback_id: int


@dataclass(frozen=True)
class FeedbackPairs:
    """All pairs, in a stable order, and how much of the feedback did not become one, by reason."""

    pairs: tuple[FeedbackPair, ...]
    dropped: dict[str, int]


@dataclass
class _Judged:
    """All that was done with one content for one query, by person."""

    signals: dict[str, list[Signal]] = field(default_factory=dict[str, list[Signal]])
    newest_id: int = 0


@dataclass
class _Group:
    """All that was done for one query, however it was spelled."""

    query: str
    judged: dict[bytes, _Judged] = field(default_factory=dict[bytes, _Judged])


@dataclass(frozen=True)
class _Positive:
    """A pair before its negatives and the cap."""

    content_hash: bytes
    confidence: float
    judged: _Judged
    supporters: tuple[str, ...]


def feedback_pairs(db: Database, settings: Settings) -> FeedbackPairs:
    """All pairs that the feedback supports: confidence over `settings.positive_confidence`, uncontradicted.

    A negative is a snippet that was rejected for the same query, or one that stood above the chosen one in
    the same search and got no click, copy or accept from anybody.
    """
    with db.connect() as connection:
        groups = _grouped(store.events(connection))
        live = store.live_languages(connection)
        shown = store.shown_above(connection)
    dropped: Counter[str] = Counter()
    positives: dict[bytes, list[_Positive]] = {}
    rejected: dict[bytes, list[bytes]] = {}
    for key, group in groups.items():
        positives[key], rejected[key] = _resolved(group, live, settings, dropped)
    liked = {key: _liked(group) for key, group in groups.items() if positives[key]}
    scales = _scales([positive for found in positives.values() for positive in found], settings)
    pairs = [
        FeedbackPair(
            query=group.query,
            group_key=key,
            content_hash=positive.content_hash,
            weight=positive.confidence
            * math.fsum(scales[person] for person in positive.supporters)
            / len(positive.supporters),
            language=live[positive.content_hash],
            users=len(positive.supporters),
            negatives=_negatives(positive, rejected[key], liked[key], shown, live),
            unsure=liked[key] - {each.content_hash for each in positives[key]} - frozenset(rejected[key]),
            newest_feedback_id=positive.judged.newest_id,
        )
        for key, group in groups.items()
        for positive in positives[key]
    ]
    pairs.sort(key=lambda pair: (pair.group_key, pair.content_hash))
    return FeedbackPairs(tuple(pairs), dict(sorted(dropped.items())))


def stats(db: Database) -> store.FeedbackStats:
    """How much feedback there is, for `honeloop status`."""
    with db.connect() as connection:
        return store.read_stats(connection)


def _person(event: store.Event) -> str:
    """Who it was, as far as that can be told: by name, by search, or else everyone a person of their own."""
    if event.user is not None:
        return f"name:{event.user}"
    return f"line:{event.id}" if event.imported else f"search:{event.search_id}"


def _grouped(events: Iterable[store.Event]) -> dict[bytes, _Group]:
    groups: dict[bytes, _Group] = {}
    keys: dict[str, bytes] = {}
    for event in events:
        key = keys.get(event.query) or keys.setdefault(event.query, group_key(event.query))
        group = groups.setdefault(key, _Group(" ".join(event.query.split())))
        judged = group.judged.setdefault(event.content_hash, _Judged())
        judged.newest_id = max(judged.newest_id, event.id)
        judged.signals.setdefault(_person(event), []).append(
            Signal(event.judgement, event.rank, event.dwell_ms, str(event.search_id), event.at, event.id)
        )
    return groups


def _resolved(
    group: _Group, live: Mapping[bytes, str], settings: Settings, dropped: Counter[str]
) -> tuple[list[_Positive], list[bytes]]:
    """The group's positives and its rejected contents; everything else is counted in `dropped`."""
    positives: list[_Positive] = []
    rejected: list[bytes] = []
    for content_hash, judged in group.judged.items():
        if content_hash not in live:
            dropped["about a snippet that vanished"] += 1
            continue
        verdicts = _verdicts(judged, settings)
        dropped["repeated by the same person"] += sum(
            len(signals) - len({signal.judgement for signal in signals})
            for signals in judged.signals.values()
        )
        resolution = resolve(verdicts.values(), settings.positive_confidence)
        dropped["outvoted by other people"] += resolution.outvoted
        if resolution.outcome == "positive":
            supporters = [
                person
                for person, verdict in verdicts.items()
                if supports(verdict, settings.positive_confidence)
            ]
            positives.append(
                _Positive(content_hash, resolution.confidence, judged, tuple(sorted(supporters)))
            )
        elif resolution.outcome == "negative":
            rejected.append(content_hash)
        elif resolution.outcome == "contradiction":
            dropped["contradictory"] += 1
        else:
            dropped["not over the confidence threshold"] += 1
    if not positives:
        dropped["rejected, with nothing accepted for the query"] += len(rejected)
    for reason in [reason for reason, count in dropped.items() if count == 0]:
        del dropped[reason]
    return positives, sorted(rejected)


def _verdicts(judged: _Judged, settings: Settings) -> dict[str, Verdict]:
    return {
        person: person_verdict(
            signals,
            max_votes=settings.max_user_pairs_per_snippet,
            unknown_rank=settings.imported_click_confidence,
        )
        for person, signals in judged.signals.items()
    }


def _scales(positives: Sequence[_Positive], settings: Settings) -> dict[str, float]:
    """What each person's part of a pair's weight is multiplied by; a pair is shared by all it rests on."""
    totals: dict[str, float] = {}
    for positive in positives:
        for person in positive.supporters:
            part = positive.confidence / len(positive.supporters)
            totals[person] = totals.get(person, 0.0) + part
    return capped_scales(totals, settings.max_user_share)


def _liked(group: _Group) -> frozenset[bytes]:
    """What anybody clicked, copied or accepted for the query."""
    return frozenset(
        content_hash
        for content_hash, judged in group.judged.items()
        if any(signal.judgement != "reject" for signals in judged.signals.values() for signal in signals)
    )


def _negatives(
    positive: _Positive,
    rejected: Sequence[bytes],
    liked: frozenset[bytes],
    shown: Shown,
    live: Mapping[bytes, str],
) -> tuple[tuple[bytes, NegativeReason], ...]:
    """The rejected, then what was passed over on the way to this positive, the most often so first."""
    passed_over: Counter[bytes] = Counter()
    for person in positive.supporters:
        lowest: dict[UUID, int] = {}
        for signal in positive.judged.signals[person]:
            if signal.judgement != "reject" and signal.rank is not None:
                lowest[UUID(signal.search)] = signal.rank  # one snippet has one rank in a search
        for search, rank in lowest.items():
            for content_hash, above in shown.get(search, ()):
                if above < rank and content_hash in live and content_hash not in liked:
                    passed_over[content_hash] += 1
    for content_hash in rejected:
        passed_over.pop(content_hash, None)
    ordered = sorted(passed_over, key=lambda content_hash: (-passed_over[content_hash], content_hash))
    return (
        *((content_hash, "rejected") for content_hash in rejected),
        *((content_hash, "passed-over") for content_hash in ordered),
    )
