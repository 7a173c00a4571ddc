"""Which command of `honeloop` a run is part of: what `train` made is only looked at, and goes to no gate.

What does not belong here: how such a run is made (in_process.py, launching.py).
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

COMMAND_TAG = "honeloop/command"


def command_of(context: dg.AssetExecutionContext) -> dict[str, str]:
    """The command as metadata; nothing in a run of a schedule, a sensor or the web page."""
    command = context.run.tags.get(COMMAND_TAG)
    return {} if command is None else {"command": command}


def is_only_looked_at(made: Mapping[str, Any]) -> bool:
    """Whether what was materialized with that metadata was made by `honeloop train`, to be looked at."""
    return made.get("command") == "train"
