"""After a promotion: one backfill over all repositories, and nothing against a person's will."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.storage.tags import BACKFILL_ID_TAG

from assets_tests.defs.ticking import serve, tick
from pipeline.corpus.repositories import Repository
from pipeline.defs import sensors
from pipeline.defs.sensors.backfilling import EMBEDDINGS
from pipeline.encoders.encoder import Encoder
from pipeline.promotion import registry
from pipeline.workbench import Workbench


@pytest.fixture
def promoted(
    workbench: Workbench,
    instance: dg.DagsterInstance,
    extracted: Repository,
    minilm: Encoder,
    other: registry.ModelRecord,
) -> registry.ModelRecord:
    """MiniLM serves, and another model was approved."""
    instance.add_dynamic_partitions("repository", [extracted.name])
    serve(workbench.db, minilm, workbench.settings)
    approve(workbench, other.version, "better")
    return workbench.model(other.version)


def approve(workbench: Workbench, version: str, reason: str) -> None:
    with workbench.db.connect() as connection:
        registry.set_state(connection, version, "approved", "gate", [reason])


def said(workbench: Workbench, instance: dg.DagsterInstance) -> str:
    result = tick(sensors.index_upkeep, workbench, instance)
    assert result.run_requests == []
    return result.skip_message


def backfills(instance: dg.DagsterInstance) -> Sequence[PartitionBackfill]:
    return instance.get_backfills()


def ended(instance: dg.DagsterInstance, status: BulkActionStatus) -> PartitionBackfill:
    """The newest backfill, with this end."""
    backfill = backfills(instance)[0].with_status(status)
    instance.update_backfill(backfill)
    return backfill


def test_a_promotion_launches_one_backfill_over_all_repositories(
    workbench: Workbench,
    instance: dg.DagsterInstance,
    promoted: registry.ModelRecord,
    extracted: Repository,
):
    assert "was launched now; 1 of 1 repositories" in said(workbench, instance)
    (backfill,) = backfills(instance)
    assert backfill.title == f"Embed everything with {promoted.name}"
    assert backfill.status == BulkActionStatus.REQUESTED
    assert backfill.asset_backfill_data is not None
    target = backfill.asset_backfill_data.target_subset.partitions_subsets_by_asset_key
    assert {key: set(subset.get_partition_keys()) for key, subset in target.items()} == {
        EMBEDDINGS: {extracted.name}
    }
    assert "is under way" in said(workbench, instance)
    assert len(backfills(instance)) == 1


def test_what_ended_well_and_lacks_vectors_later_is_embedded_by_a_run(
    workbench: Workbench, instance: dg.DagsterInstance, promoted: registry.ModelRecord
):
    said(workbench, instance)
    ended(instance, BulkActionStatus.COMPLETED_SUCCESS)
    (embed,) = tick(sensors.index_upkeep, workbench, instance).run_requests
    assert promoted.version in str(embed.run_key)
    assert len(backfills(instance)) == 1


@pytest.mark.usefixtures("promoted")
def test_a_failed_one_is_tried_three_times(workbench: Workbench, instance: dg.DagsterInstance):
    for attempt in range(3):
        assert "was launched now" in said(workbench, instance)
        assert len(backfills(instance)) == attempt + 1
        ended(instance, BulkActionStatus.COMPLETED_FAILED)
    assert "failed, like 2 before it" in said(workbench, instance)
    assert len(backfills(instance)) == 3


def test_a_cancelled_one_is_left_alone_until_the_model_is_promoted_again(
    workbench: Workbench, instance: dg.DagsterInstance, promoted: registry.ModelRecord
):
    said(workbench, instance)
    ended(instance, BulkActionStatus.CANCELED)
    assert "was cancelled: re-execute it" in said(workbench, instance)
    approve(workbench, promoted.version, "I mean it")
    assert "was launched now" in said(workbench, instance)


@pytest.mark.usefixtures("promoted")
def test_one_that_a_person_re_executes_is_waited_for(workbench: Workbench, instance: dg.DagsterInstance):
    said(workbench, instance)
    cancelled = ended(instance, BulkActionStatus.CANCELED)
    # As the web page does it: another id, the same tags.
    instance.add_backfill(cancelled._replace(backfill_id="again", status=BulkActionStatus.REQUESTED))
    assert "The backfill again is under way" in said(workbench, instance)


@pytest.mark.usefixtures("promoted")
def test_cancelling_one_of_its_runs_counts_as_cancelling_it(
    workbench: Workbench, instance: dg.DagsterInstance
):
    said(workbench, instance)
    backfill = ended(instance, BulkActionStatus.COMPLETED_FAILED)
    instance.add_run(
        dg.DagsterRun(
            job_name="__ASSET_JOB",
            tags={BACKFILL_ID_TAG: backfill.backfill_id},
            status=dg.DagsterRunStatus.CANCELED,
        )
    )
    assert "was cancelled" in said(workbench, instance)
    assert len(backfills(instance)) == 1


def test_dagster_is_told_of_a_promotion_by_hand(
    workbench: Workbench, instance: dg.DagsterInstance, promoted: registry.ModelRecord
):
    (event,) = tick(sensors.index_upkeep, workbench, instance).asset_events
    assert event.asset_key == dg.AssetKey("promoted_model")
    assert event.tags["dagster/data_version"] == promoted.version
    instance.report_runless_asset_event(event)
    assert tick(sensors.index_upkeep, workbench, instance).asset_events == []
