"""`honeloop up`: database, search service, Dagster's web page and daemon, started and stopped as one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING

import psutil

from pipeline.commands.common import shown_url
from pipeline.commands.presence import announce, claimed
from pipeline.config import PROJECT_ROOT, Settings
from pipeline.errors import HoneloopError
from pipeline.store.connections import open_database

if TYPE_CHECKING:
    from rich.console import Console

HOST = "127.0.0.1"
START_SECONDS = 300.0  # on a machine that is busy with something else
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Service:
    """A child process and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def require_running(self) -> None:
        """Raises HoneloopError, with the end of its log, if it has ended."""
        if self.process.poll() is not None:
            tail = " | ".join(self.log.read_text(errors="replace").strip().splitlines()[-5:])
            raise HoneloopError(
                f"{self.name} ended with {self.process.returncode}: {tail}",
                hint=f"All of it is in {self.log}.",
            )


def run_services(settings: Settings, console: Console) -> None:
    """Starts everything, prints the addresses, and waits until Ctrl-C or SIGTERM; then stops everything.

    Raises:
        HoneloopError: a port is taken, or a service does not start or ends by itself.
    """
    _require_free(settings.ui_port, "HONELOOP_UI_PORT")
    _require_free(settings.search_port, "HONELOOP_SEARCH_PORT")
    with ExitStack() as stack:
        home = stack.enter_context(claimed(settings))
        _run(settings, console, stack, home)


def _run(settings: Settings, console: Console, stack: ExitStack, home: IO[str]) -> None:
    from pipeline.defs.instance import dagster_home, make_pools

    with console.status("Starting the database"):
        database = open_database(settings)
        make_pools(settings)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(dagster_home(settings)),
        "HONELOOP_HOME": str(settings.home_path),
        # The children use the server that this process keeps running, and do not look for one of their own.
        "HONELOOP_DATABASE_URL": database.url,
    }
    workspace = ["-w", str(PROJECT_ROOT / "workspace.yaml")]
    web = [sys.executable, "-m", "dagster_webserver", "-h", HOST, "-p", str(settings.ui_port), *workspace]
    daemon = [sys.executable, "-m", "dagster._daemon", "run", *workspace]
    search = [sys.executable, "-m", "pipeline.cli", "serve"]
    stopped = _stop_on_signals()
    services = [
        _start(stack, settings, environment, name, command)
        for name, command in (("search", search), ("dagster-webserver", web), ("dagster-daemon", daemon))
    ]
    searching = f"http://{HOST}:{settings.search_port}"
    address = f"http://{HOST}:{settings.ui_port}"
    with console.status("Starting the search service and Dagster"):
        _wait_until_answering(f"{searching}/health", services[0], services, stopped)
        _wait_until_answering(f"{address}/server_info", services[1], services, stopped)
    if not stopped:
        announce(home, settings, address)
        console.print(f"Search     [cyan]{searching}[/cyan]")
        console.print(f"Dagster    [cyan]{address}[/cyan]")
        console.print(f"Database   {shown_url(database.url)}", markup=False)
        console.print(f"Logs       {services[0].log.parent}", markup=False)
        console.print("Ctrl-C stops all of it.")
    while not stopped:
        for service in services:
            service.require_running()
        time.sleep(0.5)
    console.print("Stopping …")


def _start(
    stack: ExitStack, settings: Settings, environment: dict[str, str], name: str, command: list[str]
) -> Service:
    log = settings.home_path / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        process = subprocess.Popen(
            command,
            cwd=PROJECT_ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches this process alone, which then stops the children one by one.
            start_new_session=True,
        )
    stack.callback(_stop, process)
    return Service(name, process, log)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the child, and then whatever it had started: politely, then not.

    Dagster's code servers end by themselves only while its database answers, and that ends with this process.
    """
    try:
        started = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        started = []
    for demand in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        process.send_signal(demand)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    _, alive = psutil.wait_procs(started, timeout=1)
    for left in alive:
        with suppress(psutil.NoSuchProcess):
            left.terminate()
    _, alive = psutil.wait_procs(alive, timeout=STOP_SECONDS)
    for left in alive:
        with suppress(psutil.NoSuchProcess):
            left.kill()


def _stop_on_signals() -> list[int]:
    """A list that is filled when this process is told to stop."""
    told: list[int] = []

    def tell(number: int, frame: FrameType | None) -> None:
        del frame
        told.append(number)

    signal.signal(signal.SIGINT, tell)
    signal.signal(signal.SIGTERM, tell)
    return told


def _require_free(port: int, variable: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise HoneloopError(
                f"Port {port} is taken ({error.strerror}).", hint=f"Set {variable} to another one."
            ) from error


def _wait_until_answering(url: str, awaited: Service, services: list[Service], stopped: list[int]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not stopped:
        for service in services:
            service.require_running()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
                return  # nothing is indexed yet: it says so, and answers
            raise HoneloopError(
                f"{awaited.name} answers with {error.code}.", hint=f"Its log is {awaited.log}."
            ) from error
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise HoneloopError(
                    f"{awaited.name} did not answer within {START_SECONDS:.0f} s.",
                    hint=f"Its log is {awaited.log}.",
                ) from None
        time.sleep(0.3)
