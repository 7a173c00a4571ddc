"""How likely a snippet is looked at, by its rank: estimated from clicks, without ever shuffling a ranking.

The model is the position-based one: a click at rank k on snippet d for query q has the probability p(k) ·
r(q, d), where p(k) is how likely rank k is looked at. To tell p from r, the same (query, snippet) has to be
seen at different ranks. That happens by itself: every model version ranks a little differently, and code
comes and goes. Agarwal, Zaitsev, Wang, Li, Najork & Joachims 2019, "Estimating Position Bias without
Intrusive Interventions" (WSDM), harvest these natural experiments: for ranks k and k' they take the set S(k,
k') of all (q, d) shown at both, each counting as much at k as at k', so that their mean relevance r(k, k') is
the same on both sides, and maximise over all p and r ("AllPairs")

    Σ over k, k' in it of  clicks · log(p(k) r(k, k')) + (shown − clicks) · log(1 − p(k) r(k, k')).

We maximise it by expectation-maximisation, as the position-based model is fitted to single documents
(Chuklin, Markov & de Rijke 2015, "Click Models for Web Search", §4.2), with the sets in the place of
documents: unlike r(q, d), which rests on a handful of impressions, r(k, k') rests on many.

Assumptions: whether somebody looks depends on the rank alone; a snippet that was looked at is chosen by its
relevance to the query alone, so an edit of its code in between is ignored; and why it moved from one rank to
the other has nothing to do with whether it would be clicked that time. It is known only up to a factor, so
p(1) is set to 1.

How much is enough: each rank needs `propensity_min_clicks` (query, snippet)s that were chosen there and shown
nearer to the top, too (for rank 1: at any other), counted once however often they were shown, and with any
one person's part capped. What moved among the lower ranks alone says nothing of how they compare with the
top. With c of them at both ranks the standard error of p(k)/p(1) is about p(k)/p(1) · √(2/c): a tenth of the
value for the default of 200, and √s times that where the way to rank 1 leads over s such steps. (Clicks
simulated from a known p, decaying from 1 to 0.2 over ten ranks, give it back within 0.15 at that size, and
within 0.1 at three times that size; see the tests.) As far down as there is enough at every rank, p is
estimated; if that is not at least to `propensity_min_ranks`, it is not, and `PositionBias.missing` says what
every rank lacks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.feedback.confidence import BY_THE_TABLE, Examination, capped_scales

Numbers = NDArray[np.float64]

# As fine as the standard error allows to tell: a training set must not get another name for each new click.
STEP = 0.05
MAX_ITERATIONS = 20_000
CONVERGED = 1e-7


@dataclass(frozen=True)
class Shown:
    """How often one person was shown one snippet for one query, in any spelling, at one rank and chose it."""

    query: str
    snippet_id: int
    rank: int
    person: str
    shown: int
    chosen: int


@dataclass(frozen=True)
class PositionBias:
    """What is known of how likely each rank is looked at.

    Attributes:
        examination: What is in force: estimated, or the table's.
        evidence: By rank from 1: (query, snippet)s chosen there that were shown nearer to the top, too.
        missing: By rank, how much of that is lacking before the data are believed; empty if nothing is.
        comparable: How many (query, snippet)s were shown at several ranks.
    """

    examination: Examination
    evidence: tuple[float, ...]
    missing: dict[int, int]
    comparable: int


def estimate_position_bias(
    rows: Iterable[Shown], *, max_rank: int, min_ranks: int, min_clicks: int, max_share: float
) -> PositionBias:
    """Estimates how likely each rank is looked at, or says what is missing for it.

    Args:
        rows: What was shown; (query, snippet)s that were shown at one rank only say nothing, and may be left
            out.
        max_rank: Ranks below are not looked at.
        min_ranks: To which rank at least there has to be enough.
        min_clicks: How much is enough: see above.
        max_share: Cap of one person on what was chosen at any one rank.
    """
    cells = _cells(rows, max_rank, max_share)
    evidence = _evidence(cells, max_rank)
    depth = next((rank for rank, found in enumerate(evidence) if found < min_clicks), max_rank)
    enough = depth >= min_ranks
    missing = {
        rank: int(np.ceil(min_clicks - evidence[rank - 1]))
        for rank in range(1, min_ranks + 1)
        if evidence[rank - 1] < min_clicks
    }
    return PositionBias(
        examination=Examination(_fitted(cells, depth), estimated=True) if enough else BY_THE_TABLE,
        evidence=tuple(round(float(each), 2) for each in evidence),
        missing=missing,
        comparable=len(cells),
    )


def _cells(rows: Iterable[Shown], max_rank: int, max_share: float) -> list[dict[int, tuple[float, float]]]:
    """Per (query, snippet) shown at several ranks: for each, its weight and the share of it that was chosen.

    A person counts once for each rank of each (query, snippet), with the share of times they chose it: the
    same search repeated by a script adds nothing.
    """
    by_place: dict[tuple[str, int], dict[int, list[tuple[str, float]]]] = {}
    # In an order of their own, so that sums come out the same to the last digit.
    for row in sorted(rows, key=lambda row: (row.query, row.snippet_id, row.rank, row.person)):
        if row.rank <= max_rank:
            ranks = by_place.setdefault((row.query, row.snippet_id), {})
            ranks.setdefault(row.rank, []).append((row.person, row.chosen / row.shown))
    kept = [ranks for ranks in by_place.values() if len(ranks) > 1]
    scales = _scales(kept, max_share)
    return [
        {
            rank: (
                # Each rank counts as one, however many people saw it there: it is the (query, snippet) that
                # is the same at both, not the people.
                max(scales[person] for person, _ in people),
                sum(scales[person] * rate for person, rate in people)
                / sum(scales[person] for person, _ in people),
            )
            for rank, people in ranks.items()
        }
        for ranks in kept
    ]


def _scales(kept: list[dict[int, list[tuple[str, float]]]], max_share: float) -> dict[str, float]:
    """What each person's part is multiplied by.

    So that nobody has made more than `max_share` of what was chosen at any one rank, which estimates lean on.
    """
    scales: dict[str, float] = {}
    chosen: dict[int, dict[str, float]] = {}
    for ranks in kept:
        for rank, people in ranks.items():
            for person, rate in people:
                scales[person] = 1.0
                if rate > 0:
                    at_rank = chosen.setdefault(rank, {})
                    at_rank[person] = at_rank.get(person, 0.0) + rate
    for rank in sorted(chosen):
        for person, scale in capped_scales(dict(sorted(chosen[rank].items())), max_share).items():
            scales[person] = min(scales[person], scale)
    return scales


def _evidence(cells: list[dict[int, tuple[float, float]]], max_rank: int) -> Numbers:
    """By rank, of shape (max_rank,): how many were chosen there that stood nearer to the top, too."""
    evidence = np.zeros(max_rank)
    for at in cells:
        nearest = min(at)
        for rank, (weight, rate) in at.items():
            if rank > nearest or rank == 1:  # nothing is nearer than rank 1, with which all is compared
                evidence[rank - 1] += weight * rate
    return evidence


def _fitted(cells: list[dict[int, tuple[float, float]]], depth: int) -> tuple[float, ...]:
    """p(1) … p(depth) relative to p(1), in steps of `STEP`, none over 1."""
    sets: dict[tuple[int, int], int] = {}
    shown: list[tuple[int, int, float, float]] = []  # set, rank, weight, chosen
    for at in cells:
        ranks = sorted(rank for rank in at if rank <= depth)
        for i, upper in enumerate(ranks):
            for lower in ranks[i + 1 :]:
                number = sets.setdefault((upper, lower), len(sets))
                # Equally much on both sides, or the two sides would not be equally relevant.
                weight = min(at[upper][0], at[lower][0])
                shown.extend((number, rank - 1, weight, weight * at[rank][1]) for rank in (upper, lower))
    weights, chosen = np.zeros((len(sets), depth)), np.zeros((len(sets), depth))
    for number, rank, weight, part in shown:
        weights[number, rank] += weight
        chosen[number, rank] += part
    looked_at = maximise(weights, chosen)
    relative = np.clip(np.round(looked_at / looked_at[0] / STEP) * STEP, STEP, 1.0)
    return tuple(round(float(each), 2) for each in relative)


def maximise(weights: Numbers, chosen: Numbers) -> Numbers:
    """The p that maximises the likelihood above, up to a factor, by expectation-maximisation.

    Args:
        weights: How much was shown, shape (sets, ranks).
        chosen: How much of it was chosen, of the same shape; in every rank and every set something was.

    Returns:
        Of shape (ranks,).
    """
    p, r = np.full(weights.shape[1], 0.5), np.full((len(weights), 1), 0.5)
    by_rank, by_set = weights.sum(axis=0), weights.sum(axis=1, keepdims=True)
    passed = weights - chosen
    for _ in range(MAX_ITERATIONS):
        product = p * r
        unseen = passed / np.maximum(1 - product, 1e-12)
        # Of what was passed over: looked at and not relevant; relevant and not looked at.
        looked_at = (chosen + unseen * p * (1 - r)).sum(axis=0) / by_rank
        relevant = (chosen + unseen * r * (1 - p)).sum(axis=1, keepdims=True) / by_set
        done = float(np.abs(looked_at * relevant - product).max()) < CONVERGED
        p, r = looked_at, relevant
        if done:
            break
    return p
