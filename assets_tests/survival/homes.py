"""Small homes with a Postgres, a source and an index of their own: to be copied, damaged and looked at."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from assets_tests.end_to_end.services import Services, services
from assets_tests.end_to_end.test_loop import commit_all, copy_from_click
from pipeline.config import PROJECT_ROOT, Settings
from pipeline.corpus.repositories import add_repository
from pipeline.defs.in_process import run_loop
from pipeline.progress import Silent
from pipeline.store import server_leftovers
from pipeline.store.connections import Database, open_database
from pipeline.store.embedded import HomeServer
from pipeline.store.server import DAGSTER_DATABASE, database_url

# What is there from the beginning, and what the night brings: enough documented functions to train on.
FILES = ("utils.py", "formatting.py", "exceptions.py")
NEWS = ("globals.py", "decorators.py")
QUERIES = ("open a file for writing", "wrap text to a width", "show a usage error", "read standard input")
# Under these the loop is as short as it can be, and every step of it has something to do.
SMALL: Mapping[str, str] = {
    "MIN_PAIRS": "15",
    "MAX_DOCUMENTATION_PAIRS": "32",
    "MAX_TEST_DOCUMENTATION_PAIRS": "20",
    "MAX_VALIDATION_DOCUMENTATION_PAIRS": "8",
    "MAX_COMMITS": "0",
    "TRAIN_BATCH_SIZE": "8",
    "TRAIN_MAX_TOKENS": "48",
    "VALIDATIONS_PER_EPOCH": "2",
    "EARLY_STOPPING_PATIENCE": "50",
    "STATE_SECONDS": "0",
    "STATE_MAX_SHARE": "1",
    "MAX_LOSS_RISE": "100",
    "RECALL_SAMPLE": "20",
    "INDEX_BUILD_WORKERS": "0",
    "BOOTSTRAP_RESAMPLES": "100",
    "PERMUTATIONS": "1000",
    # Whatever is learned passes, so that the night ends with a promotion and a flip.
    "GATE_MIN_QUERIES": "1",
    "GATE_SIGNIFICANCE": "0.5",
    "GATE_MIN_IMPROVEMENT": "0",
    "GATE_MAX_SLICE_REGRESSION": "1",
    "GATE_MAX_GENERAL_REGRESSION": "1",
    "GATE_FLOORS": "{}",
    "MIN_METRIC": "0",
    "MAX_VALIDATION_DROP": "1",
}


@dataclass
class Home:
    """A HONELOOP_HOME with its embedded Postgres, and the one git repository that is registered in it.

    Args:
        path: The home; beside it lies the repository.
        changes: Settings other than `SMALL`'s, by their name without HONELOOP_.
    """

    path: Path
    changes: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def repository(self) -> Path:
        return self.path.parent / "repository"

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HONELOOP_")}
        own = {f"HONELOOP_{name}": value for name, value in {**SMALL, **self.changes}.items()}
        return {
            **inherited,
            **own,
            "HONELOOP_HOME": str(self.path),
            "HONELOOP_DEVICE": "cpu",
            "PYTHONPATH": str(PROJECT_ROOT),
            "OMP_NUM_THREADS": "1",
        }

    @property
    def settings(self) -> Settings:
        """What the environment says, for work in this process."""
        own = {name.lower(): value for name, value in {**SMALL, **self.changes}.items()}
        floors = json.loads(own.pop("gate_floors"))
        return Settings.model_validate({**own, "gate_floors": floors, "home": self.path, "device": "cpu"})

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """A command, to its end."""
        with self.start(*arguments) as process:
            try:
                out, errors = process.communicate(timeout=timeout)
            except BaseException:
                kill_group(process)
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, errors)

    def doctor(self, *arguments: str) -> dict[str, Any]:
        """What the doctor says."""
        done = self.run("doctor", "--json", *arguments)
        assert done.stdout, done.stderr
        said = json.loads(done.stdout)
        assert done.returncode == (0 if said["sound"] else 1), done.stderr
        return said

    def database(self) -> Database:
        """Its database; the server is started, and this process counts among its users."""
        return open_database(self.settings)

    def dagster_url(self) -> str:
        """Where Dagster keeps its runs."""
        return database_url(self.settings, DAGSTER_DATABASE)

    @property
    def data(self) -> Path:
        return self.path / "postgres"

    def leave(self) -> None:
        """Uses the server no longer, and stops it if nobody else in this process or another does."""
        server = HomeServer._instances.get(self.data.resolve())
        if server is not None:
            server_leftovers.forget_dead_users(self.data)
            server.cleanup()

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to this home: of Postgres and of ours."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter(["pid"]):
            with suppress(psutil.Error):
                if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                home = process.environ().get("HONELOOP_HOME")
                if home == str(self.path) or Path(process.cwd()) == self.data.resolve():
                    found.append(process)
        return found

    def copy(self, to: Path) -> Home:
        """The same, elsewhere. Nothing may be running in it."""
        assert not self.processes()
        subprocess.run(["cp", "-a", f"{self.path.parent}/.", str(to)], check=True)
        other = Home(to / self.path.name, dict(self.changes))
        # The registered place of the repository is an absolute path.
        with other.database().connect() as connection:
            connection.execute("UPDATE repositories SET location = %s", [str(other.repository)])
            connection.execute(
                "UPDATE model_versions SET location = replace(location, %s, %s)",
                [str(self.path), str(other.path)],
            )
        other.leave()
        return other

    def bring_news(self) -> None:
        """A commit, and judgements: every step of the loop then has something to do."""
        copy_from_click(NEWS, self.repository)
        commit_all(self.repository, "Add more")
        self.give_feedback(0)

    def give_feedback(self, number: int) -> None:
        """Judgements as a team's export has them; another number, other queries."""
        lines = [
            {
                "query": f"{query} {number}" if number else query,
                "repository": "clicked",
                "path": path,
                "judgement": "accept",
                "user": f"user-{number}",
            }
            for query, path in (
                ("run a callback with context", "utils.py"),
                ("format help text", "formatting.py"),
            )
        ]
        file = self.path.parent / f"feedback-{number}.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        done = self.run("feedback", "import", str(file))
        assert done.returncode == 0, done.stderr


