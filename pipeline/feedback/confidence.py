"""How far a judgement is believed: the confidence table, one person's verdict, several people's, and the cap.

Pure functions over values; nothing here knows of the database. The figures are the contract of DESIGN §6.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Judgement = Literal["click", "copy", "accept", "reject"]
Stance = Literal["accept", "reject", "implicit"]
Outcome = Literal["positive", "negative", "weak", "contradiction"]

ACCEPT = 0.95
REJECT = 0.95  # as sure as an accept: only people who accept can outweigh people who reject
COPY = 0.9
CLICK_WITH_DWELL = 0.85
CLICK_NEAR_THE_TOP = 0.8  # ranks 1–3
CLICK_FURTHER_DOWN = 0.5  # ranks 4–6
CLICK_BELOW = 0.0  # the table ends at rank 6: no claim is made for a click below it
LONG_DWELL_MS = 10_000


@dataclass(frozen=True)
class Signal:
    """One thing a person did with a snippet that was shown for a query.

    Attributes:
        judgement: What they did.
        rank: Where it was shown, from 1; None when the judgement was imported.
        dwell_ms: How long they stayed, if that is known.
        search: Which search it was shown in, so that the same act told twice is told apart from two acts.
        at: When.
        number: Order of arrival: decides between signals of the same moment.
    """

    judgement: Judgement
    rank: int | None
    dwell_ms: int | None
    search: str
    at: datetime
    number: int


@dataclass(frozen=True)
class Verdict:
    """What one person says of one snippet for one query, after any change of mind.

    Attributes:
        stance: What they said last in so many words, or `implicit` if they only clicked or copied.
        confidence: How far that is believed, 0 to 1.
        votes: How often it counts against other people's, at least 1.
    """

    stance: Stance
    confidence: float
    votes: int


@dataclass(frozen=True)
class Resolution:
    """What people together say of one snippet for one query.

    Attributes:
        outcome: `positive`; `negative`; `weak` (only signs at or below the threshold); or `contradiction`
            (as many accept as reject).
        confidence: How far the outcome is believed: for a contested positive, times the share that says so.
        outvoted: How many people's verdicts were overruled.
    """

    outcome: Outcome
    confidence: float
    outvoted: int


def signal_confidence(
    judgement: Judgement,
    rank: int | None,
    dwell_ms: int | None,
    *,
    unknown_rank: float = CLICK_FURTHER_DOWN,
) -> float:
    """How far one signal alone is believed to mean "relevant" (for a reject: "not relevant"), 0 to 1.

    Args:
        judgement: What the person did.
        rank: Where the snippet was shown, from 1; None if that is not known.
        dwell_ms: How long they stayed. Over ten seconds with a click is 0.85 at any rank.
        unknown_rank: Confidence of a click whose rank is not known. The lower of the table's two values by
            default, because only a rank of 1 to 3 earns the higher one.
    """
    if judgement != "click":
        return {"accept": ACCEPT, "reject": REJECT, "copy": COPY}[judgement]
    if dwell_ms is not None and dwell_ms > LONG_DWELL_MS:
        return CLICK_WITH_DWELL
    if rank is None:
        return unknown_rank
    if rank <= 3:
        return CLICK_NEAR_THE_TOP
    return CLICK_FURTHER_DOWN if rank <= 6 else CLICK_BELOW


def person_verdict(signals: Collection[Signal], *, max_votes: int, unknown_rank: float) -> Verdict:
    """One person's verdict: the last explicit judgement, or else the most telling of the other signs.

    Args:
        signals: All this person did with one snippet for one query, at least one, in any order.
        max_votes: How often the same judgement counts when it was given in that many searches.
        unknown_rank: See `signal_confidence`.
    """
    explicit = sorted(
        (signal for signal in signals if signal.judgement in {"accept", "reject"}),
        key=lambda signal: (signal.at, signal.number),
    )
    if not explicit:
        confidence = max(
            signal_confidence(signal.judgement, signal.rank, signal.dwell_ms, unknown_rank=unknown_rank)
            for signal in signals
        )
        return Verdict("implicit", confidence, 1)
    last = explicit[-1].judgement
    since_the_change_of_mind: set[str] = set()
    for signal in reversed(explicit):
        if signal.judgement != last:
            break
        since_the_change_of_mind.add(signal.search)
    votes = min(len(since_the_change_of_mind), max_votes)
    return Verdict("accept", ACCEPT, votes) if last == "accept" else Verdict("reject", REJECT, votes)


def resolve(verdicts: Collection[Verdict], threshold: float) -> Resolution:
    """What several people's verdicts come to: the heavier side wins, and a tie is dropped.

    A reject outweighs every click and copy, however many: those count only where nobody rejects. They are not
    added up either: people click the same rank for the same reason, so they are no independent evidence.

    Args:
        verdicts: One per person, at least one.
        threshold: A positive's confidence, before it is contested, is above this.
    """
    accepting = sum(verdict.votes for verdict in verdicts if verdict.stance == "accept")
    rejecting = sum(verdict.votes for verdict in verdicts if verdict.stance == "reject")
    if rejecting == 0:
        confidence = max(verdict.confidence for verdict in verdicts)
        return Resolution("positive" if confidence > threshold else "weak", confidence, 0)
    if accepting == rejecting:
        return Resolution("contradiction", 0.0, 0)
    share = max(accepting, rejecting) / (accepting + rejecting)
    if accepting > rejecting:
        overruled = sum(verdict.stance == "reject" for verdict in verdicts)
        outcome: Outcome = "positive" if threshold < ACCEPT else "weak"
        return Resolution(outcome, ACCEPT * share, overruled)
    overruled = sum(verdict.stance != "reject" for verdict in verdicts)
    return Resolution("negative", REJECT * share, overruled)


def supports(verdict: Verdict, threshold: float) -> bool:
    """Whether `verdict` is one of those a positive rests on."""
    return verdict.stance != "reject" and verdict.confidence > threshold


def capped_scales(totals: Mapping[str, float], max_share: float) -> dict[str, float]:
    """What each person's weight is multiplied by, so that nobody has more than `max_share` of all weight.

    The level L is sought at which people above it are cut, so that L is `max_share` of what is left: with
    the k heaviest cut and r the weight of the others, L = share · (k · L + r), so
    L = share · r / (1 − share · k).

    Args:
        totals: Weight per person, each above 0.
        max_share: Above 0. One person alone is not cut, and n people cannot all stay below 1/n, so 1/n is the
            least share that is enforced.
    """
    if len(totals) < 2:
        return dict.fromkeys(totals, 1.0)
    share = max(max_share, 1 / len(totals))
    heaviest = sorted(totals.values(), reverse=True)
    level = heaviest[0]
    for cut, weight in enumerate(heaviest):
        level = share * math.fsum(heaviest[cut:]) / (1 - share * cut)
        if weight <= level * (1 + 1e-9):  # the heaviest that is not cut keeps below the level: found
            break
    return {person: min(1.0, level / weight) for person, weight in totals.items()}
