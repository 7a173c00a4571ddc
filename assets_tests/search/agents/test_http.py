"""`honeloop mcp --http`: several agents, each with its own searches, behind a token."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import Implementation
from pydantic import SecretStr
from starlette.testclient import TestClient

from assets_tests.search.agents.conftest import feedback_of
from pipeline.config import Settings
from pipeline.search.agents.backend import AgentBackend
from pipeline.search.agents.http import http_app, transport_security
from pipeline.store.connections import Database

TOKEN = "a token of some length"
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {}}


@pytest.fixture
def server(
    indexed: Database, environment: dict[str, str], honeloop: str
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Its address and its process."""
    process = subprocess.Popen(
        [honeloop, "mcp", "--http", "--port", "0"],
        env={**environment, "HONELOOP_API_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert "http://127.0.0.1:" in first, process.communicate()
    yield first.split()[3].rstrip(";"), process
    process.kill()
    process.communicate()


def status(address: str, **headers: str) -> int:
    """What a request with these headers gets."""
    request = urllib.request.Request(
        address,
        json.dumps(PING).encode(),
        {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


async def opened_unnamed(address: str, name: str, mode: str) -> tuple[str, int, dict[str, Any]]:
    """A client searches and opens the best result without naming the search: search, snippet, answer."""
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60) as http:
        client = Client(
            streamable_http_client(address, http_client=http),
            client_info=Implementation(name=name, version="1"),
            mode=mode,
        )
        async with client:
            found = await client.call_tool("search_code", {"query": "ask for confirmation", "k": 2})
            assert found.structured_content is not None
            snippet_id = found.structured_content["results"][0]["snippet_id"]
            opened = await client.call_tool("get_snippet", {"snippet_id": snippet_id})
            assert opened.structured_content is not None
            return found.structured_content["search_id"], snippet_id, opened.structured_content


def test_http(server: tuple[str, subprocess.Popen[str]], indexed: Database) -> None:
    address, process = server
    # Who may.
    assert status(address) == 401
    for wrong in ("Bearer ", "Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer é"):
        assert status(address, Authorization=wrong) == 401, wrong
    good = f"Bearer {TOKEN}"
    assert status(address, Authorization=good) not in {401, 403, 421}
    # By which name, and from whose page.
    assert status(address, Authorization=good, Host="evil.example") == 421
    assert status(address, Authorization=good, Origin="https://evil.example") == 403
    # Two agents at once, each with a session of its own.
    first = asyncio.run(opened_unnamed(address, "first", "legacy"))
    second = asyncio.run(opened_unnamed(address, "second", "legacy"))
    assert first[2]["opening_recorded"]
    assert second[2]["opening_recorded"]
    assert first[0] != second[0]
    # Without a session nothing is put down to a search that may be another's.
    third = asyncio.run(opened_unnamed(address, "third", "2026-07-28"))
    assert not third[2]["opening_recorded"]
    assert feedback_of(indexed) == [
        (first[0], first[1], "click", "agent:first"),
        (second[0], second[1], "click", "agent:second"),
    ]
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert TOKEN not in said
    assert "Traceback" not in said


def test_one_client_may_ask_so_often(settings: Settings) -> None:
    """As often as the search service lets it, with the token or without: guessing is asking, too."""
    limited = settings.model_copy(update={"rate_limit": "4/minute", "api_token": SecretStr(TOKEN)})
    good = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json, text/event-stream"}
    backend = AgentBackend(limited)  # opens nothing before a tool is called
    app = http_app(backend, limited, host="127.0.0.1")
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        statuses = [client.post("/mcp", json=PING, headers=good).status_code for _ in range(3)]
        assert not {401, 429} & set(statuses)
        assert client.post("/mcp", json=PING).status_code == 401
        for headers in (good, {}):
            refused = client.post("/mcp", json=PING, headers=headers)
            assert refused.status_code == 429
            assert "more than 4 per 1 minute" in refused.json()["error"]
            assert 1 <= int(refused.headers["retry-after"]) <= 61
        # Another client is not concerned.
        other = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.2", 1))
        assert other.post("/mcp", json=PING).status_code == 401
    backend.close()


def test_others_reach_it_only_with_a_token(environment: dict[str, str], honeloop: str) -> None:
    ended = subprocess.run(
        [honeloop, "mcp", "--http", "--host", "0.0.0.0", "--port", "0"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "HONELOOP_API_TOKEN" in ended.stderr


def test_the_names_it_answers_to() -> None:
    own = transport_security("127.0.0.1")
    assert own.enable_dns_rebinding_protection
    assert {"127.0.0.1:*", "localhost:*", "[::1]:*"} <= set(own.allowed_hosts)
    named = transport_security("10.0.0.5", ["code.example"])
    assert {"10.0.0.5:*", "code.example"} <= set(named.allowed_hosts)
    assert "https://code.example" in named.allowed_origins
    assert "[fe80::1]:*" in transport_security("fe80::1").allowed_hosts
    assert not transport_security("0.0.0.0").enable_dns_rebinding_protection
    assert transport_security("0.0.0.0", ["code.example"]).enable_dns_rebinding_protection
