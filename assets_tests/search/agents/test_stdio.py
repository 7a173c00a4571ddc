"""`honeloop mcp` as an agent starts it: a process, its standard input and output, and its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp_types import Implementation

from assets_tests.search.agents.conftest import feedback_of
from pipeline.config import Settings
from pipeline.store.connections import Database

# A server whose one resource is noisy in all the ways that a library may be.
NOISY = """
import ctypes, os, subprocess, sys, warnings
from pipeline.config import load_settings
from pipeline.search.agents.backend import AgentBackend
from pipeline.search.agents.stdio import serve_stdio

class Noisy(AgentBackend):
    def sources(self):
        print("printed")
        print("printed, without an end", end="")
        sys.__stdout__.write("written to the stream itself")
        os.write(1, b"written to the descriptor\\n")
        subprocess.run(["echo", "written by a child"], check=True)
        subprocess.run(["cat"], check=True)  # which must not eat what the client sends
        ctypes.CDLL(None).printf(b"written by C and not flushed")
        warnings.warn("a warning")
        return []

backend = Noisy(load_settings())
serve_stdio(backend)
backend.close()
"""


class Server:
    """A server process, spoken to line by line."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._number = 0

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The response to a request; every line before it must be a message, too."""
        self._number += 1
        self.send({"id": self._number, "method": method, "params": params})
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = json.loads(line)
            assert message["jsonrpc"] == "2.0"
            if message.get("id") == self._number:
                return message
        raise AssertionError(f"no response to {method}: {self.process.communicate()[1]}")

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()

    def initialize(self) -> None:
        self.ask(
            "initialize",
            protocolVersion="2025-06-18",
            capabilities={},
            clientInfo={"name": "raw", "version": "1"},
        )
        self.send({"method": "notifications/initialized"})


@contextmanager
def started(command: list[str], environment: dict[str, str]) -> Generator[Server]:
    server = Server(command, environment)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


def test_an_agent_searches_opens_and_reports(
    indexed: Database, environment: dict[str, str], honeloop: str, tmp_path: Path
) -> None:
    """With the real model, whose libraries say this and that while they load: not on standard output."""
    wire = tmp_path / "wire"

    async def session() -> tuple[str, int]:
        parameters = StdioServerParameters(
            command="/bin/sh", args=["-c", f"'{honeloop}' mcp | tee '{wire}'"], env=environment
        )
        info = Implementation(name="stdio-agent", version="1")
        async with Client(parameters, client_info=info) as client:
            found = await client.call_tool("search_code", {"query": "print a coloured message", "k": 3})
            assert found.structured_content is not None
            best = found.structured_content["results"][0]
            opened = await client.call_tool("get_snippet", {"snippet_id": best["snippet_id"]})
            assert opened.structured_content is not None
            assert opened.structured_content["opening_recorded"]
            wrong = await client.call_tool("search_code", {"query": "x", "source": "nowhere"})
            assert wrong.is_error
            search_id = found.structured_content["search_id"]
            judged = {"search_id": search_id, "snippet_id": best["snippet_id"], "useful": True}
            assert not (await client.call_tool("report_usefulness", judged)).is_error
            return search_id, best["snippet_id"]

    search_id, snippet_id = asyncio.run(session())
    assert feedback_of(indexed) == [
        (search_id, snippet_id, "click", "agent:stdio-agent"),
        (search_id, snippet_id, "accept", "agent:stdio-agent"),
    ]
    lines = wire.read_text("utf-8").splitlines()
    assert len(lines) >= 4
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in lines)


def test_noise_goes_to_standard_error(environment: dict[str, str]) -> None:
    with started([sys.executable, "-c", NOISY], environment) as server:
        server.initialize()
        answer = server.ask("resources/read", uri="honeloop://sources")
        assert answer["result"]["contents"][0]["text"] == "[]"
        assert server.ask("ping")["result"] == {}
        rest, said = server.process.communicate(timeout=60)
    assert (rest, server.process.returncode) == ("", 0), said
    for noise in (
        "printed",
        "without an end",
        "to the stream itself",
        "to the descriptor",
        "by a child",
        "by C",
        "a warning",
    ):
        assert noise in said


def test_it_answers_before_anything_is_opened(environment: dict[str, str], honeloop: str) -> None:
    away = {**environment, "HONELOOP_DATABASE_URL": "postgresql://127.0.0.1:1/nothing?connect_timeout=2"}
    with started([honeloop, "mcp"], away) as server:
        server.initialize()
        assert len(server.ask("tools/list")["result"]["tools"]) == 3
        result = server.ask("tools/call", name="search_code", arguments={"query": "x"})["result"]
        assert result["isError"]
        assert "database" in result["content"][0]["text"]
        assert "Traceback" not in result["content"][0]["text"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(environment: dict[str, str], honeloop: str, number: signal.Signals) -> None:
    with started([honeloop, "mcp"], environment) as server:
        server.initialize()
        server.process.send_signal(number)
        assert server.process.wait(60) == 0  # though its input is still open
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""


@pytest.mark.slow
def test_the_end_of_its_input_ends_it_and_the_embedded_database(
    server_settings: Settings, environment: dict[str, str], honeloop: str
) -> None:
    del server_settings
    own = {name: value for name, value in environment.items() if name != "HONELOOP_DATABASE_URL"}
    home = os.path.realpath(f"/tmp/hl-mcp-{os.getpid()}")  # short, as the path of a socket must be
    own["HONELOOP_HOME"] = home
    try:
        with started([honeloop, "mcp"], own) as server:
            server.initialize()
            answer = server.ask("resources/read", uri="honeloop://sources")
            assert answer["result"]["contents"][0]["text"] == "[]"
            assert os.path.exists(f"{home}/postgres/postmaster.pid")
            rest, said = server.process.communicate(timeout=60)
            assert (rest, server.process.returncode) == ("", 0), said
            assert not os.path.exists(f"{home}/postgres/postmaster.pid")
    finally:
        subprocess.run(["rm", "-rf", home], check=True)
