"""Resources: the workbench, made from the environment's settings once per process.

What does not belong here: opening anything at import; code locations are loaded without a database.
"""

import os
from contextlib import suppress
from functools import cache
from typing import Any

import dagster as dg
import psutil

from pipeline.alerts import Webhook
from pipeline.config import Settings, load_settings
from pipeline.processors import usable_processors
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
        step_back(workbench.settings)
    return workbench


def step_back(settings: Settings) -> None:
    """Leaves the processors to the search service, and to Dagster's web page, when those need them.

    Niceness alone is not enough everywhere: some schedulers share the processors among sessions first, and
    within one only by niceness (`sched_autogroup_enabled`, see sched(7)). So one processor is left free too.
    All that this process starts inherits both; torch and ONNX Runtime read the variable when they are loaded,
    which is later. What that is worth on a machine: `assets_tests/benchmarks/search_beside_embedding.py`.
    """
    with suppress(psutil.Error, OSError):
        process = psutil.Process()
        process.nice(max(settings.background_niceness, process.nice()))
    os.environ.setdefault("OMP_NUM_THREADS", str(run_threads(settings)))


def run_threads(settings: Settings) -> int:
    """How many threads torch takes in a run that steps back."""
    return settings.run_threads or max(1, usable_processors() - 1)


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
