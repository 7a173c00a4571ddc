"""The asset `promoted_model` decides by itself: whatever earlier runs, checks and summaries claimed."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from psycopg.types.json import Jsonb

from assets_tests.evaluation.made import TEST_SET, Slice, evaluation
from pipeline.config import Settings
from pipeline.defs.assets.evaluation import promoted_model
from pipeline.encoders.encoder import Encoder
from pipeline.evaluation.store import save_evaluation
from pipeline.promotion import registry
from pipeline.store.connections import Database
from pipeline.workbench import Workbench

WORSE, BETTER = Slice([9] * 60), Slice([2] * 60)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def candidate(
    db: Database, minilm: Encoder, blurred: Encoder, blurred_directory: Path
) -> registry.ModelRecord:
    """A real model that is worse than what serves: on 60 queries its answer stands at rank 9, not 2."""
    registry.ensure_registered(db, minilm, "minilm")
    with db.connect() as connection:
        registry.set_state(connection, minilm.version, "serving", "index", ["it passed"])
    worse = registry.ensure_registered(
        db, blurred, str(blurred_directory), "candidate", base_version=minilm.version
    )
    save_evaluation(db, evaluation(minilm.version, BETTER))
    save_evaluation(db, evaluation(worse.version, WORSE))
    return worse


def claim(instance: dg.DagsterInstance, candidate: registry.ModelRecord, test_set: str = TEST_SET) -> None:
    """An evaluation that says of itself that it is excellent and passed its checks."""
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            "model_evaluation",
            metadata={"model_version": candidate.version, "test_set": test_set, "ndcg@10": 0.999},
        )
    )
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            passed=True, asset_key=dg.AssetKey("model_evaluation"), check_name="no_significant_regression"
        )
    )


def promote(
    instance: dg.DagsterInstance, db: Database, settings: Settings
) -> tuple[dg.ExecuteInProcessResult, dict[str, str]]:
    workbench = Workbench(settings, database=db)
    result = dg.materialize(
        [promoted_model], instance=instance, resources={"workbench": workbench}, raise_on_error=False
    )
    return result, {model.version: model.state for model in registry.list_models(db)}


def test_a_manipulated_summary_promotes_nobody(
    db: Database, settings: Settings, instance: dg.DagsterInstance, candidate: registry.ModelRecord
):
    with db.connect() as connection:
        row = connection.execute(
            "SELECT metrics FROM evaluations WHERE model_version = %s", [candidate.version]
        ).fetchone()
        assert row is not None
        forged = {**row[0], "overall": {name: [0.999, 0.998, 1.0, 60] for name in row[0]["overall"]}}
        connection.execute(
            "UPDATE evaluations SET metrics = %s WHERE model_version = %s", [Jsonb(forged), candidate.version]
        )
    claim(instance, candidate)
    result, states = promote(instance, db, settings)
    assert result.success
    (event,) = result.get_asset_materialization_events()
    assert event.materialization.metadata["decision"].value == "rejected"
    assert states[candidate.version] == "rejected"
    # What is to serve did not change, so nothing that follows is stale.
    assert event.materialization.tags is not None
    assert event.materialization.tags["dagster/data_version"] != candidate.version


def test_an_evaluation_that_was_never_stored_promotes_nobody(
    db: Database, settings: Settings, instance: dg.DagsterInstance, candidate: registry.ModelRecord
):
    claim(instance, candidate, test_set="ef" * 32)
    result, states = promote(instance, db, settings)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert failure.step_failure_data.user_failure_data is not None
    assert "was not measured on the test set" in str(failure.step_failure_data.user_failure_data.description)
    assert states[candidate.version] == "candidate"
