"""How tests tick a sensor as the daemon does, and record what Dagster would make of what it asks for."""

from __future__ import annotations

from typing import Any

import dagster as dg

from pipeline.config import Settings
from pipeline.definitions import defs
from pipeline.encoders.encoder import Encoder
from pipeline.index.building import build_index
from pipeline.index.embeddings import embed_missing
from pipeline.index.flipping import flip
from pipeline.progress import Silent
from pipeline.store.connections import Database
from pipeline.workbench import Workbench


def tick(
    sensor: dg.SensorDefinition,
    workbench: Workbench,
    instance: dg.DagsterInstance,
    cursor: str | None = None,
) -> Any:
    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={"workbench": workbench}, definitions=defs
    )
    # As the daemon's context has it; without it partitions of requests are not looked up.
    context._instance_ref = instance.get_ref()
    return sensor.evaluate_tick(context)


def with_settings(workbench: Workbench, **changes: Any) -> Workbench:
    return Workbench(workbench.settings.model_copy(update=changes), database=workbench.db)


def serve(db: Database, minilm: Encoder, settings: Settings) -> None:
    embed_missing(db, minilm, settings, Silent())
    index = build_index(db, minilm.version, settings, Silent())
    flip(db, index.index_version_id, actor="index", reasons=[], settings=settings)


def run_of(instance: dg.DagsterInstance, request: dg.RunRequest, status: dg.DagsterRunStatus) -> None:
    """What Dagster records when it launches a request."""
    assert request.job_name is not None
    instance.add_run(
        dg.DagsterRun(
            job_name=request.job_name,
            tags={
                **request.tags,
                **({"dagster/partition": request.partition_key} if request.partition_key else {}),
            },
            status=status,
        )
    )
