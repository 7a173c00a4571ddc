"""Schedules: fine-tuning at night, and old searches expiring every day.

What does not belong here: what starts because something happened (sensors.py).
"""

from datetime import date

import dagster as dg

from pipeline.config import load_settings
from pipeline.defs.alone import fine_tuning_under_way
from pipeline.defs.jobs import expire, fine_tune
from pipeline.defs.upstream import feedback_learned
from pipeline.feedback.news import count_new_pairs
from pipeline.workbench import Workbench

NIGHTLY = "0 2 * * *"
DAILY = "30 4 * * *"


@dg.schedule(
    job=fine_tune,
    name="nightly_fine_tuning",
    cron_schedule=NIGHTLY,
    execution_timezone=load_settings().timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Fine-tunes at 02:00 when there is enough new feedback. HONELOOP_FINETUNE_DISABLED stops it.",
)
def nightly_fine_tuning(
    context: dg.ScheduleEvaluationContext, workbench: dg.ResourceParam[Workbench]
) -> dg.RunRequest | dg.SkipReason:
    """Skips, saying why, or asks for one run a night."""
    settings = workbench.settings
    if settings.finetune_disabled:
        return dg.SkipReason("HONELOOP_FINETUNE_DISABLED is set.")
    # Only then: there is one such moment a night, and a run that indexes would take the night along.
    if fine_tuning_under_way(workbench.db):
        return dg.SkipReason("A run that fine-tunes is under way: `honeloop run`, or `honeloop train`.")
    new = count_new_pairs(workbench.db, settings, feedback_learned(context.instance))
    if new < settings.nightly_min_pairs:
        return dg.SkipReason(
            f"{new} new pairs from feedback since the last model was trained; {settings.nightly_min_pairs} "
            "make a night worth it (HONELOOP_NIGHTLY_MIN_PAIRS)."
        )
    night: date = context.scheduled_execution_time.date()
    return dg.RunRequest(run_key=f"night {night.isoformat()}", tags={"honeloop/new_pairs": str(new)})


daily_expiry = dg.ScheduleDefinition(
    name="daily_expiry",
    job=expire,
    cron_schedule=DAILY,
    execution_timezone=load_settings().timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Old searches are deleted, or lose their names, at 04:30.",
)

schedules = [nightly_fine_tuning, daily_expiry]
