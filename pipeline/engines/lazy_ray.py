"""Ray itself, imported when it is first needed: most installations do not have it."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any


def ray_module() -> Any:
    """`import ray`, with the submodule used here. Untyped: types are checked without it, too."""
    # Else, asked for anything before a cluster is joined, it joins what it finds, or starts one of its own.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    import_module("ray.util.scheduling_strategies")
    return import_module("ray")
