"""A run of Dagster steps back behind the search service before torch is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys

STEPS_BACK = """
import json, os, sys
from pipeline.config import Settings
from pipeline.defs.resources import step_back
assert "torch" not in sys.modules
step_back(Settings())
print(json.dumps([os.nice(0), os.environ["OMP_NUM_THREADS"]]))
"""


def stepped_back(**environment: str) -> list[object]:
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", STEPS_BACK],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_one_processor_is_left_and_the_others_are_lent():
    left = max(1, len(os.sched_getaffinity(0)) - 1)
    before = os.nice(0)
    assert stepped_back() == [max(before, 10), str(left)]
    assert stepped_back(HONELOOP_RUN_THREADS="3", HONELOOP_BACKGROUND_NICENESS="0") == [before, "3"]
    assert stepped_back(OMP_NUM_THREADS="5")[1] == "5"
