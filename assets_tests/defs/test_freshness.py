"""Overdue assets, as Dagster's daemon finds them: by its own function, with materializations of long ago."""

from __future__ import annotations

import asyncio
import time

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.definitions.freshness_evaluator import TimeWindowFreshnessPolicyEvaluator
from dagster._core.loader import LoadingContextForTest

from pipeline.config import Settings
from pipeline.definitions import defs
from pipeline.defs.freshness import model_is_fresh

HOURS = 3600.0
DAYS = 24 * HOURS
# Half of it warns: HONELOOP_STALE_AFTER_HOURS is 72, HONELOOP_MODEL_STALE_AFTER_DAYS 60.
OVERDUE = {
    "snippets": 72 * HOURS,
    "search_index": 72 * HOURS,
    "fine_tuned_model": 60 * DAYS,
}


def test_these_have_a_time_and_no_others():
    graph = defs.resolve_asset_graph()
    assert {
        key.to_user_string() for key in graph.get_all_asset_keys() if graph.get(key).freshness_policy
    } == set(OVERDUE)


@pytest.mark.parametrize("asset", OVERDUE)
def test_what_was_not_materialized_for_long_is_overdue(
    asset: str, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    node = defs.resolve_asset_graph().get(dg.AssetKey(asset))
    partition = "mine" if asset == "snippets" else None
    present = time.time

    def state() -> FreshnessState:
        context = LoadingContextForTest(instance)
        return asyncio.run(TimeWindowFreshnessPolicyEvaluator().evaluate_freshness(context, node))

    assert state() == FreshnessState.UNKNOWN
    for share, expected in (
        (1.01, FreshnessState.FAIL),
        (0.51, FreshnessState.WARN),
        (0.49, FreshnessState.PASS),
    ):
        with monkeypatch.context() as then:
            then.setattr(time, "time", lambda share=share: present() - share * OVERDUE[asset])
            instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=partition))
        assert state() == expected


def test_a_model_is_not_overdue_where_nobody_fine_tunes():
    assert model_is_fresh(Settings(finetune_disabled=True)) is None
