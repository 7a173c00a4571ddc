"""The gate: every decision and every reason, on evaluations with results of our choosing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from assets_tests.evaluation.made import CANDIDATE, SERVING, Slice, evaluation
from pipeline.config import Settings
from pipeline.encoders.sanity import SanityResult
from pipeline.errors import BadInputError, HoneloopError
from pipeline.promotion.gate import GateThresholds, Verdict, decide

THRESHOLDS = GateThresholds.from_settings(Settings(bootstrap_resamples=500))
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
    return decide(evaluation(CANDIDATE, *after), evaluation(SERVING, *before), thresholds, sanity)


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
    # Thirteen queries gain as much as twelve lose.
    verdict = judged([Slice([3] * 13 + [1] * 12 + [2] * 35)], [Slice([1] * 13 + [3] * 12 + [2] * 35)])
    assert verdict.decision == "rejected"
    assert verdict.difference is not None
    assert verdict.difference.mean > 0 >= verdict.difference.low
    assert "may be chance" in verdict.reasons[0]


def test_an_improvement_below_the_asked_one_is_rejected() -> None:
    verdict = judged([Slice(BEFORE)], [Slice(AFTER)], replace(THRESHOLDS, min_improvement=0.4))
    assert verdict.decision == "rejected"
    assert "more than +0.400 is asked for" in verdict.reasons[0]


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
    assert decide(same, same, THRESHOLDS, []).decision == "already serving"


def test_different_test_sets_cannot_be_compared() -> None:
    other = evaluation(SERVING, Slice(BEFORE), test_set="cd" * 32)
    with pytest.raises(HoneloopError, match="different test sets"):
        decide(evaluation(CANDIDATE, Slice(AFTER)), other, THRESHOLDS, SOUND)


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
