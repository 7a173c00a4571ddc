"""`honeloop up`: database, search service, Dagster's web page and daemon, started and stopped as one."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from http import HTTPStatus
from types import FrameType
from typing import IO, TYPE_CHECKING

from pipeline.commands.common import shown_url
from pipeline.commands.keeping import EmbeddedPostgres, Keeper, Kept, Service, WallClock, require_running
from pipeline.commands.presence import announce, claimed
from pipeline.config import PROJECT_ROOT, Settings
from pipeline.errors import HoneloopError
from pipeline.store.connections import open_database

if TYPE_CHECKING:
    from rich.console import Console

HOST = "127.0.0.1"
START_SECONDS = 300.0  # on a machine that is busy with something else


def run_services(settings: Settings, console: Console) -> None:
    """Starts everything, prints the addresses, and waits until it is told to end; then stops everything.

    It is told by Ctrl-C, by SIGTERM, and by its terminal when that is closed.

    What ends meanwhile is started again, and that is said.

    Raises:
        HoneloopError: a port is taken, something does not start, or ends again and again.
    """
    _require_ports(settings)
    with ExitStack() as stack:
        home = stack.enter_context(claimed(settings))
        _run(settings, console, stack, home)


def _run(settings: Settings, console: Console, stack: ExitStack, home: IO[str]) -> None:
    from pipeline.defs.instance import make_pools

    with console.status("Starting the database"):
        database = open_database(settings)
        make_pools(settings)
    stopped = _stop_on_signals()
    search, web, daemon = services = _services(settings, database.url)
    # First what the others need.
    kept: list[Kept] = [*([] if settings.database_url else [EmbeddedPostgres(settings)]), *services]
    _forget_the_future(settings, console)
    for service in services:
        stack.callback(service.stop)
        service.start()
    searching = f"http://{HOST}:{settings.search_port}"
    address = f"http://{HOST}:{settings.ui_port}"
    with console.status("Starting the search service and Dagster"):
        _wait_until_answering(f"{searching}/health", search, kept, stopped)
        _wait_until_answering(f"{address}/server_info", web, kept, stopped)
    if not stopped:
        announce(home, settings, address)
        console.print(f"Search     [cyan]{searching}[/cyan]")
        console.print(f"Dagster    [cyan]{address}[/cyan]")
        console.print(f"Database   {shown_url(database.url)}", markup=False)
        console.print(f"Logs       {search.log.parent}", markup=False)
        console.print("Ctrl-C stops all of it.")
    keepers = [Keeper(each) for each in kept]
    clock = WallClock()
    while not stopped:
        for keeper in keepers:
            said = keeper.look()
            if said is not None:
                console.print(said, markup=False, soft_wrap=True)
        if seconds := clock.put_back():
            console.print(f"The clock was put back by {seconds:.0f} s; Dagster's daemon follows.")
            daemon.stop()  # it remembers times, too
            _forget_the_future(settings, console)
            daemon.start()
        time.sleep(0.5)
    if signal.SIGHUP not in stopped:  # else there is no terminal any more
        console.print("Stopping …")


def _services(settings: Settings, database_url: str) -> tuple[Service, Service, Service]:
    """The search service, Dagster's web server and its daemon."""
    from pipeline.defs.instance import dagster_home

    environment = {
        **os.environ,
        "DAGSTER_HOME": str(dagster_home(settings)),
        "HONELOOP_HOME": str(settings.home_path),
        # The children use the server that this process keeps running, and do not look for one of their own.
        "HONELOOP_DATABASE_URL": database_url,
    }
    logs = settings.home_path / "logs"
    workspace = ["-w", str(PROJECT_ROOT / "workspace.yaml")]
    web = ["dagster_webserver", "-h", HOST, "-p", str(settings.ui_port), *workspace]

    def service(name: str, *module: str) -> Service:
        return Service(name, [sys.executable, "-m", *module], environment, logs)

    return (
        service("search", "pipeline.cli", "serve"),
        service("dagster-webserver", *web),
        service("dagster-daemon", "dagster._daemon", "run", *workspace),
    )


def _forget_the_future(settings: Settings, console: Console) -> None:
    from pipeline.defs.clock import forget_the_future
    from pipeline.defs.instance import open_instance

    with open_instance(settings) as instance:
        for what in forget_the_future(instance, time.time()):
            console.print(what, markup=False, soft_wrap=True)


def _stop_on_signals() -> list[int]:
    """A list that is filled when this process is told to stop.

    Its terminal says so when it is closed, unless `nohup` has it go on without.
    """
    told: list[int] = []

    def tell(number: int, frame: FrameType | None) -> None:
        del frame
        told.append(number)

    signal.signal(signal.SIGINT, tell)
    signal.signal(signal.SIGTERM, tell)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, tell)
    return told


def _require_ports(settings: Settings) -> None:
    """Raises HoneloopError unless both ports can be had, before anything is started."""
    if settings.ui_port == settings.search_port:
        raise HoneloopError(
            f"HONELOOP_UI_PORT and HONELOOP_SEARCH_PORT are both {settings.ui_port}.",
            hint="Set one of them to another port.",
        )
    for port, variable in (
        (settings.ui_port, "HONELOOP_UI_PORT"),
        (settings.search_port, "HONELOOP_SEARCH_PORT"),
    ):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise HoneloopError(
                    f"Port {port} is taken ({error.strerror}), perhaps by `honeloop up` of another home.",
                    hint=f"Set {variable} to another one.",
                ) from error


def _wait_until_answering(url: str, awaited: Service, kept: Sequence[Kept], stopped: list[int]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not stopped:
        for each in kept:
            require_running(each)
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
