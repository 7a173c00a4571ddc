"""Ray itself, imported when it is first needed: most installations do not have it."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def ray_module() -> Any:
    """`import ray`, with the submodule used here. Untyped: types are checked without it, too."""
    import_module("ray.util.scheduling_strategies")
    return import_module("ray")
