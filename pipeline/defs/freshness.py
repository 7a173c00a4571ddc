"""Freshness policies: when an asset that is not materialized is overdue, as the asset's page shows it.

Sources are read and the index is verified again every HONELOOP_RECHECK_HOURS at the latest, so that silence
means that automation stands still. Fine-tuning waits for feedback, so its time is long, and it has none when
it is switched off. Dagster looks at the newest materialization of a partitioned asset: one repository that is
never read beside others that are is shown by `honeloop status`, and said by the sensor new_commits.
"""

from datetime import timedelta

import dagster as dg

from pipeline.config import Settings


def code_is_fresh(settings: Settings) -> dg.FreshnessPolicy:
    """Of snippets and the index."""
    overdue = timedelta(hours=settings.stale_after_hours)
    return dg.FreshnessPolicy.time_window(fail_window=overdue, warn_window=overdue / 2)


def model_is_fresh(settings: Settings) -> dg.FreshnessPolicy | None:
    """Of the fine-tuned model; None where nobody fine-tunes."""
    if settings.finetune_disabled:
        return None
    overdue = timedelta(days=settings.model_stale_after_days)
    return dg.FreshnessPolicy.time_window(fail_window=overdue, warn_window=overdue / 2)
