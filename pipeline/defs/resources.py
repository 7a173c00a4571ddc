"""Resources: the workbench, made from the environment's settings once per process.

What does not belong here: opening anything at import; code locations are loaded without a database.
"""

from functools import cache
from typing import Any

import dagster as dg

from pipeline.alerts import Webhook
from pipeline.config import load_settings
from pipeline.workbench import Workbench

WORKBENCH = "workbench"
ALERTS = "alerts"


@cache
def _workbench() -> Workbench:
    return Workbench(load_settings())


def _from_environment(_: dg.InitResourceContext) -> Workbench:
    # Sensors tick every half minute in one process: the database is opened and migrated once, not every time.
    return _workbench()


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
