"""A promotion whose index cannot be built: it is given up in the end, and begun anew when a person asks."""

from __future__ import annotations

import itertools
from pathlib import Path

import dagster as dg
import pytest

from assets_tests.defs.ticking import run_of, serve, tick
from assets_tests.evaluation.small_corpus import blur
from pipeline.corpus.repositories import Repository
from pipeline.defs import promoting, sensors
from pipeline.defs.instance import open_instance
from pipeline.defs.promoting import wait_until_it_serves
from pipeline.encoders.encoder import Encoder
from pipeline.errors import HoneloopError
from pipeline.index.embeddings import embed_missing
from pipeline.progress import Silent
from pipeline.promotion import registry
from pipeline.promotion.deciding import promote
from pipeline.workbench import Workbench

FAILURE, CANCELED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED


@pytest.fixture
def embedded(
    workbench: Workbench, extracted: Repository, minilm: Encoder, tmp_path: Path
) -> registry.ModelRecord:
    """A second real model with which everything is embedded; a person approved it, and MiniLM serves."""
    from pipeline.encoders.loading import load_encoder

    db, settings = workbench.db, workbench.settings
    serve(db, minilm, settings)
    directory = tmp_path / "blurred"
    blur(directory, noise=0.05)
    blurred = load_encoder(str(directory), device="cpu")
    registry.ensure_registered(db, blurred, str(directory), "candidate", base_version=minilm.version)
    embed_missing(db, blurred, settings, Silent())
    with open_instance(settings) as instance:
        instance.add_dynamic_partitions("repository", [extracted.name])
    return promoted(workbench, blurred.version)


def promoted(workbench: Workbench, version: str) -> registry.ModelRecord:
    """A person's promotion, for the reason they always give."""
    return promote(workbench.db, workbench.settings, version, "better on our queries")


def waited(workbench: Workbench, model: registry.ModelRecord, *, looks: int = 3) -> str:
    """What `honeloop promote` says in the end; the services end after it has looked so often."""
    alive = itertools.chain([True] * looks, itertools.repeat(False)).__next__
    with pytest.raises(HoneloopError) as raised:
        wait_until_it_serves(workbench, model, address="http://localhost", alive=alive)
    return raised.value.message


def build(workbench: Workbench, instance: dg.DagsterInstance, status: dg.DagsterRunStatus) -> str | None:
    """The run that the sensor asks for, ended so; its key."""
    (request,) = tick(sensors.index_upkeep, workbench, instance).run_requests
    assert request.job_name == "refresh_index"
    run_of(instance, request, status)
    return request.run_key


def test_an_index_that_could_not_be_built_is_built_again_when_it_is_promoted_again(
    workbench: Workbench, embedded: registry.ModelRecord, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(promoting, "POLL_SECONDS", 0.01)
    with open_instance(workbench.settings) as instance:
        keys = {build(workbench, instance, FAILURE) for _ in range(3)}
        assert "failed 3 times" in tick(sensors.index_upkeep, workbench, instance).skip_message
        assert "could not be built" in waited(workbench, embedded)
        promoted(workbench, embedded.version)
        assert waited(workbench, embedded).startswith("`honeloop up` ended")  # there is something to wait for
        keys |= {build(workbench, instance, FAILURE) for _ in range(3)}
        assert len(keys) == 6  # Dagster ignores a run key it has seen
        assert "could not be built" in waited(workbench, embedded)


def test_a_build_that_somebody_cancelled_is_not_waited_for(
    workbench: Workbench, embedded: registry.ModelRecord, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(promoting, "POLL_SECONDS", 0.01)
    with open_instance(workbench.settings) as instance:
        build(workbench, instance, CANCELED)
        assert "was cancelled" in tick(sensors.index_upkeep, workbench, instance).skip_message
        assert waited(workbench, embedded) == f"Building the index of {embedded.name} was cancelled."
        promoted(workbench, embedded.version)
        assert build(workbench, instance, FAILURE) is not None
