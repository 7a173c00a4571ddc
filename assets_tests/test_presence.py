"""Commands find the `honeloop up` of their home and database, and no other, and none that was killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.commands.presence import announce, claimed, running_services
from pipeline.config import Settings
from pipeline.errors import HoneloopError

HOLDS = """
import sys, time
from pipeline.commands.presence import announce, claimed
from pipeline.config import Settings
settings = Settings(home=sys.argv[1])
with claimed(settings) as file:
    announce(file, settings, "http://127.0.0.1:3000")
    print("up", flush=True)
    time.sleep(60)
"""


def test_it_is_found_while_it_runs_and_only_then(tmp_path: Path):
    settings = Settings(home=tmp_path)
    assert running_services(settings) is None
    with claimed(settings) as file:
        assert running_services(settings) is None  # it is still starting
        announce(file, settings, "http://127.0.0.1:3000")
        found = running_services(settings)
        assert found is not None
        assert found.dagster == "http://127.0.0.1:3000"
        with pytest.raises(HoneloopError, match="up` runs for"), claimed(settings):
            pass
        assert running_services(settings) == found
        elsewhere = settings.model_copy(update={"database_url": "postgresql://u:secret@host/other"})
        assert running_services(elsewhere) is None
        assert "secret" not in (tmp_path / "up.lock").read_text()
    assert running_services(settings) is None


def test_one_that_was_killed_is_not_taken_for_running(tmp_path: Path):
    settings = Settings(home=tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert running_services(settings) is not None
    process.kill()
    process.communicate()
    assert (tmp_path / "up.lock").read_text()
    assert running_services(settings) is None
    with claimed(settings):
        pass
