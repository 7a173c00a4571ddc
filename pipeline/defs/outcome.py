"""What became of a run that was executed in this process: whether it was interrupted, and what failed in it.

What does not belong here: what is done about it (in_process.py).
"""

from dataclasses import dataclass

import dagster as dg

from pipeline.defs.reporting import plain
from pipeline.errors import BadInputError, HoneloopError, UnavailableError


@dataclass(frozen=True)
class Failure:
    """What stopped a run: which asset or check, in which repository, why, and what to do.

    `unavailable`: nothing is wrong with it but that the database went away.
    """

    step: str
    repository: str | None
    message: str
    hint: str
    exit_code: int = 1
    check: bool = False
    unavailable: bool = False

    def error(self) -> HoneloopError:
        """The same as an exception."""
        kind = BadInputError if self.exit_code == BadInputError.exit_code else HoneloopError
        return kind(self.message, hint=self.hint)


def was_interrupted(executed: dg.ExecuteInProcessResult) -> bool:
    """Whether Ctrl-C ended the run: Dagster makes a failure of its step out of it."""
    return any(
        event.is_step_failure
        and (error := event.step_failure_data.error) is not None
        and any(
            each is not None and each.cls_name in ("DagsterExecutionInterruptedError", "KeyboardInterrupt")
            for each in (error, error.cause)
        )
        for event in executed.all_events
    )


def failures_of(executed: dg.ExecuteInProcessResult, partition: str | None) -> list[Failure]:
    """What went wrong in a run: failed checks that block, and failed steps."""
    found = [
        Failure(
            step=evaluation.asset_key.to_user_string(),
            repository=partition,
            message=f"The check {evaluation.check_name} of {evaluation.asset_key.to_user_string()}"
            f"{f' ({partition})' if partition else ''} failed: {evaluation.description or ''}",
            hint=str(plain(evaluation.metadata).get("hint", "")),
            check=True,
        )
        for evaluation in executed.get_asset_check_evaluations()
        if not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR
    ]
    for event in executed.all_events:
        if not event.is_step_failure or event.step_key is None:
            continue
        data = event.step_failure_data
        said = plain(data.user_failure_data.metadata) if data.user_failure_data else {}
        if "message" in said:
            found.append(
                Failure(
                    event.step_key,
                    partition,
                    str(said["message"]),
                    str(said["hint"]),
                    int(said["exit_code"]),
                    unavailable=bool(said.get("unavailable", False)),
                )
            )
        elif data.error is not None and "CheckFailed" not in (data.error.cls_name or ""):
            cause = data.error.cause or data.error
            found.append(
                Failure(
                    event.step_key,
                    partition,
                    f"{event.step_key} failed unexpectedly: {cause.message.strip()}",
                    f"Where is in Dagster's log of run {executed.run_id}: `honeloop up` shows it.",
                    unavailable=UnavailableError.__name__ in (data.error.cls_name, cause.cls_name),
                )
            )
    return found
