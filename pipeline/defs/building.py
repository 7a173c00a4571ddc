"""Puts assets, checks, jobs, schedules, sensors and resources together.

What does not belong here: any of them.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from pipeline.config import load_settings
from pipeline.defs.assets import all_assets
from pipeline.defs.checks import asset_checks
from pipeline.defs.executor import executor_named
from pipeline.defs.resources import default_resources


def build_defs(resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """All definitions.

    Args:
        resource_overrides: Resources by name that stand in for the default ones: a test's workbench, the one
            whose progress goes to the terminal.

    Raises:
        BadInputError: HONELOOP_EXECUTOR names none that is there.
    """
    from pipeline.defs.jobs import jobs
    from pipeline.defs.schedules import schedules
    from pipeline.defs.sensors import sensors

    return dg.Definitions(
        assets=all_assets,
        asset_checks=asset_checks,
        jobs=jobs,
        schedules=schedules,
        sensors=sensors,
        resources={**default_resources(), **(resource_overrides or {})},
        executor=executor_named(load_settings().executor),
    )
