"""Sensors: what starts because something happened. Each looks at the state itself, so that a missed tick, a
killed run or a lost cursor only delays it.

What does not belong here: what starts at a time (schedules.py).
"""

from collections.abc import Iterable

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from pipeline.corpus.repositories import list_repositories
from pipeline.defs import jobs
from pipeline.defs.alone import run_under_way
from pipeline.defs.partitions import REPOSITORIES, repository_partitions
from pipeline.defs.reporting import materialized
from pipeline.defs.upstream import feedback_learned
from pipeline.feedback.news import count_new_pairs, newest_feedback_id
from pipeline.index.checks import is_up_to_date
from pipeline.index.embeddings import count_missing
from pipeline.workbench import Workbench

RUNNING = dg.DefaultSensorStatus.RUNNING
# How often the same thing is tried when it fails, and how many runs one tick asks for.
ATTEMPTS = 3
RUNS_PER_TICK = 20
UNDER_WAY = dg.SkipReason("A run of the whole loop is under way; it may be doing this.")
# Jobs that do what another one does, and more.
ALSO_DONE_BY = {"embed_repository": ["index_repository"]}
KEY_TAG = "honeloop/for"


@dg.sensor(
    name="new_feedback",
    minimum_interval_seconds=30,
    default_status=RUNNING,
    description="Reports new feedback as a materialization of search_feedback, the highest id its data "
    "version.",
)
def new_feedback(
    context: dg.SensorEvaluationContext, workbench: dg.ResourceParam[Workbench]
) -> dg.SensorResult | dg.SkipReason:
    """The cursor is the highest id reported."""
    newest = newest_feedback_id(workbench.db)
    reported = int(context.cursor or 0)
    if newest <= reported:
        return dg.SkipReason(f"No feedback after number {reported}.")
    return dg.SensorResult(
        asset_events=[
            dg.AssetMaterialization(
                asset_key="search_feedback",
                metadata={"highest_id": newest, "new": newest - reported},
                tags={"dagster/data_version": str(newest)},
            )
        ],
        cursor=str(newest),
    )


@dg.sensor(
    name="enough_new_feedback",
    job=jobs.fine_tune,
    minimum_interval_seconds=300,
    default_status=RUNNING,
    description="Fine-tunes early, without waiting for the night, when there is much new feedback "
    "(HONELOOP_EARLY_FINETUNE_PAIRS).",
)
def enough_new_feedback(
    context: dg.SensorEvaluationContext, workbench: dg.ResourceParam[Workbench]
) -> dg.RunRequest | dg.SkipReason:
    """Once for each state of the feedback that is enough."""
    if run_under_way(workbench.db):
        return UNDER_WAY
    settings = workbench.settings
    if settings.finetune_disabled:
        return dg.SkipReason("HONELOOP_FINETUNE_DISABLED is set.")
    new = count_new_pairs(workbench.db, settings, feedback_learned(context.instance))
    if new < settings.early_finetune_pairs:
        return dg.SkipReason(
            f"{new} new pairs from feedback; {settings.early_finetune_pairs} start fine-tuning early."
        )
    return _once(context.instance, "fine_tune", f"feedback up to {newest_feedback_id(workbench.db)}")


@dg.sensor(
    name="passed_evaluation",
    job=jobs.promote,
    minimum_interval_seconds=30,
    default_status=RUNNING,
    description="Launches promote for a candidate that was evaluated and has no verdict yet. The gate "
    "decides there, from the stored measurements, whatever this sensor believed.",
)
def passed_evaluation(
    context: dg.SensorEvaluationContext, workbench: dg.ResourceParam[Workbench]
) -> dg.RunRequest | dg.SkipReason:
    """A failed check of the evaluation does not keep the verdict away: it is written down as a rejection."""
    if run_under_way(workbench.db):
        return UNDER_WAY
    evaluated = materialized(context.instance, "model_evaluation")
    if evaluated is None:
        return dg.SkipReason("Nothing was evaluated yet.")
    candidate = workbench.model(str(evaluated["model_version"]))
    verdict = candidate.metrics.get("verdict", {})
    if candidate.state != "candidate":
        return dg.SkipReason(f"{candidate.name} is {candidate.state}.")
    if verdict.get("test_set") == evaluated["test_set"]:
        return dg.SkipReason(f"The gate said of {candidate.name}: {verdict['decision']}.")
    return _once(context.instance, "promote", f"{candidate.version} on {evaluated['test_set']}")


