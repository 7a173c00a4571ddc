"""Schedules and sensors: what they ask for, what they skip and why, against a real database."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets_tests.defs.ticking import run_of, serve, tick, with_settings
from assets_tests.index.ageing import measured_before
from pipeline.checks import CHECKS, Subject
from pipeline.corpus.repositories import Repository, remove_repository
from pipeline.defs import sensors
from pipeline.defs.alone import fine_tuning_under_way, run_under_way
from pipeline.defs.building import build_defs
from pipeline.defs.in_process import Loop
from pipeline.defs.reporting import materialized
from pipeline.defs.schedules import nightly_fine_tuning
from pipeline.defs.sensors.asking import ATTEMPTS
from pipeline.encoders.encoder import Encoder
from pipeline.feedback.importing import import_feedback
from pipeline.feedback.news import newest_feedback_id
from pipeline.index.embeddings import embed_missing
from pipeline.progress import Silent
from pipeline.promotion import registry
from pipeline.store.connections import Database
from pipeline.workbench import Workbench

NIGHT = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)


def at_night(workbench: Workbench, instance: dg.DagsterInstance) -> Any:
    context = dg.build_schedule_context(
        instance=instance, scheduled_execution_time=NIGHT, resources={"workbench": workbench}
    )
    return nightly_fine_tuning.evaluate_tick(context)


def accept(db: Database, tmp_path: Path, *queries: str) -> None:
    """Someone accepts `moving_average` for each of the queries."""
    about = {"repository": "mine", "path": "times.py", "symbol": "moving_average", "judgement": "accept"}
    file = tmp_path / "judged.jsonl"
    file.write_text("".join(json.dumps({"query": query, **about}) + "\n" for query in queries))
    assert import_feedback(db, file).added == len(queries)


class TestNight:
    def test_too_little_feedback_is_skipped_with_the_count(
        self, workbench: Workbench, instance: dg.DagsterInstance
    ):
        result = at_night(workbench, instance)
        assert result.run_requests == []
        assert "0 new pairs" in result.skip_message

    @pytest.mark.usefixtures("extracted")
    def test_enough_feedback_asks_for_one_run_a_night(
        self, workbench: Workbench, instance: dg.DagsterInstance, tmp_path: Path
    ):
        accept(workbench.db, tmp_path, "rolling mean", "smooth a series")
        result = at_night(with_settings(workbench, nightly_min_pairs=2), instance)
        (request,) = result.run_requests
        assert request.run_key == "night 2026-03-01"
        skipped = at_night(with_settings(workbench, nightly_min_pairs=3), instance)
        assert "2 new pairs" in skipped.skip_message

    @pytest.mark.usefixtures("extracted")
    def test_it_can_be_switched_off(self, workbench: Workbench, instance: dg.DagsterInstance, tmp_path: Path):
        accept(workbench.db, tmp_path, "rolling mean")
        off = with_settings(workbench, nightly_min_pairs=1, finetune_disabled=True)
        assert "HONELOOP_FINETUNE_DISABLED" in at_night(off, instance).skip_message

    @pytest.mark.usefixtures("extracted")
    @pytest.mark.parametrize(
        ("command", "fine_tunes"), [("run", True), ("train", True), ("index", False), ("promote", False)]
    )
    def test_only_what_fine_tunes_itself_takes_its_place(
        self,
        *,
        workbench: Workbench,
        instance: dg.DagsterInstance,
        tmp_path: Path,
        command: str,
        fine_tunes: bool,
    ):
        """As with a `honeloop index` every night at two: a night is asked for once, and not again later."""
        accept(workbench.db, tmp_path, "rolling mean", "smooth a series")
        eager = with_settings(workbench, nightly_min_pairs=1)
        with Loop.running(workbench.settings, Silent(), command):
            assert run_under_way(workbench.db)
            assert fine_tuning_under_way(workbench.db) is fine_tunes
            result = at_night(eager, instance)
        if fine_tunes:
            assert "A run that fine-tunes is under way" in result.skip_message
        else:
            assert [request.run_key for request in result.run_requests] == ["night 2026-03-01"]
        assert not fine_tuning_under_way(workbench.db)
        assert at_night(eager, instance).run_requests


class TestLearned:
    """Feedback was learned when a model came of it, and not when it went into a training set."""

    @pytest.mark.usefixtures("extracted")
    def test_what_no_model_came_of_is_tried_again(
        self, workbench: Workbench, instance: dg.DagsterInstance, minilm: Encoder, tmp_path: Path
    ):
        serve(workbench.db, minilm, workbench.settings)
        accept(workbench.db, tmp_path, "rolling mean", "smooth a series")
        all_train = {"min_pairs": 1, "test_percent": 1, "validation_percent": 1}
        eager = with_settings(workbench, nightly_min_pairs=2, early_finetune_pairs=2, **all_train)
        resource = dg.ResourceDefinition.hardcoded_resource(eager)
        failed = (
            build_defs({"workbench": resource})
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(
                instance=instance,
                asset_selection=[dg.AssetKey("training_set"), dg.AssetKey("fine_tuned_model")],
                run_config={"ops": {"fine_tuned_model": {"config": {"base": "no such model"}}}},
                raise_on_error=False,
            )
        )
        assert not failed.success
        built = materialized(instance, "training_set")
        assert built is not None
        assert built["feedback_through"] == newest_feedback_id(workbench.db)
        assert at_night(eager, instance).run_requests
        assert tick(sensors.enough_new_feedback, eager, instance).run_requests

    @pytest.mark.usefixtures("extracted")
    @pytest.mark.parametrize("says_it", [True, False])
    def test_what_a_model_came_of_is_not(
        self, workbench: Workbench, instance: dg.DagsterInstance, tmp_path: Path, *, says_it: bool
    ):
        """A checkpoint of an earlier release does not say it: then its training set does."""
        accept(workbench.db, tmp_path, "rolling mean", "smooth a series")
        through = {"feedback_through": newest_feedback_id(workbench.db)}
        instance.report_runless_asset_event(dg.AssetMaterialization("training_set", metadata=through))
        instance.report_runless_asset_event(
            dg.AssetMaterialization("model_checkpoint", metadata=through if says_it else {})
        )
        eager = with_settings(workbench, nightly_min_pairs=1, early_finetune_pairs=1)
        assert "0 new pairs" in at_night(eager, instance).skip_message
        assert "0 new pairs" in tick(sensors.enough_new_feedback, eager, instance).skip_message
        accept(workbench.db, tmp_path, "running average")
        assert at_night(eager, instance).run_requests


class TestNewFeedback:
    @pytest.mark.usefixtures("extracted")
    def test_it_reports_the_highest_id_once(
        self, workbench: Workbench, instance: dg.DagsterInstance, tmp_path: Path
    ):
        assert "No feedback" in tick(sensors.new_feedback, workbench, instance).skip_message
        accept(workbench.db, tmp_path, "rolling mean", "smooth a series")
        result = tick(sensors.new_feedback, workbench, instance)
        (event,) = result.asset_events
        assert event.asset_key == dg.AssetKey("search_feedback")
        assert event.tags["dagster/data_version"] == result.cursor
        again = tick(sensors.new_feedback, workbench, instance, cursor=result.cursor)
        assert again.asset_events == []
        accept(workbench.db, tmp_path, "running average")
        more = tick(sensors.new_feedback, workbench, instance, cursor=result.cursor)
        assert int(more.cursor) > int(result.cursor)
        assert more.asset_events[0].metadata["new"].value == 1


class TestEnoughNewFeedback:
    @pytest.mark.usefixtures("extracted")
    def test_it_starts_fine_tuning_early_and_only_one(
        self, workbench: Workbench, instance: dg.DagsterInstance, tmp_path: Path
    ):
        accept(workbench.db, tmp_path, "rolling mean", "smooth a series")
        assert "2 new pairs" in tick(sensors.enough_new_feedback, workbench, instance).skip_message
        eager = with_settings(workbench, early_finetune_pairs=2)
        (request,) = tick(sensors.enough_new_feedback, eager, instance).run_requests
        run_of(instance, request, dg.DagsterRunStatus.STARTED)
        accept(workbench.db, tmp_path, "running average")
        assert "under way" in tick(sensors.enough_new_feedback, eager, instance).skip_message
        off = with_settings(eager, finetune_disabled=True)
        assert "DISABLED" in tick(sensors.enough_new_feedback, off, instance).skip_message

    @pytest.mark.usefixtures("extracted")
    def test_what_keeps_failing_is_tried_three_times(
        self, workbench: Workbench, instance: dg.DagsterInstance, tmp_path: Path
    ):
        accept(workbench.db, tmp_path, "rolling mean")
        eager = with_settings(workbench, early_finetune_pairs=1)
        keys: set[str | None] = set()
        for _ in range(3):
            (request,) = tick(sensors.enough_new_feedback, eager, instance).run_requests
            keys.add(request.run_key)
            run_of(instance, request, dg.DagsterRunStatus.FAILURE)
        assert len(keys) == 3  # Dagster ignores a run key it has seen
        assert "failed 3 times" in tick(sensors.enough_new_feedback, eager, instance).skip_message


class TestRegisteredRepositories:
    def test_a_new_one_gets_its_partition_and_is_read(
        self, workbench: Workbench, instance: dg.DagsterInstance, registered: Repository
    ):
        result = tick(sensors.registered_repositories, workbench, instance)
        (change,) = result.dynamic_partitions_requests
        assert isinstance(change, dg.AddDynamicPartitionsRequest)
        assert change.partition_keys == [registered.name]
        (request,) = result.run_requests
        assert (request.job_name, request.partition_key) == ("index_repository", registered.name)

    def test_a_removed_one_loses_its_partition(
        self, workbench: Workbench, instance: dg.DagsterInstance, extracted: Repository
    ):
        instance.add_dynamic_partitions("repository", [extracted.name])
        assert "each was read" in tick(sensors.registered_repositories, workbench, instance).skip_message
        remove_repository(workbench.db, extracted.name)
        (change,) = tick(sensors.registered_repositories, workbench, instance).dynamic_partitions_requests
        assert isinstance(change, dg.DeleteDynamicPartitionsRequest)
        assert change.partition_keys == [extracted.name]


class TestIndexUpkeep:
    def test_nothing_is_done_before_anything_was_read(
        self, workbench: Workbench, instance: dg.DagsterInstance
    ):
        assert "No repository" in tick(sensors.index_upkeep, workbench, instance).skip_message

    def test_it_embeds_then_builds_then_rests(
        self,
        workbench: Workbench,
        instance: dg.DagsterInstance,
        extracted: Repository,
        minilm: Encoder,
    ):
        db, settings = workbench.db, workbench.settings
        assert "no partition" in tick(sensors.index_upkeep, workbench, instance).skip_message
        instance.add_dynamic_partitions("repository", [extracted.name])
        (embed,) = tick(sensors.index_upkeep, workbench, instance).run_requests
        assert (embed.job_name, embed.partition_key) == ("embed_repository", extracted.name)
        run_of(instance, embed, dg.DagsterRunStatus.STARTED)
        assert "under way" in tick(sensors.index_upkeep, workbench, instance).skip_message
        embed_missing(db, minilm, settings, Silent())
        (refresh,) = tick(sensors.index_upkeep, workbench, instance).run_requests
        assert (refresh.job_name, refresh.partition_key) == ("refresh_index", None)
        serve(db, minilm, settings)
        rests = tick(sensors.index_upkeep, workbench, instance)
        assert "has every snippet" in rests.skip_message
        assert rests.asset_events == []  # nothing was promoted
        # For some minutes it believes that, and counts nothing.
        with db.connect() as connection:
            connection.execute("UPDATE embedding_tables SET table_name = 'counting_would_fail'")
        believed = tick(sensors.index_upkeep, workbench, instance, cursor=rests.cursor)
        assert "has every snippet" in believed.skip_message

    def test_what_serves_is_verified_again_every_day(
        self, workbench: Workbench, instance: dg.DagsterInstance, extracted: Repository, minilm: Encoder
    ):
        instance.add_dynamic_partitions("repository", [extracted.name])
        serve(workbench.db, minilm, workbench.settings)
        instance.report_runless_asset_event(dg.AssetMaterialization("search_index"))
        assert tick(sensors.index_upkeep, workbench, instance).run_requests == []
        measured_before(workbench.db, hours=25)
        (refresh,) = tick(sensors.index_upkeep, workbench, instance).run_requests
        assert refresh.job_name == "refresh_index"
        # Failed as often as it is tried, it comes again when as many hours have passed once more.
        for _ in range(ATTEMPTS):
            (refresh,) = tick(sensors.index_upkeep, workbench, instance).run_requests
            run_of(instance, refresh, dg.DagsterRunStatus.FAILURE)
        assert "failed 3 times" in tick(sensors.index_upkeep, workbench, instance).skip_message
        measured_before(workbench.db, hours=49)
        assert len(tick(sensors.index_upkeep, workbench, instance).run_requests) == 1
        (check,) = [check for check in CHECKS if check.name == "recall_is_enough"]
        assert check.body(Subject(workbench)).passed  # which measures, and notes it
        assert tick(sensors.index_upkeep, workbench, instance).run_requests == []

    def test_what_a_person_cancelled_is_not_started_again(
        self, workbench: Workbench, instance: dg.DagsterInstance, extracted: Repository
    ):
        instance.add_dynamic_partitions("repository", [extracted.name])
        (embed,) = tick(sensors.index_upkeep, workbench, instance).run_requests
        run_of(instance, embed, dg.DagsterRunStatus.CANCELED)
        result = tick(sensors.index_upkeep, workbench, instance)
        assert result.run_requests == []
        assert "was cancelled; launch it by hand" in result.skip_message


class TestPassedEvaluation:
    def test_an_evaluated_candidate_goes_to_the_gate_once(
        self, workbench: Workbench, instance: dg.DagsterInstance, other: registry.ModelRecord
    ):
        assert "Nothing was evaluated" in tick(sensors.passed_evaluation, workbench, instance).skip_message
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                "model_evaluation", metadata={"model_version": other.version, "test_set": "t1"}
            )
        )
        (request,) = tick(sensors.passed_evaluation, workbench, instance).run_requests
        assert request.job_name == "promote"
        verdict = {"decision": "not enough evidence", "test_set": "t1"}
        registry.record_metrics(workbench.db, other.version, {"verdict": verdict})
        assert "not enough evidence" in tick(sensors.passed_evaluation, workbench, instance).skip_message
        with workbench.db.connect() as connection:
            registry.set_state(connection, other.version, "rejected", "gate", ["worse"])
        assert "rejected" in tick(sensors.passed_evaluation, workbench, instance).skip_message

    @pytest.mark.parametrize("command", ["train", "run"])
    def test_what_train_made_is_only_looked_at(
        self, workbench: Workbench, instance: dg.DagsterInstance, other: registry.ModelRecord, command: str
    ):
        """What `run` made and could not ask the gate about, as it was killed, the sensor asks about."""
        made = {"model_version": other.version, "test_set": "t1", "command": command}
        instance.report_runless_asset_event(dg.AssetMaterialization("model_evaluation", metadata=made))
        result = tick(sensors.passed_evaluation, workbench, instance)
        assert len(result.run_requests) == (command == "run")
        assert ("lets nothing serve" in str(result.skip_message)) is (command == "train")


def test_nothing_starts_beside_a_run_of_the_whole_loop(
    workbench: Workbench, instance: dg.DagsterInstance, registered: Repository
):
    settings = workbench.settings
    assert not run_under_way(workbench.db)
    with Loop.running(settings, Silent()):
        assert run_under_way(workbench.db)
        for sensor in (
            sensors.registered_repositories,
            sensors.new_commits,
            sensors.index_upkeep,
            sensors.enough_new_feedback,
            sensors.passed_evaluation,
        ):
            assert "whole loop" in tick(sensor, workbench, instance).skip_message
        assert "fine-tunes" in at_night(workbench, instance).skip_message
    assert tick(sensors.registered_repositories, workbench, instance).run_requests
