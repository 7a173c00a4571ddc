"""The gate: every decision and every reason, on evaluations with results of our choosing."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from assets_tests.evaluation.made import BASE, CANDIDATE, SERVING, Slice, evaluation, measured
from pipeline.config import Settings
from pipeline.encoders.sanity import SanityResult
from pipeline.errors import BadInputError, HoneloopError
from pipeline.promotion.gate import GateThresholds, GeneralMeasurements, Verdict, decide

THRESHOLDS = GateThresholds.from_settings(Settings(bootstrap_resamples=500, permutations=2000))
SOUND = [SanityResult(name="same text twice", passed=True, value=1.0, limit=0.9999, message="equal")]
UNSOUND = [
    *SOUND,
    SanityResult(name="finite", passed=False, value=3.0, limit=0.0, message="3 values are NaN"),
]

# 60 queries each: the answer stands at rank 3 at first, then at rank 1 for two of three.
BEFORE, AFTER = [3] * 60, [1, 1, 3] * 20


def judged(
    before: list[Slice],
    after: list[Slice],
    thresholds: GateThresholds = THRESHOLDS,
    sanity: list[SanityResult] = SOUND,
) -> Verdict:
    found = measured(evaluation(CANDIDATE, *after), evaluation(SERVING, *before))
    return decide(found, thresholds, sanity)


def test_a_clear_improvement_is_approved() -> None:
    verdict = judged([Slice(BEFORE)], [Slice(AFTER)])
    assert verdict.decision == "approved"
    assert verdict.approved
    assert verdict.primary == "all"
    assert verdict.difference is not None
    assert verdict.difference.mean == pytest.approx(2 / 3 * 0.5)
    assert "ndcg@10 on 60 test queries: +0.333" in verdict.reasons[0]
    assert "better beyond chance" in verdict.reasons[0]
    assert (verdict.candidate_version, verdict.serving_version) == (CANDIDATE, SERVING)


def test_a_loss_is_rejected() -> None:
    verdict = judged([Slice(AFTER)], [Slice(BEFORE)])
    assert verdict.decision == "rejected"
    assert "that is no improvement" in verdict.reasons[0]


def test_no_change_is_rejected() -> None:
    verdict = judged([Slice(BEFORE)], [Slice(BEFORE)])
    assert verdict.decision == "rejected"
    assert "that is no improvement" in verdict.reasons[0]


def test_an_improvement_that_may_be_chance_is_rejected() -> None:
    # Fifteen queries gain as much as twelve lose.
    verdict = judged([Slice([3] * 15 + [1] * 12 + [2] * 33)], [Slice([1] * 15 + [3] * 12 + [2] * 33)])
    assert verdict.decision == "rejected"
    assert verdict.difference is not None
    assert verdict.difference.mean > 0 >= verdict.difference.low
    assert "may be chance" in verdict.reasons[0]


def test_how_sure_it_has_to_be_is_a_setting_of_test_and_interval_alike() -> None:
    # Eighteen queries gain as much as twelve lose: one night in five looks like that by chance.
    before, after = [Slice([3] * 18 + [1] * 12 + [2] * 30)], [Slice([1] * 18 + [3] * 12 + [2] * 30)]
    assert judged(before, after).decision == "rejected"
    lenient = judged(before, after, replace(THRESHOLDS, significance=0.5))
    assert lenient.approved
    assert lenient.difference is not None
    assert lenient.difference.level == 0.5
    assert "(50% interval +" in lenient.reasons[0]
    strict = judged([Slice(BEFORE)], [Slice(AFTER)], replace(THRESHOLDS, significance=0.001))
    assert "(99.9% interval +" in strict.reasons[0]
    assert Verdict.from_json(json.loads(json.dumps(lenient.to_json()))) == lenient


def test_an_improvement_below_the_asked_one_is_rejected() -> None:
    verdict = judged([Slice(BEFORE)], [Slice(AFTER)], replace(THRESHOLDS, min_improvement=0.4))
    assert verdict.decision == "rejected"
    assert "too small to matter, as at least +0.400 is asked for" in verdict.reasons[0]


def test_too_few_queries_are_not_enough_evidence() -> None:
    verdict = judged([Slice([3] * 49)], [Slice([1] * 49)])
    assert verdict.decision == "not enough evidence"
    assert verdict.reasons == ("Only 49 test queries can be compared on ndcg@10; the gate asks for 50.",)
    assert judged([Slice([3] * 50)], [Slice([1] * 50)]).decision == "approved"


def test_feedback_decides_where_there_is_enough() -> None:
    before = [Slice(BEFORE, "feedback"), Slice([2] * 200)]
    # Worse for users, better for documentation and on the whole.
    after = [Slice([3, 3, 4] * 20, "feedback"), Slice([1] * 200)]
    verdict = judged(before, after)
    assert verdict.primary == "feedback"
    assert verdict.decision == "rejected"
    assert "60 feedback test queries" in verdict.reasons[0]


def test_all_queries_decide_where_feedback_is_thin() -> None:
    before = [Slice([3] * 49, "feedback"), Slice(BEFORE)]
    after = [Slice([1] * 49, "feedback"), Slice(AFTER)]
    verdict = judged(before, after)
    assert verdict.primary == "all"
    assert verdict.difference is not None
    assert verdict.difference.count == 109
    assert verdict.approved


def test_another_origin_that_loses_significantly_rejects() -> None:
    before = [Slice(BEFORE, "feedback"), Slice([1] * 40)]
    after = [Slice(AFTER, "feedback"), Slice([2] * 20 + [1] * 20)]
    verdict = judged(before, after)
    assert verdict.primary == "feedback"
    assert verdict.decision == "rejected"
    assert "better beyond chance" in verdict.reasons[0]
    assert verdict.reasons[1].startswith("Origin docstring loses: ndcg@10 on 40 test queries -0.185")


def test_a_language_that_loses_significantly_rejects() -> None:
    before = [Slice(BEFORE * 3), Slice([1] * 30, language="go")]
    after = [Slice(AFTER * 3), Slice([4] * 30, language="go")]
    verdict = judged(before, after)
    assert verdict.decision == "rejected"
    assert any(reason.startswith("Language go loses") for reason in verdict.reasons)


def test_a_slice_too_small_to_tell_does_not_veto() -> None:
    before = [Slice(BEFORE * 3), Slice([1] * 29, language="go")]
    after = [Slice(AFTER * 3), Slice([4] * 29, language="go")]
    assert judged(before, after).approved


def test_a_loss_that_may_be_chance_does_not_veto() -> None:
    before = [Slice(BEFORE * 3), Slice([1] * 20 + [2] * 20, language="go")]
    after = [Slice(AFTER * 3), Slice([1] * 18 + [2] * 4 + [1] * 0 + [3] * 9 + [1] * 9, language="go")]
    verdict = judged(before, after)
    assert verdict.approved, verdict.reasons


def test_a_small_but_certain_loss_within_the_limit_does_not_veto() -> None:
    before = [Slice(BEFORE, "feedback"), Slice([9] * 40)]
    after = [Slice(AFTER, "feedback"), Slice([10] * 40)]  # nDCG 0.301 → 0.289
    assert judged(before, after).approved
    assert not judged(before, after, replace(THRESHOLDS, max_slice_regression=0.01)).approved


def test_a_failed_sanity_check_rejects_however_good_the_figures() -> None:
    verdict = judged([Slice(BEFORE)], [Slice(AFTER)], sanity=UNSOUND)
    assert verdict.decision == "rejected"
    assert "Sanity check 'finite' failed: 3 values are NaN" in verdict.reasons


def test_a_failed_sanity_check_rejects_without_evidence_too() -> None:
    verdict = judged([Slice([3] * 5)], [Slice([1] * 5)], sanity=UNSOUND)
    assert verdict.decision == "rejected"


def test_an_unchecked_candidate_has_not_passed() -> None:
    verdict = judged([Slice(BEFORE)], [Slice(AFTER)], sanity=[])
    assert verdict.decision == "rejected"
    assert "The candidate's sanity was not checked." in verdict.reasons


def test_the_serving_model_itself_is_already_serving() -> None:
    same = evaluation(SERVING, Slice(BEFORE))
    assert decide(measured(same, same), THRESHOLDS, []).decision == "already serving"


def test_different_test_sets_cannot_be_compared() -> None:
    other = evaluation(SERVING, Slice(BEFORE), test_set="cd" * 32)
    with pytest.raises(HoneloopError, match="different test sets"):
        decide(measured(evaluation(CANDIDATE, Slice(AFTER)), other), THRESHOLDS, SOUND)


def test_the_same_evaluations_give_the_same_verdict() -> None:
    assert judged([Slice(BEFORE)], [Slice(AFTER)]) == judged([Slice(BEFORE)], [Slice(AFTER)])


def test_a_verdict_survives_json() -> None:
    verdict = judged([Slice(BEFORE)], [Slice(AFTER)])
    assert Verdict.from_json(verdict.to_json()) == verdict
    empty = replace(verdict, difference=None)
    assert Verdict.from_json(empty.to_json()) == empty


def test_thresholds_come_from_the_settings_and_an_unknown_metric_is_refused() -> None:
    settings = Settings(gate_metric="mrr@10", gate_min_queries=7, gate_slice_min_queries=3, seed=4)
    thresholds = GateThresholds.from_settings(settings)
    assert (thresholds.metric, thresholds.min_queries, thresholds.slice_min_queries) == ("mrr@10", 7, 3)
    with pytest.raises(BadInputError, match="'ndcg@11'"):
        GateThresholds.from_settings(Settings(gate_metric="ndcg@11"))


def test_a_certain_gain_too_small_to_matter_is_rejected() -> None:
    # Of 5,000 queries one in fifty moves from rank 3 to rank 2: significant beyond doubt, and of no use.
    verdict = judged([Slice([3] * 5000)], [Slice([2] * 100 + [3] * 4900)])
    assert verdict.decision == "rejected"
    assert verdict.difference is not None
    assert verdict.difference.significant
    assert verdict.difference.permutation_p is not None
    assert verdict.difference.permutation_p < 0.001
    assert "too small to matter, as at least +0.010 is asked for" in verdict.reasons[0]
    assert judged(
        [Slice([3] * 5000)], [Slice([2] * 100 + [3] * 4900)], replace(THRESHOLDS, min_improvement=0.001)
    ).approved


def test_the_permutation_test_must_agree_with_the_interval() -> None:
    # Five queries of sixty gain: the interval leaves zero out, but five signs cannot tell (p = 2 / 2^5).
    before, after = [Slice([3] * 60)], [Slice([1] * 5 + [3] * 55)]
    verdict = judged(before, after)
    assert verdict.difference is not None
    assert verdict.difference.low > 0
    assert verdict.difference.permutation_p == pytest.approx(2 / 2**5)
    assert verdict.decision == "rejected"
    assert "that may be chance, as p must be below 0.05" in verdict.reasons[0]
    assert judged(before, after, replace(THRESHOLDS, significance=0.1)).approved


def with_base(base: list[Slice], before: list[Slice], after: list[Slice]) -> Verdict:
    found = measured(evaluation(CANDIDATE, *after), evaluation(SERVING, *before), evaluation(BASE, *base))
    return decide(found, THRESHOLDS, SOUND)


def test_a_candidate_that_beats_a_worsened_serving_model_but_not_the_base_is_rejected() -> None:
    verdict = with_base([Slice([1] * 60)], [Slice([9] * 60)], [Slice([3] * 60)])
    assert verdict.decision == "rejected"
    assert "over what serves; better beyond chance" in verdict.reasons[0]
    assert "-0.500" in verdict.reasons[1]
    assert "over the base model; that is no improvement" in verdict.reasons[1]


def test_a_candidate_that_beats_both_is_approved_and_says_so() -> None:
    verdict = with_base([Slice([5] * 60)], [Slice(BEFORE)], [Slice(AFTER)])
    assert verdict.approved
    assert verdict.base_version == BASE
    assert [each.about for each in verdict.findings[:2]] == ["gain over serving", "gain over base"]
    assert "over the base model; better beyond chance" in verdict.reasons[1]


def test_a_floor_is_absolute() -> None:
    verdict = judged([Slice([900] * 60)], [Slice([9] * 15 + [500] * 45)])
    assert verdict.decision == "rejected"
    assert "ndcg@10 is 0.075; at least 0.100 is asked for." in verdict.reasons
    assert "recall@100 is 0.250; at least 0.300 is asked for." in verdict.reasons
    unmeasured = judged(
        [Slice(BEFORE)], [Slice(AFTER)], replace(THRESHOLDS, floors={"triplet_accuracy": 0.5})
    )
    assert "triplet_accuracy was not measured; at least 0.500 is asked for." in unmeasured.reasons


def test_a_repository_or_query_length_that_collapses_rejects_a_gain_on_average() -> None:
    before = [Slice([3] * 200, repository="big", words=5), Slice([1] * 40, repository="small", words=2)]
    after = [Slice([1] * 200, repository="big", words=5), Slice([50] * 40, repository="small", words=2)]
    verdict = judged(before, after)
    assert verdict.difference is not None
    assert verdict.difference.mean > 0.2
    assert verdict.decision == "rejected"
    # The same queries are one slice, whatever it is called.
    assert [each.about for each in verdict.findings if not each.passed] == ["repository small"]
    assert verdict.reasons[1].startswith("Repository small loses: ndcg@10 on 40 test queries -1.000")
    by_length = judged(
        [Slice(each.ranks, words=each.words) for each in before],
        [Slice(each.ranks, words=each.words) for each in after],
    )
    assert [each.about for each in by_length.findings if not each.passed] == ["length up to 3 words"]


def many_slices(rest: int) -> tuple[list[Slice], list[Slice]]:
    """One repository of 40 that loses with p = 2 / 2^7, and `rest` that stay as they are."""
    harmed_before, harmed_after = [1] * 7 + [2] * 33, [2] * 7 + [2] * 33
    before = [Slice([3] * 200, repository="big"), Slice(harmed_before, repository="harmed")]
    after = [Slice([1] * 200, repository="big"), Slice(harmed_after, repository="harmed")]
    others = [Slice([2] * 30, repository=f"r{number}") for number in range(rest)]
    return [*before, *others], [*after, *others]


def test_many_slices_weaken_no_veto_unless_that_is_asked_for() -> None:
    before, after = many_slices(6)
    verdict = judged(before, after)
    assert verdict.decision == "rejected"
    (harmed,) = [each for each in verdict.findings if not each.passed]
    assert harmed.difference is not None
    assert harmed.difference.permutation_p == pytest.approx(2 / 2**7)
    # big, harmed and six others
    assert harmed.adjusted_p == pytest.approx(7 * 2 / 2**7)
    assert "Corrected for 8 slices, p is 0.109" in harmed.sentence
    corrected = judged(before, after, replace(THRESHOLDS, slice_correction="holm"))
    assert corrected.approved


def general(
    base: list[int], candidate: list[int], serving: list[int] | None = None, learned: int = 0
) -> GeneralMeasurements:
    name = "9e" * 32
    of_candidate = evaluation(CANDIDATE, Slice(candidate), test_set=name)
    of_base = evaluation(BASE, Slice(base), test_set=name)
    of_serving = evaluation(SERVING, Slice(serving or base), test_set=name)
    answered = {result.query: result.query_key for result in of_candidate.per_query}
    left_out = frozenset(answered[f"docstring python 0 question {n}"] for n in range(learned))
    return GeneralMeasurements(of_candidate, of_serving, of_base, left_out)


def with_general(found: GeneralMeasurements, thresholds: GateThresholds = THRESHOLDS) -> Verdict:
    better = evaluation(CANDIDATE, Slice(AFTER, "feedback"))
    served = evaluation(SERVING, Slice(BEFORE, "feedback"))
    base = evaluation(BASE, Slice(BEFORE, "feedback"))
    return decide(measured(better, served, base, found), thresholds, SOUND)


def test_the_general_set_may_not_lose_against_the_base_chance_or_not() -> None:
    # One query of a hundred falls from rank 1 to rank 9: nothing that a test would call significant.
    verdict = with_general(general([1] * 100, [1] * 99 + [9]))
    assert verdict.decision == "rejected"
    assert verdict.general_test_set == "9e" * 32
    (lost,) = [each for each in verdict.findings if not each.passed]
    assert lost.about == "general set over base"
    assert lost.difference is not None
    assert not lost.difference.significant
    assert "on 100 queries of the general set: -0.007" in lost.sentence
    assert with_general(general([1] * 200, [1] * 199 + [9])).approved  # 0.35 points are within 0.5
    assert with_general(
        general([1] * 100, [1] * 99 + [9]), replace(THRESHOLDS, max_general_regression=0.01)
    ).approved


def test_the_general_set_may_not_lose_significantly_against_what_serves() -> None:
    verdict = with_general(general([9] * 100, [3] * 100, serving=[1] * 100))
    assert [each.about for each in verdict.findings if not each.passed] == ["general set over serving"]
    chance = with_general(general([9] * 100, [1] * 95 + [90] * 5, serving=[1] * 97 + [90] * 3))
    assert chance.approved, chance.reasons


def test_a_general_set_too_small_to_tell_decides_nothing_and_says_so() -> None:
    verdict = with_general(general([1] * 49, [9] * 49))
    assert verdict.approved
    assert any("The general set has 49 queries" in reason for reason in verdict.reasons)
    assert [each.decides for each in verdict.findings if each.about.startswith("general")] == [False, False]


def test_general_queries_whose_code_the_candidate_learned_are_left_out() -> None:
    # What it learned came out on top; on the rest it got worse.
    found = general([3] * 100, [1] * 40 + [4] * 60, learned=40)
    verdict = with_general(found)
    assert verdict.decision == "rejected"
    (lost, _) = [each for each in verdict.findings if each.about.startswith("general")]
    assert "on 60 queries of the general set" in lost.sentence
    assert "40 left out as the candidate learned from their code" in lost.sentence


def test_queries_whose_code_a_model_before_the_candidate_learned_decide_nothing() -> None:
    # The sixty queries that had been learned gain, sixty others do not: those it is judged by.
    before, after = [Slice([3] * 60), Slice([2] * 60, "commit")], [Slice([1] * 60), Slice([2] * 60, "commit")]
    found = measured(evaluation(CANDIDATE, *after), evaluation(SERVING, *before))
    assert decide(found, THRESHOLDS, SOUND).approved
    keys = {result.query_key for result in found.candidate.per_query if result.origin == "docstring"}
    verdict = decide(replace(found, learned_from=frozenset(keys)), THRESHOLDS, SOUND)
    assert verdict.decision == "rejected"
    assert verdict.difference is not None
    assert verdict.difference.count == 60
    assert "on 60 test queries (60 of all left out, as a model before it learned" in verdict.reasons[0]
    most = frozenset(result.query_key for result in found.candidate.per_query[:100])
    verdict = decide(replace(found, learned_from=most), THRESHOLDS, SOUND)
    assert verdict.decision == "not enough evidence"
    assert verdict.reasons[0].endswith("100 were left out, as a model before it learned from their code.")


def test_one_query_is_never_enough() -> None:
    verdict = judged([Slice([100])], [Slice([1])])
    assert verdict.decision == "not enough evidence"
    assert verdict.reasons == ("Only 1 test query can be compared on ndcg@10; the gate asks for 50.",)


def test_figures_that_are_no_numbers_are_rejected_not_averaged() -> None:
    broken = evaluation(CANDIDATE, Slice(AFTER))
    results = list(broken.per_query)
    results[3] = replace(results[3], metrics={**results[3].metrics, "ndcg@10": math.nan})
    broken = replace(broken, per_query=tuple(results))
    verdict = decide(measured(broken, evaluation(SERVING, Slice(BEFORE))), THRESHOLDS, SOUND)
    assert verdict.decision == "rejected"
    assert verdict.reasons == ("1 measurements of ndcg@10 are no numbers.",)
    assert verdict.difference is None
    assert "NaN" not in json.dumps(verdict.to_json())


def test_another_model_with_the_same_rankings_is_rejected() -> None:
    verdict = judged([Slice(BEFORE, repository="a", words=3)], [Slice(BEFORE, repository="a", words=3)])
    assert verdict.decision == "rejected"
    assert verdict.difference is not None
    assert (verdict.difference.mean, verdict.difference.permutation_p) == (0, 1)


def test_a_verdict_carries_its_numbers_and_the_thresholds_in_force() -> None:
    verdict = judged([Slice(BEFORE)], [Slice(AFTER)])
    assert verdict.thresholds["min_improvement"] == 0.01
    assert verdict.thresholds["floors"] == {"ndcg@10": 0.1, "recall@100": 0.3}
    assert {each.about for each in verdict.findings} >= {"gain over serving", "floor ndcg@10"}
    again = Verdict.from_json(json.loads(json.dumps(verdict.to_json())))
    assert again == verdict


def test_a_verdict_of_an_older_release_can_be_read() -> None:
    content = judged([Slice(BEFORE)], [Slice(AFTER)]).to_json()
    for new in ("base_version", "general_test_set", "findings", "thresholds"):
        del content[new]
    del content["difference"]["permutation_p"]
    old = Verdict.from_json(content)
    assert (old.base_version, old.findings) == (None, ())
    assert old.difference is not None
    assert old.difference.permutation_p is None


def test_an_unknown_floor_is_refused() -> None:
    with pytest.raises(BadInputError, match="HONELOOP_GATE_FLOORS says 'recall@7'"):
        GateThresholds.from_settings(Settings(gate_floors={"recall@7": 0.5}))


@pytest.mark.parametrize("seed", range(6))
def test_the_default_thresholds_approve_thirteen_points_over_several_repositories(seed: int) -> None:
    """As a first run on default sources is: 487 documentation queries of four packages of unequal size."""
    random = np.random.default_rng(seed)
    before: list[Slice] = []
    after: list[Slice] = []
    for repository, share in (("click", 0.1), ("honeloop", 0.15), ("networkx", 0.6), ("rich", 0.15)):
        for words in (2, 6, 12, 30):
            size = round(487 * share / 4)
            ranks = random.choice([1, 2, 4, 8, 15, 40, 300], size, p=[0.25, 0.1, 0.1, 0.1, 0.15, 0.15, 0.15])
            moved = np.maximum(1, (ranks * random.choice([0.1, 0.3, 0.5, 1, 2], size)).astype(int))
            before.append(Slice(ranks.tolist(), repository=repository, words=words))
            after.append(Slice(moved.tolist(), repository=repository, words=words))
    verdict = judged(before, after, GateThresholds.from_settings(Settings()))
    assert verdict.difference is not None
    assert 0.08 < verdict.difference.mean < 0.25
    assert verdict.approved, verdict.reasons