@dg.sensor(
    name="index_upkeep",
    jobs=[jobs.embed_repository, jobs.refresh_index],
    minimum_interval_seconds=30,
    default_status=RUNNING,
    description="Brings the index to the approved model and the present snippets: embeds every repository "
    "that lacks vectors, then builds, verifies and flips.",
)
def index_upkeep(
    context: dg.SensorEvaluationContext, workbench: dg.ResourceParam[Workbench]
) -> dg.SensorResult | dg.SkipReason:
    """Embedding first, one run for each repository; the index when none lacks anything."""
    if run_under_way(workbench.db):
        return UNDER_WAY
    repositories = [each for each in list_repositories(workbench.db) if each.extracted_at is not None]
    if not repositories:
        return dg.SkipReason("No repository was read yet.")
    model = workbench.target_model()
    lacking = [each for each in repositories if count_missing(workbench.db, model.version, each)]
    partitions = set(context.instance.get_dynamic_partitions(REPOSITORIES))
    asked: Iterable[dg.RunRequest | dg.SkipReason]
    if lacking:
        asked = [
            _once(
                context.instance,
                "embed_repository",
                f"{model.version} {each.name} {each.extracted_at}",
                partition=each.name,
            )
            if each.name in partitions
            else dg.SkipReason(f"{each.name} has no partition yet: registered_repositories makes it.")
            for each in lacking
        ]
    elif is_up_to_date(workbench.db, model.version):
        return dg.SkipReason(f"The index of {model.name} serves and has every snippet.")
    else:
        state = max(str(each.extracted_at) for each in repositories)
        asked = [_once(context.instance, "refresh_index", f"{model.version} {state}")]
    wanted = [each for each in asked if isinstance(each, dg.RunRequest)]
    if not wanted:
        return dg.SkipReason(
            "; ".join(str(each.skip_message) for each in asked if isinstance(each, dg.SkipReason))
        )
    return dg.SensorResult(run_requests=wanted[:RUNS_PER_TICK])


@dg.sensor(
    name="registered_repositories",
    job=jobs.index_repository,
    minimum_interval_seconds=30,
    default_status=RUNNING,
    description="Makes a partition of each registered repository, takes away those of removed ones, and "
    "indexes what was never read.",
)
def registered_repositories(
    context: dg.SensorEvaluationContext, workbench: dg.ResourceParam[Workbench]
) -> dg.SensorResult | dg.SkipReason:
    """Registration happens outside Dagster, in the table `repositories`."""
    if run_under_way(workbench.db):
        return UNDER_WAY
    registered = list_repositories(workbench.db)
    names = {repository.name for repository in registered}
    known = set(context.instance.get_dynamic_partitions(REPOSITORIES))
    changes: list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest] = []
    if names - known:
        changes.append(repository_partitions.build_add_request(sorted(names - known)))
    if known - names:
        changes.append(repository_partitions.build_delete_request(sorted(known - names)))
    asked = [
        _once(
            context.instance,
            "index_repository",
            f"first reading of {repository.name} ({repository.id})",
            partition=repository.name,
        )
        for repository in registered
        if repository.extracted_at is None
    ]
    wanted = [each for each in asked if isinstance(each, dg.RunRequest)][:RUNS_PER_TICK]
    if not changes and not wanted:
        return dg.SkipReason(f"{len(names)} repositories are registered, and each was read.")
    return dg.SensorResult(run_requests=wanted, dynamic_partitions_requests=changes)


def _once(
    instance: dg.DagsterInstance,
    job: str,
    key: str,
    *,
    partition: str | None = None,
) -> dg.RunRequest | dg.SkipReason:
    """A request for one run of `job` for `key`, unless one is under way or ATTEMPTS of them have failed.

    Under way for anything: what it is about now may be what it will have done. Dagster never asks twice for
    one run key, so each attempt has its own.
    """
    of_partition = {"dagster/partition": partition} if partition is not None else {}
    for same in {job, *ALSO_DONE_BY.get(job, ())}:
        unfinished = dg.RunsFilter(job_name=same, tags=of_partition, statuses=NOT_FINISHED_STATUSES)
        if instance.get_runs(filters=unfinished, limit=1):
            return dg.SkipReason(f"{same} is under way{f' for {partition}' if partition else ''}.")
    runs = instance.get_runs(filters=dg.RunsFilter(job_name=job, tags={KEY_TAG: key}), limit=ATTEMPTS)
    failed = sum(not run.is_success for run in runs)
    if failed >= ATTEMPTS:
        return dg.SkipReason(f"{job} failed {failed} times for {key}; launch it by hand to try again.")
    return dg.RunRequest(
        run_key=f"{job} {key} {len(runs)}",
        job_name=job,
        partition_key=partition,
        tags={KEY_TAG: key},
    )


sensors = [new_feedback, enough_new_feedback, passed_evaluation, index_upkeep, registered_repositories]
