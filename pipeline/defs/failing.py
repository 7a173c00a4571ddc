"""What stopped a run, read from its events, in words for people."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import dagster as dg

from pipeline.defs.reporting import plain
from pipeline.errors import BadInputError, DatabaseAwayError, HoneloopError


@dataclass(frozen=True)
class Failure:
    """What stopped a run: which asset or check, in which repository, why, and what to do.

    `database_away`: nothing is wrong with it but that the database went away.
    """

    step: str
    repository: str | None
    message: str
    hint: str
    exit_code: int = 1
    check: bool = False
    database_away: bool = False

    def error(self) -> HoneloopError:
        """The same as an exception."""
        kind = BadInputError if self.exit_code == BadInputError.exit_code else HoneloopError
        return kind(self.message, hint=self.hint)


def failures_in(events: Sequence[dg.DagsterEvent], run_id: str, partition: str | None) -> list[Failure]:
    """What failed according to a run's events: the blocking checks first, then the steps."""
    checks = [_of_check(each, partition) for each in _not_passed(events, dg.AssetCheckSeverity.ERROR)]
    steps: list[Failure] = []
    for event in events:
        if event.is_step_failure and event.step_key is not None:
            steps += _of_step(event, event.step_key, run_id, partition)
    return checks + steps


def warnings_in(events: Sequence[dg.DagsterEvent]) -> list[str]:
    """What is only behind according to the checks of a run, and what to do about it; a line each."""
    return [
        f"{each.description} {plain(each.metadata).get('hint', '')}".strip()
        for each in _not_passed(events, dg.AssetCheckSeverity.WARN)
    ]


def was_interrupted(events: Iterable[dg.DagsterEvent]) -> bool:
    """Whether Ctrl-C ended the run: Dagster makes a failure of its step out of it."""
    return any(
        event.is_step_failure
        and (error := event.step_failure_data.error) is not None
        and any(
            each is not None and each.cls_name in ("DagsterExecutionInterruptedError", "KeyboardInterrupt")
            for each in (error, error.cause)
        )
        for event in events
    )


def failure_sentences(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """What failed in a stored run, a sentence or two each."""
    wanted = {dg.DagsterEventType.ASSET_CHECK_EVALUATION, dg.DagsterEventType.STEP_FAILURE}
    records = instance.get_records_for_run(run_id, of_type=wanted).records
    events = [record.event_log_entry.dagster_event for record in records]
    found = failures_in([event for event in events if event is not None], run_id, None)
    return [str(failure.error()) for failure in found]


def _not_passed(
    events: Sequence[dg.DagsterEvent], severity: dg.AssetCheckSeverity
) -> list[dg.AssetCheckEvaluation]:
    checked = (
        event.asset_check_evaluation_data
        for event in events
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
    )
    return [each for each in checked if not each.passed and each.severity == severity]


def _of_check(evaluation: dg.AssetCheckEvaluation, partition: str | None) -> Failure:
    asset = evaluation.asset_key.to_user_string()
    return Failure(
        step=asset,
        repository=partition,
        message=f"The check {evaluation.check_name} of {asset}"
        f"{f' ({partition})' if partition else ''} failed: {evaluation.description or ''}",
        hint=str(plain(evaluation.metadata).get("hint", "")),
        check=True,
    )


def _of_step(event: dg.DagsterEvent, step: str, run_id: str, partition: str | None) -> list[Failure]:
    data = event.step_failure_data
    said = plain(data.user_failure_data.metadata) if data.user_failure_data else {}
    if "message" in said:
        return [
            Failure(
                step,
                partition,
                str(said["message"]),
                str(said["hint"]),
                int(said["exit_code"]),
                database_away=bool(said.get("database_away", False)),
            )
        ]
    if data.error is None or "CheckFailed" in (data.error.cls_name or ""):
        return []  # the check itself says it
    cause = data.error.cause or data.error
    return [
        Failure(
            step,
            partition,
            f"{step} failed unexpectedly: {cause.message.strip()}",
            f"Where is in Dagster's log of run {run_id}: `honeloop up` shows it.",
            database_away=DatabaseAwayError.__name__ in (data.error.cls_name, cause.cls_name),
        )
    ]
