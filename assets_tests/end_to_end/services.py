"""`honeloop up` as a user starts it: a process of its own, on free ports, with a home of the test's own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pipeline.config import Settings

WAIT_SECONDS = 900.0


@dataclass(frozen=True)
class Services:
    """A running `honeloop up`."""

    process: subprocess.Popen[bytes]
    log: Path
    environment: Mapping[str, str]
    dagster: str
    search: str

    def command(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """A command of the same home, with more in its environment."""
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", *arguments],
            env={**self.environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **more: str) -> str:
        """What a command of the same home says on standard output; it has to end well."""
        done = self.command(*arguments, **more)
        out, err = done.communicate(timeout=WAIT_SECONDS)
        assert done.returncode == 0, err
        return out

    def searched(self, query: str) -> dict[str, Any]:
        """What the search service answers."""
        return post(f"{self.search}/search", {"query": query, "k": 3})

    def judged(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """What the search service says to somebody who accepts the first result of an answer."""
        first = answer["results"][0]["snippet_id"]
        given = {"search_id": answer["search_id"], "snippet_id": first, "judgement": "accept"}
        return post(f"{self.search}/feedback", given)

    def said(self) -> str:
        """What `honeloop up` itself has said."""
        return self.log.read_text()

    def children(self) -> list[psutil.Process]:
        """The processes that it has started, and theirs."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def graphql(self, query: str) -> dict[str, Any]:
        """What Dagster's web server answers."""
        return post(f"{self.dagster}/graphql", {"query": query})["data"]


class Searcher(threading.Thread):
    """Searches all along, and keeps which models answered, in order, and whatever went wrong."""

    def __init__(self, up: Services) -> None:
        super().__init__(daemon=True)
        self._up, self._ended = up, threading.Event()
        self.models: list[str] = []
        self.wrong: list[str] = []
        self.count = 0

    def run(self) -> None:
        while not self._ended.wait(0.3):
            try:
                answer = self._up.searched(f"seconds of a duration {self.count}")
                assert answer["results"]
            except Exception as error:  # everything that a user would have seen
                self.wrong.append(repr(error))
                continue
            self.count += 1
            if [answer["model_version"]] != self.models[-1:]:
                self.models.append(answer["model_version"])

    def stop(self) -> None:
        self._ended.set()
        self.join()


def backfills(up: Services) -> list[dict[str, str]]:
    """Those that the web page shows, the newest first."""
    query = "{ partitionBackfillsOrError { ... on PartitionBackfills { results { id status title } } } }"
    return up.graphql(query)["partitionBackfillsOrError"]["results"]


def post(url: str, body: Mapping[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def wait_for(what: str, found: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    """What `found` gives once it gives something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(1)
    raise TimeoutError(f"waited {seconds:.0f} s for {what}")


def two_free_ports() -> tuple[int, int]:
    """For the web page of Dagster and the search service; free a moment ago."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@contextmanager
def services(settings: Settings, log: Path, **more: str) -> Generator[Services]:
    """Runs `honeloop up` for the block; at its end Ctrl-C, after which nothing of it may be left.

    One that has ended by itself until then is not looked at.
    """
    ui, search = two_free_ports()
    environment = {
        **os.environ,
        "HONELOOP_HOME": str(settings.home),
        "HONELOOP_UI_PORT": str(ui),
        "HONELOOP_SEARCH_PORT": str(search),
        "HONELOOP_BACKGROUND_NICENESS": "0",
        **more,
    }
    if settings.database_url is not None:
        environment["HONELOOP_DATABASE_URL"] = settings.database_url
    with log.open("wb") as shown:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", "up"], env=environment, stdout=shown, stderr=shown
        )
    try:
        wait_for("honeloop up", lambda: "Ctrl-C" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield Services(process, log, environment, f"http://127.0.0.1:{ui}", f"http://127.0.0.1:{search}")
    finally:
        if process.poll() is None:
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            assert process.wait(300) == 0, log.read_text()
            assert psutil.wait_procs(children, timeout=5)[1] == []
