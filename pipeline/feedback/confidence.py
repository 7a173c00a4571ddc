"""How far a judgement is believed: the confidence table, one person's verdict, several people's, and the cap.

Pure functions over values; nothing here knows of the database. The figures are the contract of DESIGN §6.

Position. People look at the top of a list more than at its end. The table answers with less confidence in a
click further down. The position-based model (Richardson, Dominowska & Ragno 2007, "Predicting Clicks";
Chuklin, Markov & de Rijke 2015, "Click Models for Web Search", §3.3) says otherwise: a click means that the
snippet was looked at *and* was relevant, so a click far down is no weaker evidence, only rarer. As soon as
there is enough data to know how rare (position_bias.py), it is believed instead, as far down as it is known:
a click has the table's confidence for the surest click at every such rank, and its weight makes up for its
rarity (weights.py). Whatever the data say, no click is believed more than the table's surest one, and accept,
copy and reject are believed as ever.
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

# A snippet passed over by somebody who surely looked at it is a negative of this weight; a rejected one, of
# 1.
PASSED_OVER = 0.5
# Who has given so many times what the cap allows keeps one vote per snippet; beyond, the vote shrinks with
# it. With the default cap of a half, that is who made three quarters of all judgements.
VOTE_GRACE = 3


@dataclass(frozen=True)
class Examination:
    """How likely a snippet is looked at, by the rank it is shown at.

    Attributes:
        by_rank: From rank 1 on, relative to rank 1, each over 0, at most 1.
        estimated: Whether that comes from the data; else it is what the confidence table implies.
    """

    by_rank: tuple[float, ...]
    estimated: bool

    def at(self, rank: int | None) -> float:
        """For a rank; below the last one known, as at that; 1 where the rank is not known."""
        return 1.0 if rank is None else self.by_rank[min(rank, len(self.by_rank)) - 1]

    def estimates(self, rank: int | None) -> bool:
        """Whether the data say how likely a snippet at this rank is looked at."""
        return self.estimated and rank is not None and rank <= len(self.by_rank)


# The table, read as a position-based model: a click is believed by how likely its rank is looked at.
BY_THE_TABLE = Examination(
    (1.0,) * 3 + (CLICK_FURTHER_DOWN / CLICK_NEAR_THE_TOP,) * 3,
    estimated=False,
)


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
        saw_the_list: Whether it was their own search; if not, they may have seen no more than the snippet.
    """

    judgement: Judgement
    rank: int | None
    dwell_ms: int | None
    search: str
    at: datetime
    number: int
    saw_the_list: bool = True


@dataclass(frozen=True)
class Verdict:
    """What one person says of one snippet for one query, after any change of mind.

    Attributes:
        stance: What they said last in so many words, or `implicit` if they only clicked or copied.
        confidence: How far that is believed, 0 to 1.
        votes: How often it counts against other people's: a whole number from 1, or less than that for
            somebody who judges without measure (`vote_scales`).
    """

    stance: Stance
    confidence: float
    votes: float


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
    examination: Examination = BY_THE_TABLE,
) -> float:
    """How far one signal alone is believed to mean "relevant" (for a reject: "not relevant"), 0 to 1.

    Args:
        judgement: What the person did.
        rank: Where the snippet was shown, from 1; None if that is not known.
        dwell_ms: How long they stayed. Over ten seconds with a click is 0.85 at any rank.
        unknown_rank: Confidence of a click whose rank is not known. The lower of the table's two values by
            default, because only a rank of 1 to 3 earns the higher one.
        examination: Where it is estimated from the data, a click's confidence no longer falls with its rank.
    """
    if judgement != "click":
        return {"accept": ACCEPT, "reject": REJECT, "copy": COPY}[judgement]
    if dwell_ms is not None and dwell_ms > LONG_DWELL_MS:
        return CLICK_WITH_DWELL
    if rank is None:
        return unknown_rank
    if rank <= 3 or examination.estimates(rank):
        return CLICK_NEAR_THE_TOP
    return CLICK_FURTHER_DOWN if rank <= 6 else CLICK_BELOW


def person_verdict(
    signals: Collection[Signal],
    *,
    max_votes: int,
    unknown_rank: float,
    examination: Examination = BY_THE_TABLE,
) -> Verdict:
    """One person's verdict: the last explicit judgement, or else the most telling of the other signs.

    Args:
        signals: All this person did with one snippet for one query, at least one, in any order.
        max_votes: How often the same judgement counts when it was given in that many searches.
        unknown_rank: See `signal_confidence`.
        examination: See `signal_confidence`.
    """
    explicit = sorted(
        (signal for signal in signals if signal.judgement in {"accept", "reject"}),
        key=lambda signal: (signal.at, signal.number),
    )
    if not explicit:
        confidence = max(
            signal_confidence(
                signal.judgement,
                signal.rank,
                signal.dwell_ms,
                unknown_rank=unknown_rank,
                examination=examination,
            )
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
    if math.isclose(accepting, rejecting):
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


def vote_scales(scales: Mapping[str, float]) -> dict[str, float]:
    """What each person's votes are multiplied by where people contradict each other.

    Somebody who judges much is heard like everybody else; only who has given more than `VOTE_GRACE` times
    what the cap allows is heard less, or one name run by a script could strike out everybody's judgements.

    Args:
        scales: Of `capped_scales` over all judgements in so many words.
    """
    return {person: min(1.0, VOTE_GRACE * scale) for person, scale in scales.items()}


def passed_over_weight(examined: Collection[float]) -> float:
    """The weight of a negative that people passed over.

    `PASSED_OVER` times the probability that at least one of them looked at it, if they looked independently.

    Args:
        examined: For each person, how likely they looked at it, 0 to 1.
    """
    return PASSED_OVER * (1 - math.prod(1 - each for each in examined))


def rejected_weight(believed: float) -> float:
    """The weight of a rejected negative: from just above any that was passed over, up to 1.

    Args:
        believed: The share of votes that reject it, times what the caps leave of those people, 0 to 1.
    """
    return PASSED_OVER + (1 - PASSED_OVER) * believed
