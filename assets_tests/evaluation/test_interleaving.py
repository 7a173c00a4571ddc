"""Team-draft interleaving: the draft is fair, a choice counts once, and people decide, not clicks."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Literal
from uuid import uuid4

import pytest

from pipeline.evaluation.interleaving import (
    MIN_PEOPLE,
    Choice,
    OnlineOutcome,
    online_outcome,
    outcome_of,
    seed_of,
    takes_part,
    team_draft,
)

SERVING, CANDIDATE = list("abcdefghij"), list("jbxyazwvut")


def names(drafted: Sequence[object]) -> str:
    return "".join(each.item for each in drafted)  # pyright: ignore


@pytest.mark.parametrize("seed", range(20))
def test_the_list_is_a_fair_draft_without_repetition(seed: int) -> None:
    drafted = team_draft(SERVING, CANDIDATE, 8, seed)
    assert len(drafted) == len({each.item for each in drafted}) == 8
    taken: list[str] = []
    for place, each in enumerate(drafted):
        ranking = SERVING if each.team == "serving" else CANDIDATE
        assert each.item == next(item for item in ranking if item not in taken)
        taken.append(each.item)
        if place % 2:  # after each pair of picks both have picked equally often
            teams = Counter(one.team for one in drafted[: place + 1])
            assert teams["serving"] == teams["candidate"]


def test_the_same_seed_gives_the_same_list_and_another_another() -> None:
    lists = {names(team_draft(SERVING, CANDIDATE, 8, seed)) for seed in range(30)}
    assert len(lists) > 4
    assert team_draft(SERVING, CANDIDATE, 8, 5) == team_draft(SERVING, CANDIDATE, 8, 5)


def test_each_team_picks_first_half_of_the_time() -> None:
    firsts = sum(team_draft(SERVING, CANDIDATE, 8, seed)[0].team == "candidate" for seed in range(2000))
    assert 900 <= firsts <= 1100


def test_equal_rankings_stay_as_they_are_and_share_the_credit() -> None:
    credit: Counter[str | None] = Counter()
    for seed in range(1000):
        drafted = team_draft(SERVING, SERVING, 10, seed)
        assert names(drafted) == "".join(SERVING)
        credit[drafted[0].team] += 1
    assert 400 <= credit["serving"] <= 600


def test_what_only_one_ranking_has_left_counts_for_nobody() -> None:
    assert [(each.item, each.team) for each in team_draft([], ["a", "b"], 5, 1)] == [("a", None), ("b", None)]
    drafted = team_draft(["a"], ["a", "b", "c"], 5, 1)
    assert [each.item for each in drafted] == ["a", "b", "c"]
    assert [each.team is None for each in drafted][-1]
    assert team_draft([], [], 5, 1) == []
    assert len(team_draft(SERVING, CANDIDATE, 1, 1)) == 1


def test_a_stable_share_of_searches_takes_part() -> None:
    searches = [str(uuid4()) for _ in range(4000)]
    share = sum(takes_part(each, 0.25) for each in searches) / len(searches)
    assert 0.22 <= share <= 0.28
    assert not any(takes_part(each, 0.0) for each in searches)
    assert all(takes_part(each, 1.0) for each in searches)
    assert takes_part(searches[0], 0.25) == takes_part(searches[0], 0.25)
    assert seed_of(searches[0]) != seed_of(searches[1])


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({}, None),
        ({1: ["click"]}, "win"),
        ({1: ["click", "click", "copy"], 2: ["accept"]}, "tie"),  # a result counts once
        ({2: ["click"], 4: ["accept"], 1: ["copy"]}, "loss"),
        ({1: ["click", "reject"], 2: ["click"]}, "loss"),  # a rejected result was no good
        ({1: ["reject"]}, None),
        ({5: ["accept"]}, None),  # left over: nobody's pick
        ({99: ["accept"]}, None),
    ],
)
def test_whom_choices_speak_for(
    said: dict[int, list[str]], outcome: Literal["win", "loss", "tie"] | None
) -> None:
    teams = {1: "candidate", 2: "serving", 3: "candidate", 4: "serving", 5: None}
    assert outcome_of(teams, said) == outcome  # pyright: ignore[reportArgumentType]


def told(choices: Sequence[Choice], *, min_searches: int = 100) -> OnlineOutcome:
    return online_outcome(
        choices,
        2 * len(choices),
        min_searches=min_searches,
        significance=0.05,
        resamples=1000,
        permutations=2000,
        seed=1,
    )


def drawn(count: int, wins: float, people: int, seed: int = 1, ties: float = 0.2) -> list[Choice]:
    toss = random.Random(seed)
    return [
        Choice(
            f"p{toss.randrange(people)}",
            "tie" if toss.random() < ties else "win" if toss.random() < wins else "loss",
        )
        for _ in range(count)
    ]


def test_a_clear_preference_is_told_with_its_interval() -> None:
    outcome = told(drawn(400, 0.7, 60))
    assert outcome.verdict == "candidate preferred"
    assert outcome.preference is not None
    assert outcome.low is not None
    assert outcome.high is not None
    assert outcome.p_value is not None
    assert 0.5 < outcome.low < outcome.preference < outcome.high
    assert outcome.p_value < 0.01
    assert outcome.decided == 400
    assert outcome.searches == 800
    assert outcome.preference == pytest.approx((outcome.wins + outcome.ties / 2) / 400)
    assert told(drawn(400, 0.3, 60)).verdict == "serving preferred"


def test_few_searches_or_few_people_are_not_enough_evidence() -> None:
    assert told([Choice(f"p{n}", "win") for n in range(99)]).verdict == "not enough evidence"
    assert told([Choice(f"p{n}", "win") for n in range(100)]).verdict == "candidate preferred"
    one = told([Choice("ada", "win")] * 500)
    assert (one.people, one.verdict) == (1, "not enough evidence")
    nothing = told([])
    assert (nothing.verdict, nothing.preference, nothing.p_value) == ("not enough evidence", None, None)


def test_one_busy_person_makes_no_preference_of_many() -> None:
    others = [Choice(f"p{n % 20}", "win" if n % 2 else "loss") for n in range(200)]
    busy = told([*others, *[Choice("ada", "win")] * 400])
    assert busy.preference is not None
    assert busy.preference > 0.8
    assert busy.verdict == "no difference found"
    assert busy.people == 21 > MIN_PEOPLE


def test_searches_of_nobody_known_are_each_their_own() -> None:
    outcome = told([Choice(None, "win" if n % 3 else "loss") for n in range(300)])
    assert (outcome.people, outcome.verdict) == (300, "candidate preferred")


def test_equal_models_are_seldom_told_apart() -> None:
    alarms = sum(
        told(drawn(120, 0.5, 30, seed)).verdict in ("candidate preferred", "serving preferred")
        for seed in range(200)
    )
    assert alarms <= 22  # 10 expected


def test_all_ties_are_no_difference() -> None:
    outcome = told([Choice(f"p{n}", "tie") for n in range(200)])
    assert (outcome.preference, outcome.p_value, outcome.verdict) == (0.5, 1.0, "no difference found")
