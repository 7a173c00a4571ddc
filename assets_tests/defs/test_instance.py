"""The instance: its pools are known before the first run; old runs go, but not what says what there is."""

from typing import Any

import dagster as dg

from pipeline.config import Settings
from pipeline.defs.instance import make_pools, open_instance
from pipeline.defs.retention import give_up_old_runs


def test_each_pool_has_one_place_unless_somebody_said_otherwise(settings: Settings):
    make_pools(settings)
    with open_instance(settings) as instance:
        storage = instance.event_log_storage
        assert {pool.name: pool.limit for pool in storage.get_pool_limits()} == {
            "training": 1,
            "embedding": 1,
        }
        storage.set_concurrency_slots("embedding", 4)
    make_pools(settings)
    with open_instance(settings) as instance:
        limits = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
    assert limits == {"training": 1, "embedding": 4}


@dg.asset
def numbers() -> dg.MaterializeResult[Any]:
    return dg.MaterializeResult(metadata={"count": 1})


def test_old_runs_are_deleted_but_what_made_an_asset_stays():
    with dg.instance_for_test() as instance:
        runs = [dg.materialize([numbers], instance=instance).run_id for _ in range(3)]
        assert give_up_old_runs(instance, 1) == 0  # none is a day old
        kept = give_up_old_runs(instance, -1)
        assert kept == 2
        assert [run.run_id for run in instance.get_runs()] == runs[-1:]
        assert instance.get_latest_materialization_event(dg.AssetKey("numbers")) is not None
        assert give_up_old_runs(instance, -1) == 0
