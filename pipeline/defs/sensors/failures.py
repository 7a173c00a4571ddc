"""The sensor of failed runs."""

import dagster as dg

from pipeline.alerts import Webhook
from pipeline.defs.failing import failure_sentences
from pipeline.defs.sensors.asking import RUNNING


@dg.run_failure_sensor(
    name="failed_runs",
    minimum_interval_seconds=30,
    default_status=RUNNING,
    description="Tells the webhook HONELOOP_ALERT_WEBHOOK of each run that failed and is not tried again, "
    "with what it said; also of a blocking check that failed, which fails its run. Without one it does "
    "nothing.",
)
def failed_runs(
    context: dg.RunFailureSensorContext, alerts: dg.ResourceParam[Webhook]
) -> dg.SkipReason | None:
    """Once for each failed run, by Dagster's own cursor. Runs on somebody's terminal are told there."""
    run = context.dagster_run
    if not alerts.wanted:
        return dg.SkipReason("HONELOOP_ALERT_WEBHOOK is not set: nobody is told.")
    if run.tags.get("dagster/will_retry") == "true":
        return dg.SkipReason(f"Run {run.run_id[:8]} is tried again by itself: nobody is told yet.")
    partition = f" ({context.partition_key})" if context.partition_key else ""
    said = failure_sentences(context.instance, run.run_id) or [context.failure_event.message or ""]
    alerts.send(
        f"Honeloop: {run.job_name}{partition} failed. {' '.join(said)} Run {run.run_id} has its log; what "
        "serves goes on serving."
    )
    return None
