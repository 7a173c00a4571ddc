"""Two rankings drafted into one, and which of the two people's choices speak for. Pure and seeded.

Team-draft interleaving (Radlinski, Kurup & Joachims, "How does clickthrough data reflect retrieval
quality?", CIKM 2008, algorithm 2): as two captains pick their teams, the rankings take turns; who picks first
is tossed anew for each pair of picks; a pick is the best of the ranking that is not yet taken, and choices
count for the team that picked. Whoever searches sees one list and cannot tell, and both models face the
same person, query and place, so far fewer searches tell than with two groups of people.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np

from pipeline.evaluation.permutation import sign_flip_test

Team = Literal["serving", "candidate"]
Preference = Literal["candidate preferred", "serving preferred", "no difference found", "not enough evidence"]
Item = TypeVar("Item", bound=Hashable)

# With five people the sign-flip test cannot give less than 2 / 2**5 = 0.0625, whatever they chose.
MIN_PEOPLE = 6
_CREDIT = frozenset({"click", "copy", "accept"})
_SCORES: Mapping[str, float] = {"win": 1.0, "tie": 0.5, "loss": 0.0}


@dataclass(frozen=True)
class Drafted(Generic[Item]):
    """One result of the common list, and the team it is credited to; None: it was left over."""

    item: Item
    team: Team | None


@dataclass(frozen=True)
class Choice:
    """What people did in one interleaved search, by who searched; None: nobody knows who."""

    person: str | None
    outcome: Literal["win", "loss", "tie"]  # of the candidate


@dataclass(frozen=True)
class OnlineOutcome:
    """What interleaved searches say of a candidate.

    Attributes:
        searches: How many were interleaved.
        wins: In how many the candidate's results were chosen more often.
        losses: In how many the serving model's were.
        ties: In how many both were chosen equally often; where nothing was chosen, nothing is counted.
        people: How many people the decided ones are from; a search of nobody known is one of its own.
        preference: The candidate's share: (wins + ties / 2) / decided; 0.5 is no preference.
        low: The lower end of its interval (95%).
        high: The upper end.
        p_value: Two-sided, of no preference.
        verdict: What follows, if anything.
    """

    searches: int
    wins: int
    losses: int
    ties: int
    people: int
    preference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    verdict: Preference

    @property
    def decided(self) -> int:
        """In how many searches something was chosen."""
        return self.wins + self.losses + self.ties


def takes_part(search_id: str, share: float) -> bool:
    """Whether a search is one of the share that is interleaved: the same answer whenever it is asked."""
    return _draw(f"share {search_id}") / 2**64 < share


def seed_of(search_id: str) -> int:
    """The seed of a search's draft, so that its list can be made again."""
    return _draw(f"draft {search_id}")


def team_draft(serving: Sequence[Item], candidate: Sequence[Item], k: int, seed: int) -> list[Drafted[Item]]:
    """The common list of two rankings, at most `k` long; no item twice.

    When one ranking has nothing more to pick, what the other has left follows without a team: there was no
    choice between the two.
    """
    toss = random.Random(seed)
    rankings: dict[Team, Sequence[Item]] = {"serving": serving, "candidate": candidate}
    places: dict[Team, int] = {"serving": 0, "candidate": 0}
    picks: dict[Team, int] = {"serving": 0, "candidate": 0}
    taken: set[Item] = set()
    drafted: list[Drafted[Item]] = []

    def has_more(team: Team) -> bool:
        while places[team] < len(rankings[team]) and rankings[team][places[team]] in taken:
            places[team] += 1
        return places[team] < len(rankings[team])

    def pick(team: Team, credited: Team | None) -> None:
        item = rankings[team][places[team]]
        taken.add(item)
        drafted.append(Drafted(item, credited))

    while len(drafted) < k and has_more("serving") and has_more("candidate"):
        behind = picks["candidate"] < picks["serving"]
        even = picks["candidate"] == picks["serving"]
        team: Team = "candidate" if behind or (even and toss.random() < 0.5) else "serving"
        pick(team, team)
        picks[team] += 1
    for team in ("serving", "candidate"):
        while len(drafted) < k and has_more(team):
            pick(team, None)
    return drafted


def outcome_of(
    teams: Mapping[Item, Team | None], judgements: Mapping[Item, Collection[str]]
) -> Literal["win", "loss", "tie"] | None:
    """Whom the choices of one search speak for; None if nothing was chosen that has a team.

    A result counts once, however often it was clicked, copied or accepted, and not at all if it was rejected.
    """
    counts: dict[Team, int] = {"serving": 0, "candidate": 0}
    for item, team in teams.items():
        said = set(judgements.get(item, ()))
        if team is not None and said & _CREDIT and "reject" not in said:
            counts[team] += 1
    if not any(counts.values()):
        return None
    difference = counts["candidate"] - counts["serving"]
    return "win" if difference > 0 else "loss" if difference < 0 else "tie"


def online_outcome(
    choices: Sequence[Choice],
    searches: int,
    *,
    min_searches: int,
    significance: float,
    resamples: int,
    permutations: int,
    seed: int,
) -> OnlineOutcome:
    """Whether people prefer the candidate.

    One person's searches are alike, so people are what the interval resamples and the test flips the signs
    of, not searches: one busy person cannot make a preference of many.

    Args:
        choices: The searches in which something was chosen.
        searches: How many were interleaved, with those in which nothing was.
        min_searches: With fewer choices, or fewer than six people, there is not enough evidence.
        significance: What the p-value must be below.
        resamples: For the interval.
        permutations: For the p-value.
        seed: Of both.
    """
    scores: dict[str, list[float]] = {}
    for number, choice in enumerate(choices):
        person = f"nobody {number}" if choice.person is None else f"person {choice.person}"
        scores.setdefault(person, []).append(_SCORES[choice.outcome])
    counts = {name: sum(choice.outcome == name for choice in choices) for name in _SCORES}
    if not scores:
        return OnlineOutcome(searches, 0, 0, 0, 0, None, None, None, None, "not enough evidence")
    sums = np.array([sum(each) for each in scores.values()])
    sizes = np.array([len(each) for each in scores.values()], dtype=np.float64)
    preference = float(sums.sum() / sizes.sum())
    drawn = np.random.default_rng(seed).integers(0, len(sums), size=(resamples, len(sums)))
    shares = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = (float(each) for each in np.quantile(shares, [0.025, 0.975]))
    p_value = sign_flip_test(sums - sizes / 2, permutations, seed)
    verdict: Preference = "no difference found"
    if len(choices) < min_searches or len(scores) < MIN_PEOPLE:
        verdict = "not enough evidence"
    elif p_value < significance:
        verdict = "candidate preferred" if preference > 0.5 else "serving preferred"
    return OnlineOutcome(
        searches=searches,
        wins=counts["win"],
        losses=counts["loss"],
        ties=counts["tie"],
        people=len(scores),
        preference=preference,
        low=low,
        high=high,
        p_value=p_value,
        verdict=verdict,
    )


def _draw(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
