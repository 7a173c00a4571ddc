"""Resources: the workbench, made from the environment's settings once per process.

What does not belong here: opening anything at import; code locations are loaded without a database.
"""

from contextlib import suppress
from functools import cache
from typing import Any

import dagster as dg
import psutil

from pipeline.alerts import Webhook
from pipeline.config import load_settings
from pipeline.workbench import Workbench

WORKBENCH = "workbench"
ALERTS = "alerts"


@cache
def _workbench() -> Workbench:
    return Workbench(load_settings())


def _from_environment(context: dg.InitResourceContext) -> Workbench:
    # Sensors tick every half minute in one process: the database is opened and migrated once, not every time.
    workbench = _workbench()
    if context.run is not None:  # the process is this run's own
        _step_back(workbench.settings.background_niceness)
    return workbench


def _step_back(niceness: int) -> None:
    """Leaves the processors to the search service, and to Dagster's web page, when those need them.

    All that this process starts inherits it. Threads are as many as torch takes: with niceness they cost the
    others nothing, and fewer would only make a night longer (figures:
    `assets_tests/benchmarks/search_beside_embedding.py`).
    """
    with suppress(psutil.Error, OSError):
        process = psutil.Process()
        process.nice(max(niceness, process.nice()))


def _webhook(_: dg.InitResourceContext) -> Webhook:
    return Webhook(load_settings().alert_webhook)


def default_resources() -> dict[str, Any]:
    """What assets, checks, schedules and sensors ask for, by name."""
    return {
        WORKBENCH: dg.ResourceDefinition(
            _from_environment, description="Settings, the database and encoders, each loaded once."
        ),
        ALERTS: dg.ResourceDefinition(
            _webhook,
            description="Where failed runs are reported (HONELOOP_ALERT_WEBHOOK); nowhere by default.",
        ),
    }
