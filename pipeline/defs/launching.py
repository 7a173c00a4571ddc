"""A run of the loop through a running Dagster: submitted to its queue, followed by its events, cancelled.

So it is seen in the web page from its first moment, and waits its turn behind what uses the same pool.
"""

import http.client
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES

from pipeline.config import Settings
from pipeline.defs.by_command import COMMAND_TAG
from pipeline.defs.failing import failures_in
from pipeline.defs.instance import open_instance
from pipeline.defs.progress_lines import ProgressReader
from pipeline.defs.reporting import plain
from pipeline.defs.results import RESULT, RunResult
from pipeline.defs.sent_settings import settings_to_send
from pipeline.errors import BadInputError, DatabaseAwayError, HoneloopError, UnavailableError
from pipeline.progress import Progress
from pipeline.store.failures import explained

JOB = "whole_loop"
LOCATION = "honeloop"
REPOSITORY = "__repository__"  # what Dagster calls the definitions of a location
POLL_SECONDS = 0.5
ANSWER_SECONDS = 120.0  # so long a code server may need to start
# Whether a failed run is tried again is known so soon.
VERDICT_SECONDS = 30.0
# A cancelled run is waited for so long; Dagster gives it up on its own after cancel_timeout_seconds.
CANCEL_SECONDS = 90.0

# What stands in errors of Dagster that are not its own.
_OF_THE_DATABASE = ("psycopg2.", "DagsterPostgresException")
_CODE_SERVER_IS_GONE = "DagsterUserCodeUnreachableError"

_LAUNCH = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
... on RunConfigValidationInvalid { errors { message } } ... on InvalidSubsetError { message } } }"""
_RELOAD = """mutation ($location: String!) { reloadRepositoryLocation(repositoryLocationName: $location)
{ __typename } }"""
_CANCEL = """mutation ($run: String!) { terminateRun(runId: $run) { __typename } }"""


def run_through_dagster(
    settings: Settings,
    progress: Progress,
    part: str,
    *,
    address: str,
    alive: Callable[[], bool],
    source: str | None = None,
    base: str | None = None,
) -> RunResult:
    """What `in_process.run_part` does, done by the Dagster at `address`, with these settings.

    Ctrl-C cancels the run and waits for its end. A run whose process was killed is tried again by Dagster,
    and the new one is followed.

    Args:
        settings: What is in force here; all but where things are is sent along.
        progress: Shows the run's stages and notes.
        part: run, index or train.
        address: Of Dagster's web server.
        alive: Whether the services at that address still run.
        source: See `in_process.run_loop`.
        base: Likewise.

    Raises:
        HoneloopError: the run failed without a result, was cancelled in the web page, or Dagster went away.
        KeyboardInterrupt: Ctrl-C.
    """
    request = {"part": part, "source": source, "base": base, "settings": settings_to_send(settings)}
    config = {name: value for name, value in request.items() if value is not None}
    with open_instance(settings) as instance, _without_warnings():
        run_id = _submit(address, config, part)
        progress.note(f"Dagster does it: {address}/runs/{run_id}")
        try:
            while True:
                run = _followed(instance, run_id, progress, alive, settings.database_patience_seconds)
                if not _is_tried_again(instance, run):
                    return _result(instance, run)
                run_id = _retry_of(instance, run_id, alive)
                progress.note(f"Its process was killed; Dagster tries again: {address}/runs/{run_id}")
        except KeyboardInterrupt:
            progress.note("Cancelling the run …")
            _cancel(instance, address, run_id)
            raise


def _submit(address: str, config: Mapping[str, Any], part: str) -> str:
    """Puts a run into the queue and returns its id. The web server does not notice that its code server died:
    it is told to start another.
    """
    answer, said = _launched(address, config, part)
    if _CODE_SERVER_IS_GONE in said:
        _ask(address, _RELOAD, {"location": LOCATION})
        answer, said = _launched(address, config, part)
    if answer["__typename"] == "LaunchRunSuccess":
        return str(answer["run"]["runId"])
    if any(word in said for word in _OF_THE_DATABASE):
        raise UnavailableError(
            "Dagster's database does not answer.",
            hint="`honeloop up` starts the embedded one again in seconds; then do the same once more.",
        )
    raise HoneloopError(
        f"Dagster does not launch the run: {answer['__typename']}. {said}".strip(),
        hint=f"Look at {address}/locations, or stop `honeloop up` to run it here.",
    )


def _launched(address: str, config: Mapping[str, Any], part: str) -> tuple[dict[str, Any], str]:
    """What Dagster answers, and the errors in it."""
    answer = _ask(
        address,
        _LAUNCH,
        {
            "params": {
                "selector": {
                    "jobName": JOB,
                    "repositoryName": REPOSITORY,
                    "repositoryLocationName": LOCATION,
                },
                "mode": "default",
                "runConfigData": {"ops": {"the_whole_loop": {"config": config}}},
                "executionMetadata": {"tags": [{"key": COMMAND_TAG, "value": part}]},
            }
        },
    )["launchRun"]
    errors = [answer, *answer.get("errors", ())]
    return answer, "; ".join(str(each["message"]) for each in errors if each.get("message"))


def _followed(
    instance: dg.DagsterInstance, run_id: str, progress: Progress, alive: Callable[[], bool], patience: float
) -> dg.DagsterRun:
    """Shows what a run logs until it has ended, and returns it then. The run outlives a database that is away
    for less than its own patience, so that is waited for here, too.
    """
    reader, cursor = ProgressReader(progress), None
    waited_since, said = time.monotonic(), False
    absence = _Absence(progress, patience)
    try:
        while True:
            try:
                run = instance.get_run_by_id(run_id)
                found = instance.get_records_for_run(run_id, cursor=cursor, limit=1000)
            except Exception as error:
                absence.require_short(error)
                time.sleep(POLL_SECONDS)
                continue
            absence.end()
            if run is None:
                raise HoneloopError(f"The run {run_id} was deleted.", hint="Launch it again.")
            ended = run.status in FINISHED_STATUSES
            cursor = found.cursor
            for record in found.records:
                entry = record.event_log_entry
                if entry.dagster_event is None:
                    reader.read(entry.user_message)
            if ended and not found.has_more:
                return run
            if run.status == dg.DagsterRunStatus.QUEUED and not said and time.monotonic() - waited_since > 10:
                progress.note("It waits in Dagster's queue.")
                said = True
            if not ended and not alive():
                raise HoneloopError(
                    f"`honeloop up` ended while the run {run_id} was under way.",
                    hint="Run the command again: what was done is not done twice.",
                )
            if not found.has_more:
                time.sleep(POLL_SECONDS)
    finally:
        reader.close()


class _Absence:
    """How long the database is away."""

    def __init__(self, progress: Progress, patience: float) -> None:
        self._progress, self._patience = progress, patience
        self._since: float | None = None

    def require_short(self, error: Exception) -> None:
        """Raises the error unless it says that the database is away, and that for less than the patience."""
        known = explained(error)
        if not isinstance(known, DatabaseAwayError):
            raise error
        if self._since is None:
            self._since = time.monotonic()
            self._progress.note(f"{known.message} It is waited for, {self._patience:g} s at the most.")
        if time.monotonic() - self._since > self._patience:
            raise known from error

    def end(self) -> None:
        """It answers."""
        self._since = None


@contextmanager
def _without_warnings() -> Generator[None]:
    """dagster-postgres writes several lines for each attempt to connect; a sentence is said of it here."""

    def is_another(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Retrying failed database connection")

    root = logging.getLogger()
    root.addFilter(is_another)
    try:
        yield
    finally:
        root.removeFilter(is_another)


def _is_tried_again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether Dagster tries a failed run again. It notes that just after the failure itself."""
    deadline = time.monotonic() + VERDICT_SECONDS
    while run.status == dg.DagsterRunStatus.FAILURE and time.monotonic() < deadline:
        fresh = instance.get_run_by_id(run.run_id)
        said = None if fresh is None else fresh.tags.get("dagster/will_retry")
        if said is not None:
            return said == "true"
        time.sleep(POLL_SECONDS)
    return False


