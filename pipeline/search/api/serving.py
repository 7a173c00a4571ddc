"""Running the service: its socket, its parts in the order they need each other, and a clean end."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.progress import Progress
from pipeline.search.api.app import create_app
from pipeline.search.api.observing import access_log as access
from pipeline.search.api.security import require_safe_host
from pipeline.search.engine import SearchEngine
from pipeline.search.spool import SearchSpool
from pipeline.store.connections import open_database

# Requests in flight are finished for so long after a signal.
GRACE_SECONDS = 10


def run_service(
    settings: Settings,
    progress: Progress,
    *,
    host: str,
    port: int,
    say: Callable[[str], None],
    access_log: bool,
) -> None:
    """Serves until SIGTERM or Ctrl-C; then finishes what is in flight and writes the queue.

    The model is loaded before the address is said. Without an index it starts all the same and answers 503
    until there is one.

    Args:
        settings: What is in force.
        progress: Where it says what it waits for.
        host: The address to listen on.
        port: The port; 0: any free one.
        say: Prints a line for whoever started it.
        access_log: One line per request on standard error.

    Raises:
        BadInputError: others could reach the address, and no token is set.
        HoneloopError: the address is taken or not this machine's, or the database does not start.
    """
    require_safe_host(host, settings.api_token)
    _log_to_stderr(access_log=access_log)
    with _stopped_by_signals() as stop, _bound(host, port) as listener:
        with progress.stage("Starting the database"):
            db = open_database(settings)
        with SearchSpool(settings, db) as spool, SearchEngine(settings, db, spool) as engine:
            app = create_app(engine, settings, db=db, spool=spool)
            with progress.stage("Loading the model"):
                ready = _ready(engine)
            server = _Server(
                uvicorn.Config(
                    app,
                    lifespan="off",
                    log_config=None,
                    access_log=False,  # its lines have the query string
                    server_header=False,
                    timeout_graceful_shutdown=GRACE_SECONDS,
                )
            )
            stop.server = server
            say(ready)
            with _address_errors(host, port):
                listener.listen()  # whoever reads the address may use it at once
                say(f"Search     {address(host, listener.getsockname()[1])}")
                server.run([listener])
            say("Stopping …")


def address(host: str, port: int) -> str:
    """The URL a person opens."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}"


def _ready(engine: SearchEngine) -> str:
    """Loads the model that serves; what there is to say about it."""
    try:
        serving = engine.serving()
    except HoneloopError as error:
        return f"Searches answer 503 for now: {error}"
    index = serving.index
    return (
        f"Serving    {index.rows:,} texts, model {index.model_version[:12]}, index {index.index_version_id}"
    )


class _Server(uvicorn.Server):
    """Leaves the signals to `_Stop`: uvicorn would raise them anew when it is done."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class _Stop:
    """What a signal does: ends the start, then the server, and at last, told twice, what is in flight."""

    def __init__(self) -> None:
        self.server: uvicorn.Server | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.server is None:
            raise KeyboardInterrupt
        if self.server.should_exit and number == signal.SIGINT:
            self.server.force_exit = True
        self.server.should_exit = True


@contextmanager
def _stopped_by_signals() -> Generator[_Stop]:
    stop = _Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _bound(host: str, port: int) -> Generator[socket.socket]:
    with _address_errors(host, port):
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    with listener:
        with _address_errors(host, port):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
        yield listener


@contextmanager
def _address_errors(host: str, port: int) -> Generator[None]:
    """An address that cannot be had, as a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise HoneloopError(
                f"Port {port} of {host} is taken.",
                hint="Is it running already? Else choose another with --port or HONELOOP_SEARCH_PORT.",
            ) from error
        raise HoneloopError(
            f"Cannot listen on {host} port {port} ({error.strerror}).",
            hint="Give an address of this machine, and a port that you may use (over 1023 without root).",
        ) from error


def _log_to_stderr(*, access_log: bool) -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    access.setLevel(logging.INFO if access_log else logging.CRITICAL)
