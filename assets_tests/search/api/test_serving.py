"""`honeloop serve` as a process: how it starts, what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from assets_tests.search.api.conftest import TOKEN, World
from pipeline.config import Settings


@contextmanager
def serving(
    settings: Settings, log: Path, *arguments: str, **environment: str
) -> Generator[tuple[subprocess.Popen[str], str]]:
    """The process and its address, as it printed it; killed at the end if it still runs."""
    command = [sys.executable, "-m", "pipeline.cli", "serve", "--port", "0", *arguments]
    variables = {
        **os.environ,
        "HONELOOP_HOME": str(settings.home_path),
        "HONELOOP_DATABASE_URL": str(settings.database_url),
        "HONELOOP_DEVICE": "cpu",
        **environment,
    }
    with (
        log.open("w") as errors,
        subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            printed = ""
            while "Search     " not in printed:
                line = process.stdout.readline()
                assert line, f"it ended: {log.read_text()}"
                printed += line
            yield process, printed.split("Search     ")[1].strip()
        finally:
            process.kill()


def refused(settings: Settings, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and the one line on standard error of a service that does not start."""
    result = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "serve", *arguments],
        env={
            **os.environ,
            "HONELOOP_HOME": str(settings.home_path),
            "HONELOOP_DATABASE_URL": str(settings.database_url),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    return result.returncode, result.stderr


def test_it_finishes_what_is_in_flight_and_writes_the_queue(world: World, tmp_path: Path) -> None:
    settings = world.settings.model_copy(update={"home": tmp_path / "home"})
    log = tmp_path / "log"
    with serving(settings, log) as (process, address):
        url = httpx.URL(address)
        assert url.host == "127.0.0.1"
        assert url.port is not None
        assert httpx.get(f"{address}/health").json()["status"] == "ok"
        body = json.dumps({"query": "unmistakable words of a query", "user": "in-flight"}).encode()
        with socket.create_connection(("127.0.0.1", url.port), timeout=60) as connection:
            connection.sendall(
                b"POST /search?token=unmistakable HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:10]
            )
            # Its headers have been read: the answer to a later request is there.
            assert httpx.get(f"{address}/health").status_code == 200
            process.send_signal(signal.SIGTERM)
            while True:  # until it takes no more
                try:
                    socket.create_connection(("127.0.0.1", url.port)).close()
                except ConnectionRefusedError:
                    break
                time.sleep(0.02)
            connection.sendall(body[10:])
            answer = b""
            while part := connection.recv(65_536):
                answer += part
        assert answer.startswith(b"HTTP/1.1 200 ")
        search_id = json.loads(answer.split(b"\r\n\r\n", 1)[1])["search_id"]
        assert process.wait(60) == 0
    with world.db.connect() as connection:
        row = connection.execute("SELECT user_name FROM searches WHERE id = %s", [search_id]).fetchone()
    assert row == ("in-flight",)
    lines = log.read_text().splitlines()
    assert [line for line in lines if " POST /search 200 " in line]
    assert "unmistakable" not in log.read_text()


def test_without_an_index_it_starts_and_says_so(settings: Settings, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(settings, log, "--quiet") as (process, address):
        health = httpx.get(f"{address}/health")
        assert health.status_code == 503
        assert health.json()["reason"] == "Nothing is indexed yet."
        assert health.json()["database"] == "ok"
        search = httpx.post(f"{address}/search", json={"query": "q"})
        assert (search.status_code, search.json()["error"]) == (503, "Nothing is indexed yet.")
        assert "honeloop index" in search.json()["hint"]
        assert search.headers["retry-after"] == "2"
        # The port is taken now.
        port = str(httpx.URL(address).port)
        code, said = refused(settings, "--port", port)
        assert code == 1
        assert f"Port {port} of 127.0.0.1 is taken" in said
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert log.read_text() == ""


def test_beyond_this_machine_only_with_a_token(settings: Settings, tmp_path: Path) -> None:
    code, said = refused(settings, "--host", "0.0.0.0")
    assert code == 2
    assert "HONELOOP_API_TOKEN" in said
    code, said = refused(settings, "--host", "0.0.0.0", HONELOOP_API_TOKEN="short")
    assert code == 2
    assert "HONELOOP_API_TOKEN" in said
    with serving(settings, tmp_path / "log", "--host", "0.0.0.0", HONELOOP_API_TOKEN=TOKEN) as (_, address):
        assert httpx.get(f"{address}/metrics").status_code == 401
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert httpx.get(f"{address}/metrics", headers=bearer).status_code == 200
    assert TOKEN not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--host", "192.0.2.1"), "Cannot listen on 192.0.2.1"),
        (("--host", "no.such.host.invalid"), "Cannot listen on no.such.host.invalid"),
    ],
)
def test_an_address_that_is_not_this_machines(
    settings: Settings, arguments: tuple[str, ...], words: str
) -> None:
    code, said = refused(settings, *arguments, HONELOOP_API_TOKEN=TOKEN)
    assert code == 1
    assert words in said


def test_a_wrong_rate_limit_is_told_at_the_start(settings: Settings) -> None:
    code, said = refused(settings, HONELOOP_RATE_LIMIT="lots")
    assert code == 2
    assert "HONELOOP_RATE_LIMIT" in said