def make_home(directory: Path) -> Home:
    """A home whose index of a small repository serves; stopped."""
    home = Home(directory / "home")
    home.repository.mkdir(parents=True)
    copy_from_click(FILES, home.repository)
    commit_all(home.repository, "Begin")
    add_repository(home.database(), "clicked", str(home.repository))
    assert run_loop(home.settings, Silent(), only_index=True).failures == []
    home.leave()
    return home


@contextmanager
def temporary_directory() -> Generator[Path]:
    """In memory if there is enough, and with a short path: a Unix socket's may have 100 characters."""
    memory = Path("/dev/shm")
    enough = memory.is_dir() and shutil.disk_usage(memory).free > 4 << 30
    path = Path(tempfile.mkdtemp(prefix="hl-", dir=memory if enough else "/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def up_of(home: Home, **more: str) -> Generator[Services]:
    """`honeloop up` of the home with its embedded Postgres. At its end nothing of the home runs."""
    try:
        with services(home.settings, home.path.parent / "up.log", **{**home.environment, **more}) as up:
            yield up
        assert wait_until(lambda: not home.processes(), 60)
    finally:
        kill_all(home.processes())


def kill_group(process: subprocess.Popen[str]) -> None:
    """Kill -9 of the process and all that it started in its group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_server(home: Home) -> None:
    """Kill -9 of the home's Postgres, all of its processes at once."""
    pid = server_leftovers.running_postmaster(home.data)
    if pid is None:
        return
    with suppress(psutil.NoSuchProcess):
        postmaster = psutil.Process(pid)
        family = [postmaster, *postmaster.children(recursive=True)]
        kill_all(family)


def kill_all(processes: Sequence[psutil.Process]) -> None:
    """Kill -9, and wait until they are gone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=30)


def wait_until(done: Any, seconds: float = 60.0, every: float = 0.02) -> bool:
    """Whether `done()` was true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if done():
            return True
        time.sleep(every)
    return bool(done())
