"""What each pair weighs: the cap on any one person, and what makes up for the rarity of clicks far down.

Pure functions over values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.feedback.confidence import capped_scales


def shared_totals(parts: Sequence[tuple[float, Sequence[str]]]) -> dict[str, float]:
    """How much each person has given: a thing that several people said is shared by them.

    Args:
        parts: Each thing's weight, and the people it rests on, at least one.
    """
    totals: dict[str, float] = {}
    for weight, people in parts:
        for person in people:
            totals[person] = totals.get(person, 0.0) + weight / len(people)
    return totals


def mean_scale(people: Sequence[str], scales: Mapping[str, float]) -> float:
    """What the caps leave of a thing that rests on these people equally."""
    return math.fsum(scales[person] for person in people) / len(people)


@dataclass(frozen=True)
class Given:
    """A thing that people said of a snippet, before the caps.

    Attributes:
        weight: Over 0.
        content_hash: The snippet's content.
        people: Who said it, at least one; each has given an equal part of it.
    """

    weight: float
    content_hash: bytes
    people: Sequence[str]


def capped_weights(
    given: Sequence[Given], *, max_share: float, max_per_snippet: float, nameless: Callable[[str], bool]
) -> list[float]:
    """What each thing weighs when no person weighs too much, for one snippet or in total.

    First, what a person says of one snippet, for whatever queries, is cut to `max_per_snippet` together: or
    one of many could make a snippet the answer to everything. The nameless count as one person there, since
    whoever clears their cookies is somebody new each time. Then nobody keeps more than `max_share` of all.

    Args:
        given: What people said.
        max_share: See `capped_scales`.
        max_per_snippet: Above 0.
        nameless: Whether a person is one of those without a name.
    """

    def whose(person: str, content_hash: bytes) -> tuple[str | None, bytes]:
        return (None if nameless(person) else person), content_hash

    of_snippet: dict[tuple[str | None, bytes], float] = {}
    for each in given:
        for person in each.people:
            key = whose(person, each.content_hash)
            of_snippet[key] = of_snippet.get(key, 0.0) + each.weight / len(each.people)
    parts = [
        [
            (person, each.weight / len(each.people) * min(1.0, max_per_snippet / of_snippet[key]))
            for person in each.people
            for key in [whose(person, each.content_hash)]
        ]
        for each in given
    ]
    totals: dict[str, float] = {}
    for of_thing in parts:
        for person, part in of_thing:
            totals[person] = totals.get(person, 0.0) + part
    scales = capped_scales(totals, max_share)
    return [math.fsum(part * scales[person] for person, part in of_thing) for of_thing in parts]


def inverse_propensity(examined: Sequence[float], limit: float) -> float:
    """How many choices one stands for, when those of which the snippet was not looked at are missing.

    The mean of 1 / p over the people, each at most `limit`: the rarer an event, the more its correction
    varies (clipped inverse propensity scores; Joachims, Swaminathan & Schnabel 2017, "Unbiased
    Learning-to-Rank with Biased Feedback").

    Args:
        examined: For each person, how likely they looked at it, over 0, at most 1.
        limit: At least 1.
    """
    return math.fsum(min(1 / each, limit) for each in examined) / len(examined)


def self_normalised(weights: Sequence[float], corrections: Sequence[float]) -> list[float]:
    """`weights` times `corrections`, so that they add up to what they did before, each at most 1.

    With self-normalised weights (Swaminathan & Joachims 2015, "The Self-Normalized Estimator for
    Counterfactual Learning") the corrections say how clicks compare with each other, and not how much they
    count beside what was said in so many words. A weight that would exceed 1 is 1, and what it loses goes to
    the others.

    Args:
        weights: Each over 0, at most 1.
        corrections: As many, each over 0.
    """
    wanted = [weight * correction for weight, correction in zip(weights, corrections, strict=True)]
    if len(set(corrections)) <= 1:
        return list(weights)  # to the last digit: nothing is corrected
    total = math.fsum(weights)
    falling = sorted(wanted, reverse=True)
    factor = 0.0
    for full, heaviest in enumerate(falling):  # the `full` heaviest are cut to 1
        factor = (total - full) / math.fsum(falling[full:])
        if heaviest * factor <= 1:
            break
    return [min(1.0, each * factor) for each in wanted]
