"""The server over standard input and output, for the agent that started this process.

Standard output carries the protocol and nothing else. The library sees to the descriptor while it serves;
what Python prints is sent to standard error here, and so is what other code wrote without flushing it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, redirect_stdout
from typing import Any

from mcp.server import MCPServer

from pipeline.search.agents.backend import AgentBackend
from pipeline.search.agents.server import build_server

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class EndableInput:
    """Standard input that this process can end, as its client can.

    The library reads in a thread that nothing but the end of the input wakes. So it is given a socket that
    repeats the input, and a signal ends that: what follows is what follows when the client goes.
    """

    def __init__(self) -> None:
        self._outside = os.dup(0)
        self._feed, inside = socket.socketpair()
        os.dup2(inside.fileno(), 0)
        inside.close()
        threading.Thread(target=self._repeat, name="stdin", daemon=True).start()

    def end(self) -> None:
        """Ends it, whatever the client still sends."""
        try:
            self._feed.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it is ended

    def release(self) -> None:
        """Ends it for good; its thread may still wait for the client, and ends with the process."""
        self.end()
        self._feed.detach()

    def _repeat(self) -> None:
        try:
            while data := os.read(self._outside, 65536):
                self._feed.sendall(data)
        except OSError:
            return  # ended from within
        self.end()


def serve_stdio(backend: AgentBackend, *, user: str | None = None) -> None:
    """Serves until the client goes, or SIGTERM or SIGINT; for a process of its own.

    Args:
        backend: What the tools work with; its owner closes it.
        user: See `build_server`.
    """
    stdin = EndableInput()

    @asynccontextmanager
    async def serving(_: MCPServer[Any]) -> AsyncGenerator[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        for each in SIGNALS:
            loop.add_signal_handler(each, stdin.end)
        with redirect_stdout(sys.stderr):
            yield {}

    try:
        build_server(backend, user=user, lifespan=serving).run("stdio")
    finally:
        stdin.release()
        # The loop took its handlers along; what remains to be done is short, and is done.
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        os.dup2(2, 1)
