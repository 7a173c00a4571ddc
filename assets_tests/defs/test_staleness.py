"""What Dagster calls stale: nothing after a run that changed nothing, what follows after one that did."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from assets_tests.corpus.making import GitRepository
from assets_tests.defs.conftest import CODE
from pipeline.corpus.repositories import add_repository
from pipeline.definitions import defs
from pipeline.defs.building import build_defs
from pipeline.encoders.encoder import Encoder
from pipeline.promotion.registry import ensure_registered
from pipeline.workbench import Workbench

PARTITIONED = {"snippets", "snippet_embeddings"}


def stale(instance: dg.DagsterInstance) -> set[str]:
    """What is stale now, as `asset` or `asset[partition]`; what was never materialized is not."""
    graph = defs.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    return {
        f"{key.to_user_string()}{f'[{partition}]' if partition else ''}"
        for key in graph.get_all_asset_keys()
        for partition in (
            instance.get_dynamic_partitions("repository") if key.to_user_string() in PARTITIONED else [None]
        )
        if resolver.get_status(key, partition) == StaleStatus.STALE
    }


class Materializer:
    """Materializes assets as runs of the web page do."""

    def __init__(self, workbench: Workbench, instance: dg.DagsterInstance) -> None:
        resource = dg.ResourceDefinition.hardcoded_resource(workbench)
        self._job = build_defs({"workbench": resource}).resolve_implicit_global_asset_job_def()
        self._instance = instance

    def __call__(self, *assets: str, partition: str | None = None) -> None:
        keys = [dg.AssetKey(asset) for asset in assets]
        assert self._job.execute_in_process(
            instance=self._instance, asset_selection=keys, partition_key=partition
        ).success


@pytest.mark.usefixtures("minilm")
def test_a_run_that_changes_nothing_and_one_that_does(
    workbench: Workbench, instance: dg.DagsterInstance, minilm: Encoder, tmp_path: Path
):
    ensure_registered(workbench.db, minilm, "minilm")
    repositories = {name: GitRepository(tmp_path / name) for name in ("one", "two")}
    for name, repository in repositories.items():
        repository.commit({"times.py": CODE})
        add_repository(workbench.db, name, str(repository.path))
        instance.add_dynamic_partitions("repository", [name])
    materialize = Materializer(workbench, instance)
    for name in repositories:
        materialize("snippets", "snippet_embeddings", partition=name)
    materialize("search_index")
    assert stale(instance) == set()

    materialize("snippets", partition="one")
    materialize("snippets", "snippet_embeddings", partition="two")
    materialize("search_index")
    assert stale(instance) == set()

    repositories["one"].commit({"times.py": CODE + "\n\ndef added():\n    return 1\n"})
    materialize("snippets", partition="one")
    assert stale(instance) == {"snippet_embeddings[one]"}
    materialize("snippet_embeddings", partition="one")
    assert stale(instance) == {"search_index"}
    materialize("search_index")
    assert stale(instance) == set()