def _retry_of(instance: dg.DagsterInstance, run_id: str, alive: Callable[[], bool]) -> str:
    """The run that Dagster makes in place of one whose process was killed."""
    while alive():
        run = instance.get_run_by_id(run_id)
        tags = {} if run is None else run.tags
        if (retry := tags.get("dagster/auto_retry_run_id")) is not None:
            return retry
        if tags.get("dagster/will_retry") != "true":
            break
        time.sleep(POLL_SECONDS)
    raise HoneloopError(f"The run {run_id} was killed, and is not tried again.", hint="Launch it again.")


def _result(instance: dg.DagsterInstance, run: dg.DagsterRun) -> RunResult:
    """What the run said that it did."""
    wanted = {dg.DagsterEventType.STEP_OUTPUT, dg.DagsterEventType.STEP_FAILURE}
    records = instance.get_records_for_run(run.run_id, of_type=wanted).records
    events = [e for record in records if (e := record.event_log_entry.dagster_event) is not None]
    for event in events:
        if event.is_step_failure:
            said = event.step_failure_data.user_failure_data
            metadata = plain(said.metadata) if said else {}
        else:
            metadata = plain(event.step_output_data.metadata)
        if RESULT in metadata:
            return RunResult.from_json(
                {**metadata[RESULT], "run_ids": [run.run_id, *metadata[RESULT]["run_ids"]]}
            )
    for failure in failures_in(events, run.run_id, None):
        raise failure.error()
    raise HoneloopError(
        f"The run {run.run_id} ended as {run.status.value.lower()} before it could say what it did.",
        hint="Its log in Dagster's web page says more.",
    )


def _cancel(instance: dg.DagsterInstance, address: str, run_id: str) -> None:
    """Asks for the run's end and waits for it."""
    _ask(address, _CANCEL, {"run": run_id})
    deadline = time.monotonic() + CANCEL_SECONDS
    while time.monotonic() < deadline:
        run = instance.get_run_by_id(run_id)
        if run is None or run.status in FINISHED_STATUSES:
            return
        time.sleep(POLL_SECONDS)


def _ask(address: str, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a GraphQL answer."""
    request = urllib.request.Request(
        f"{address}/graphql",
        data=json.dumps({"query": query, "variables": variables}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with _answer(request) as answer:
            content = json.load(answer)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise HoneloopError(
            f"Dagster at {address} does not answer: {error}.",
            hint="Look after `honeloop up`, or stop it to run the command in this process.",
        ) from error
    if content.get("errors"):
        raise BadInputError(f"Dagster refuses it: {content['errors'][0]['message']}")
    return content["data"]


def _answer(request: urllib.request.Request) -> http.client.HTTPResponse | urllib.error.HTTPError:
    """What comes, whatever its status: 500 has a body, too, which says why."""
    try:
        return urllib.request.urlopen(request, timeout=ANSWER_SECONDS)
    except urllib.error.HTTPError as error:
        return error
