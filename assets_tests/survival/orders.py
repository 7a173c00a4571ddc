"""Commands of the real command line, quickly started, each in a process group of its own (zygote.py)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets_tests.survival.homes import Home
from pipeline.config import PROJECT_ROOT


@dataclass(frozen=True)
class Command:
    """A command that runs, or ran."""

    pid: int
    out: Path
    errors: Path
    started: float


class Orders:
    """Starts commands, and knows how they ended. Made by `taking_orders`."""

    def __init__(self, zygote: subprocess.Popen[str], directory: Path) -> None:
        self._zygote = zygote
        self._directory = directory
        self._ended: dict[int, int] = {}
        self._started: list[int] = []
        self._said = threading.Condition()
        self._count = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, home: Home, *arguments: str) -> Command:
        """Begins a command on a home."""
        self._count += 1
        out, errors = (self._directory / f"{self._count}.{kind}" for kind in ("out", "errors"))
        order = {
            "arguments": arguments,
            "environment": home.environment,
            "out": str(out),
            "errors": str(errors),
        }
        assert self._zygote.stdin is not None
        before = len(self._started)
        self._zygote.stdin.write(json.dumps(order) + "\n")
        self._zygote.stdin.flush()
        with self._said:
            assert self._said.wait_for(lambda: len(self._started) > before, 120)
        return Command(self._started[-1], out, errors, time.monotonic())

    def code(self, command: Command) -> int | None:
        """Its exit code; None while it runs, negative if a signal ended it."""
        with self._said:
            return self._ended.get(command.pid)

    def wait(self, command: Command, seconds: float = 900) -> int:
        """Waits for its end and gives its exit code."""
        with self._said:
            assert self._said.wait_for(lambda: command.pid in self._ended, seconds), "it did not end"
            return self._ended[command.pid]

    def kill(self, command: Command) -> bool:
        """Kill -9 of its process group; whether it was still running."""
        with suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)
        return self.wait(command, 60) == -signal.SIGKILL

    def run(self, home: Home, *arguments: str) -> tuple[int, str, str]:
        """A command to its end: exit code, standard output, standard error."""
        command = self.start(home, *arguments)
        code = self.wait(command)
        return code, command.out.read_text(), command.errors.read_text()

    def json(self, home: Home, *arguments: str) -> dict[str, Any]:
        """What a command that succeeds prints with --json."""
        code, out, errors = self.run(home, *arguments, "--json")
        assert code == 0, errors
        return json.loads(out)

    def _listen(self) -> None:
        assert self._zygote.stdout is not None
        for line in self._zygote.stdout:
            pid, *code = (int(word) for word in line.split())
            with self._said:
                if code:
                    self._ended[pid] = code[0]
                else:
                    self._started.append(pid)
                self._said.notify_all()


@contextmanager
def taking_orders(directory: Path) -> Generator[Orders]:
    """A zygote, ended with the block; the commands' output goes into the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-m", "assets_tests.survival.zygote"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT), "OMP_NUM_THREADS": "1"},
    ) as zygote:
        assert zygote.stdout is not None
        assert zygote.stdout.readline() == "ready\n"
        try:
            yield Orders(zygote, directory)
        finally:
            zygote.kill()
