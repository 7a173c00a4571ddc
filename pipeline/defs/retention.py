"""Which of Dagster's runs are kept. Ticks have their own settings in dagster.yaml; runs have none there."""

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES

from pipeline.defs.partitions import REPOSITORIES

# In one go: what is left is a day older tomorrow.
RUNS_AT_ONCE = 1000


def give_up_old_runs(instance: dg.DagsterInstance, days: int) -> int:
    """Deletes finished runs that were created longer than `days` days ago, with events and output.

    The run that an asset, or one of its partitions, was last made by stays, however old: its events say what
    there is. Returns how many were deleted.
    """
    before = datetime.now(UTC) - timedelta(days=days)
    old = instance.get_runs(
        filters=dg.RunsFilter(statuses=FINISHED_STATUSES, created_before=before),
        limit=RUNS_AT_ONCE,
        ascending=True,
    )
    if not old:
        return 0
    needed = _needed(instance)
    chosen = [run.run_id for run in old if run.run_id not in needed]
    for run_id in chosen:
        instance.delete_run(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    return len(chosen)


def _needed(instance: dg.DagsterInstance) -> set[str]:
    """The runs whose events say what there is now."""
    needed: set[str] = set()
    partitions = [None, *instance.get_dynamic_partitions(REPOSITORIES)]
    for key in instance.all_asset_keys():
        for partition in partitions:
            records = instance.fetch_materializations(
                dg.AssetRecordsFilter(asset_key=key, asset_partitions=partition and [partition]), limit=1
            ).records
            needed |= {record.run_id for record in records}
    return needed
