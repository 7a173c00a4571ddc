"""What Dagster is told: that it loads, and which assets, checks, jobs, schedules and sensors there are."""

from __future__ import annotations

import dagster as dg

from pipeline.checks import CHECKS
from pipeline.definitions import defs

LOOP = {
    "repositories": set(),
    "search_feedback": set(),
    "snippets": {"repositories"},
    "training_set": {"snippets", "search_feedback"},
    "fine_tuned_model": {"training_set"},
    "model_checkpoint": {"fine_tuned_model"},
    "model_evaluation": {"model_checkpoint"},
    "promoted_model": {"model_evaluation"},
    "snippet_embeddings": {"snippets", "promoted_model"},
    "search_index": {"snippet_embeddings"},
}

BLOCKING = {
    "snippets": {"parse_errors", "no_empty_snippet", "counts_do_not_collapse"},
    "training_set": {"enough_pairs", "no_leakage", "triplets_differ"},
    "fine_tuned_model": {"loss_fell", "validation_held"},
    "model_checkpoint": {"files_match", "same_vectors_again"},
    "model_evaluation": {"sanity_holds", "metrics_reach_thresholds", "no_significant_regression"},
    "promoted_model": {"gate_agrees"},
    "snippet_embeddings": {"vectors_are_sound", "none_left_out"},
    "search_index": {"recall_is_enough", "rows_are_equal"},
}


def graph() -> dg.AssetGraph:
    return defs.resolve_asset_graph()


def test_the_definitions_can_be_loaded():
    dg.Definitions.validate_loadable(defs)


def test_the_asset_graph_is_the_loop():
    found = {
        key.to_user_string(): {parent.to_user_string() for parent in graph().get(key).parent_keys}
        for key in graph().get_all_asset_keys()
    }
    assert found == LOOP


def test_snippets_and_their_vectors_have_a_partition_for_each_repository():
    partitioned = {
        key.to_user_string(): node.partitions_def.name
        for key in graph().get_all_asset_keys()
        if isinstance((node := graph().get(key)).partitions_def, dg.DynamicPartitionsDefinition)
    }
    assert partitioned == {"snippets": "repository", "snippet_embeddings": "repository"}


def test_every_check_blocks_and_belongs_to_its_asset():
    found: dict[str, set[str]] = {}
    for key in graph().asset_check_keys:
        assert graph().get_check_spec(key).blocking
        found.setdefault(key.asset_key.to_user_string(), set()).add(key.name)
    assert found == BLOCKING
    assert {(check.asset, check.name) for check in CHECKS} == {
        (asset, name) for asset, names in BLOCKING.items() for name in names
    }


def test_every_asset_says_what_it_is_and_whose():
    for key in graph().get_all_asset_keys():
        node = graph().get(key)
        assert len(node.description or "") > 40, key
        assert node.group_name in {"corpus", "feedback", "training", "evaluation", "index"}, key
        assert node.owners, key
        assert node.kinds, key


def test_jobs_schedules_and_sensors():
    assert {job.name for job in defs.jobs or []} == {
        "index_repository",
        "embed_repository",
        "refresh_index",
        "fine_tune",
        "promote",
        "whole_loop",
        "expire",
    }
    schedules = {s.name: s for s in defs.schedules or [] if isinstance(s, dg.ScheduleDefinition)}
    assert {name: s.cron_schedule for name, s in schedules.items()} == {
        "nightly_fine_tuning": "0 2 * * *",
        "daily_expiry": "30 4 * * *",
    }
    sensors = {s.name: s for s in defs.sensors or []}
    assert set(sensors) == {
        "new_feedback",
        "enough_new_feedback",
        "passed_evaluation",
        "index_upkeep",
        "registered_repositories",
        "new_commits",
        "failed_runs",
    }
    # They work without anyone switching them on.
    assert {s.default_status for s in schedules.values()} == {dg.DefaultScheduleStatus.RUNNING}
    assert {s.default_status for s in sensors.values()} == {dg.DefaultSensorStatus.RUNNING}


def test_resources_can_be_replaced():
    from pipeline.defs.building import build_defs

    replaced = build_defs({"workbench": dg.ResourceDefinition.hardcoded_resource("mine")})
    assert (defs.resources or {}).keys() == (replaced.resources or {}).keys()
    assert (replaced.resources or {})["workbench"] is not (defs.resources or {})["workbench"]
