"""Sensors of the registered repositories: which there are, and which hold something new."""

import json
import re
import threading
import time
from collections.abc import Sequence
from typing import Any

import dagster as dg

from pipeline.config import Settings
from pipeline.corpus.news import state_of_source
from pipeline.corpus.repositories import Repository, list_repositories
from pipeline.defs import jobs
from pipeline.defs.alone import run_under_way
from pipeline.defs.partitions import REPOSITORIES, repository_partitions
from pipeline.defs.reporting import materialized
from pipeline.defs.sensors.asking import RUNNING, UNDER_WAY, is_over, once, reasons_of, wanted_of
from pipeline.errors import HoneloopError
from pipeline.workbench import Workbench

# So many sources are asked in one tick; the others are due in the next.
ASKED_PER_TICK = 50
# A source that takes long to look at is looked at less often: at most this share of the time goes into it.
LOOKING_SHARE = 0.02


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
    """Registration happens outside Dagster, in the table `repositories`. Without a cursor: it reads two short
    lists, and comparing them is the point.
    """
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
        once(
            context.instance,
            "index_repository",
            f"first reading of {repository.name} ({repository.id})",
            partition=repository.name,
        )
        for repository in registered
        if repository.extracted_at is None
    ]
    wanted = wanted_of(asked)
    if changes or wanted:
        return dg.SensorResult(run_requests=wanted, dynamic_partitions_requests=changes)
    return dg.SkipReason(reasons_of(asked) or f"{len(names)} repositories are registered, and each was read.")


@dg.sensor(
    name="new_commits",
    job=jobs.index_repository,
    minimum_interval_seconds=30,
    default_status=RUNNING,
    description="Asks each source every few minutes (HONELOOP_NEW_COMMITS_SECONDS) whether it has something "
    "new, and then reads and embeds it: a git repository for its commit, a distribution for its version, a "
    "directory for the times of its files. Nothing is fetched for it.",
)
def new_commits(
    context: dg.SensorEvaluationContext, workbench: dg.ResourceParam[Workbench]
) -> dg.SensorResult | dg.SkipReason:
    """The cursor says when each source is asked again. Only those that are due are asked, all at once, and
    what has not answered in HONELOOP_NEW_COMMITS_TIMEOUT_SECONDS is not waited for.
    """
    if run_under_way(workbench.db):
        return UNDER_WAY
    settings, now = workbench.settings, time.time()
    read = [each for each in list_repositories(workbench.db) if each.extracted_at is not None]
    if not read:
        return dg.SkipReason("No repository was read yet.")
    agenda: dict[str, float] = json.loads(context.cursor or "{}")
    agenda = {str(each.id): agenda.get(str(each.id), 0.0) for each in read}
    # A clock that was put back must not keep a source from being asked.
    longest = max(settings.new_commits_seconds, settings.new_commits_timeout_seconds / LOOKING_SHARE)
    due = [each for each in read if not now < agenda[str(each.id)] <= now + longest]
    due = sorted(due, key=lambda each: agenda[str(each.id)])[:ASKED_PER_TICK]
    if not due:
        wait = max(0, round(min(agenda.values()) - now))
        return dg.SkipReason(f"Each of {len(read)} sources was asked lately; the next is due in {wait} s.")
    asked: list[dg.RunRequest | dg.SkipReason] = []
    partitions = set(context.instance.get_dynamic_partitions(REPOSITORIES))
    unchanged = 0
    for repository, (answer, seconds) in zip(due, _ask(due, settings), strict=True):
        agenda[str(repository.id)] = now + max(settings.new_commits_seconds, seconds / LOOKING_SHARE)
        if isinstance(answer, HoneloopError):
            asked.append(dg.SkipReason(f"{repository.name}: {_without_credentials(answer.message)}"))
        elif repository.name not in partitions:
            asked.append(dg.SkipReason(f"{repository.name} has no partition yet."))
            agenda[str(repository.id)] = now
        elif (key := _news(context.instance, repository, answer, settings)) is not None:
            asked.append(
                once(
                    context.instance,
                    "index_repository",
                    f"{repository.name} ({repository.id}) {key}",
                    partition=repository.name,
                )
            )
        else:
            unchanged += 1
    cursor = json.dumps(agenda)
    wanted = wanted_of(asked)
    if wanted:
        return dg.SensorResult(run_requests=wanted, cursor=cursor)
    said = f"{unchanged} of the {len(due)} sources asked now have nothing new. {reasons_of(asked)}"
    return dg.SensorResult(skip_reason=said.strip(), cursor=cursor)


def _news(
    instance: dg.DagsterInstance, repository: Repository, state: str | None, settings: Settings
) -> str | None:
    """What there is to read, in words that name it; None if nothing is new."""
    assert repository.extracted_at is not None
    last = repository.extracted_at.timestamp()
    if is_over(last, settings.recheck_hours * 3600):
        return f"read last at {round(last)}"
    if state is None:
        return None  # only a reading can tell: the daily one does
    if repository.kind == "git":
        return None if state == repository.commit_id else f"at {state}"
    known = (materialized(instance, "snippets", repository.name) or {}).get("state")
    return None if state == known else f"at {state}"


def _ask(due: Sequence[Repository], settings: Settings) -> list[tuple[str | HoneloopError | None, float]]:
    """The state of each source, or why it cannot be told, and the seconds that took.

    In threads that nobody waits for longer than the time limit: a server that swallows packets, a name server
    or a network disk must not hang the daemon. libgit2 gives up on a silent server by itself, later.
    """
    limit = settings.new_commits_timeout_seconds
    hasty = settings.model_copy(update={"fetch_timeout_seconds": limit})
    answers: dict[int, tuple[str | HoneloopError | None, float]] = {}

    def ask(number: int, repository: Repository) -> None:
        started = time.monotonic()
        answer: Any
        try:
            answer = state_of_source(repository, hasty)
        except HoneloopError as error:
            answer = error
        except Exception as error:  # whatever it is, the other sources are to be asked all the same
            answer = HoneloopError(f"It could not be asked: {type(error).__name__}: {error}.")
        answers[number] = answer, time.monotonic() - started

    threads = [
        threading.Thread(target=ask, args=(number, each), daemon=True) for number, each in enumerate(due)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + limit
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    silent = HoneloopError(f"It did not answer within {limit} s.")
    return [answers.get(number, (silent, float(limit))) for number in range(len(due))]


def _without_credentials(text: str) -> str:
    """The text without user and password of any address in it, and short enough for a reason."""
    return re.sub(r"://[^/\s@]*@", "://***@", text)[:500]
