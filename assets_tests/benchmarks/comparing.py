"""What every benchmark of `make bench` shares: ways that take turns, their ratios, what is said of them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from assets_tests.benchmarks.environment import PEER_PYTHON
from pipeline.training.memory import process_peak_bytes

# Not asked of `pipeline.config`, which loads a fifth of a second of libraries: `alone` times a start, too.
PROJECT_ROOT = Path(__file__).resolve().parents[2]
Size = Literal["quick", "full"]


@dataclass(frozen=True)
class Goal:
    """What a ratio should be: at least, or at most, so much."""

    bound: float
    kind: Literal["at least", "at most"] = "at least"

    def met(self, ratio: float) -> bool:
        """Whether a ratio is as it should be."""
        return ratio >= self.bound if self.kind == "at least" else ratio <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.kind == 'at least' else '≤'} {self.bound:g}"


@dataclass(frozen=True)
class Comparison:
    """One line of the table.

    Args:
        what: Is compared.
        ours: Honeloop's figure, with its unit.
        theirs: The other's, likewise; why there is none, if there is none.
        ratio: Of both, from rounds in which they took turns; None if there is no other.
        goal: What the ratio should be.
    """

    what: str
    ours: str
    theirs: str = ""
    ratio: float | None = None
    goal: Goal | None = None

    def to_json(self) -> dict[str, Any]:
        """As it is written down."""
        met = None if self.ratio is None or self.goal is None else self.goal.met(self.ratio)
        return {**asdict(self), "goal": str(self.goal) if self.goal else None, "met": met}


@dataclass
class Found:
    """What one benchmark found: lines for the table, and whatever else is worth keeping in the file."""

    lines: list[Comparison] = field(default_factory=list[Comparison])
    details: dict[str, Any] = field(default_factory=dict[str, Any])

    def to_json(self) -> dict[str, Any]:
        """As it is written down."""
        return {"lines": [line.to_json() for line in self.lines], "details": self.details}


Rounds = dict[str, list[float]]


def in_turns(
    ways: Mapping[str, Callable[[], object]],
    rounds: int,
    before: Mapping[str, Callable[[], object]] | None = None,
) -> Rounds:
    """Wall seconds of each way in each round, after one that only warms up; every second one backwards.

    Whatever else the machine does then hits all of them, and the ratio within a round says what it should.

    Args:
        ways: By name.
        rounds: That are timed.
        before: What is done before a way of that name, each time, while no clock runs.
    """

    def turn(name: str) -> float:
        if before is not None and name in before:
            before[name]()
        return timed(ways[name])

    for name in ways:
        turn(name)
    seconds: Rounds = {name: [] for name in ways}
    order = list(ways)
    for number in range(rounds):
        for name in order if number % 2 == 0 else reversed(order):
            seconds[name].append(turn(name))
    return seconds


def timed(way: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def speed_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How many times as fast the first is: the median of what each round says, given the seconds of both."""
    return statistics.median(other / own for own, other in zip(ours, theirs, strict=True))


@dataclass(frozen=True)
class Alone:
    """What a function gave in a process of its own.

    Attributes:
        result: As JSON has it.
        whole_seconds: From before that process was started until after its end.
        peak_mb: The most memory that it had, without the processes that it started.
        started_at: `time.time()` before that process was started, to compare with one that it gives.
        tree_peak_mb: The most memory that it and those processes had together; 0 if nobody watched.
    """

    result: Any
    whole_seconds: float
    peak_mb: float
    started_at: float
    tree_peak_mb: float = 0.0


def alone(function: Callable[..., Any], *arguments: Any, watched: bool = False) -> Alone:
    """Calls a function of a module in a new interpreter; arguments and result are JSON.

    A process' peak of memory never falls, so what is to be compared by it needs one each.

    Args:
        function: Of a module.
        arguments: Its.
        watched: Also look at the memory of the processes that it starts, which takes some time itself.
    """
    said = json.dumps([function.__module__, function.__name__, arguments])
    started, started_at = time.perf_counter(), time.time()
    printed, tree = outcome(
        [sys.executable, "-m", "assets_tests.benchmarks.comparing"],
        os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
        said,
        watched=watched,
    )
    result, peak = json.loads(printed.strip().rpartition("\n")[2])
    return Alone(result, time.perf_counter() - started, peak, started_at, tree)


def outcome(
    command: Sequence[str], environment: Mapping[str, str], said: str = "", *, watched: bool
) -> tuple[str, float]:
    """What a command prints, and the most memory in MB that its processes had together (0 if not watched).

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(environment)
    ) as process:
        if watched:
            # Not imported above: what `alone` starts imports this module first, and is timed.
            from assets_tests.benchmarks.process_memory import TreeWatch

            with TreeWatch(process.pid) as watch:
                printed, _ = process.communicate(said)
            tree = watch.peak_mb
        else:
            printed, _ = process.communicate(said)
            tree = 0.0
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command), printed)
    return printed, tree


def peak_mb() -> float:
    """The most memory that this process had so far."""
    return process_peak_bytes() / 1e6


def _in_this_process() -> None:
    import importlib

    module, name, arguments = json.load(sys.stdin)
    function = getattr(importlib.import_module(module), name)
    result = function(*arguments)
    print(json.dumps([result, peak_mb()]))


def peer_environment() -> dict[str, str]:
    """Nothing of ours is imported there, and nobody is told that it runs."""
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return ours | {"COCOINDEX_DISABLE_USAGE_TRACKING": "1", "HF_HUB_OFFLINE": "1"}


class Peer:
    """A script of `peers/` under the interpreter that another project is installed for: asked line by line.

    Args:
        script: Its file's name.
        variable: The environment variable that names the interpreter.
    """

    def __init__(self, script: str, variable: str = PEER_PYTHON) -> None:
        self._process = subprocess.Popen(
            [os.environ[variable], str(Path(__file__).with_name("peers") / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=peer_environment(),
        )

    @staticmethod
    def absence(variable: str = PEER_PYTHON) -> str | None:
        """Why there is none; None if there is."""
        python = os.environ.get(variable)
        if not python:
            return f"cocoindex: not measured ({variable} names no interpreter)"
        return None if Path(python).exists() else f"cocoindex: {variable} names {python}, which is not there"

    def ask(self, said: object) -> Any:
        """Says a line of JSON, and gives what the script answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(said), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"The peer ended with exit code {self._process.wait()}.")
        return json.loads(answer)

    def close(self) -> None:
        """Ends the script, which ends with its input."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


if __name__ == "__main__":
    _in_this_process()
