"""What people together say of each snippet for each query: relevant, irrelevant, or nothing of use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipeline.config import Settings
from pipeline.feedback.confidence import (
    REJECT,
    Examination,
    Verdict,
    capped_scales,
    person_verdict,
    resolve,
    supports,
    vote_scales,
)
from pipeline.feedback.judged import Group, Judged


@dataclass(frozen=True)
class Positive:
    """A pair before its negatives and the caps.

    Attributes:
        content_hash: What is relevant.
        confidence: How far that is believed.
        judged: All that was done with it for the query.
        supporters: The people it rests on, at least one, sorted.
        implicit: Whether nobody said so in so many words: it rests on clicks and copies alone.
    """

    content_hash: bytes
    confidence: float
    judged: Judged
    supporters: tuple[str, ...]
    implicit: bool


@dataclass(frozen=True)
class Rejected:
    """A content that was rejected, and by more people than accepted it.

    Attributes:
        content_hash: What is irrelevant.
        share: The share of their votes in all votes, over a half, at most 1.
        rejecters: Who they are, at least one, sorted.
    """

    content_hash: bytes
    share: float
    rejecters: tuple[str, ...]


Verdicts = Mapping[bytes, Mapping[bytes, dict[str, Verdict]]]


def verdicts_of(groups: Mapping[bytes, Group], settings: Settings, examination: Examination) -> Verdicts:
    """Everybody's verdicts, by group and content; the votes of those who judge without measure are cut."""
    found = {
        key: {
            content_hash: {
                person: person_verdict(
                    signals,
                    max_votes=settings.max_user_pairs_per_snippet,
                    unknown_rank=settings.imported_click_confidence,
                    examination=examination,
                )
                for person, signals in judged.signals.items()
            }
            for content_hash, judged in group.judged.items()
        }
        for key, group in groups.items()
    }
    explicit = Counter(
        person
        for contents in found.values()
        for people in contents.values()
        for person, verdict in people.items()
        if verdict.stance != "implicit"
    )
    scales = vote_scales(capped_scales(dict(sorted(explicit.items())), settings.max_user_share))
    for contents in found.values():
        for people in contents.values():
            for person, verdict in people.items():
                if verdict.stance != "implicit" and scales[person] < 1:
                    people[person] = replace(verdict, votes=verdict.votes * scales[person])
    return found


def resolved(
    group: Group,
    said: Mapping[bytes, dict[str, Verdict]],
    live: Mapping[bytes, str],
    settings: Settings,
    dropped: Counter[str],
) -> tuple[list[Positive], list[Rejected]]:
    """The group's positives and its rejected contents; everything else is counted in `dropped`."""
    positives: list[Positive] = []
    rejected: list[Rejected] = []
    for content_hash, judged in group.judged.items():
        if content_hash not in live:
            dropped["about a snippet that vanished"] += 1
            continue
        verdicts = said[content_hash]
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
                Positive(
                    content_hash,
                    resolution.confidence,
                    judged,
                    tuple(sorted(supporters)),
                    implicit=all(verdict.stance == "implicit" for verdict in verdicts.values()),
                )
            )
        elif resolution.outcome == "negative":
            rejecters = [person for person, verdict in verdicts.items() if verdict.stance == "reject"]
            rejected.append(Rejected(content_hash, resolution.confidence / REJECT, tuple(sorted(rejecters))))
        elif resolution.outcome == "contradiction":
            dropped["contradictory"] += 1
        else:
            dropped["not over the confidence threshold"] += 1
    if not positives:
        dropped["rejected, with nothing accepted for the query"] += len(rejected)
    return positives, rejected
