"""Alerts against a real HTTP server: what is sent, how often, how long, and that the address stays secret."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from pipeline import alerts
from pipeline.alerts import Webhook
from pipeline.errors import BadInputError, HoneloopError

SECRET = "T0KEN"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "PAUSE_SECONDS", 0.02)


@contextmanager
def receiver(*codes: int, slow: float = 0.0) -> Generator[tuple[str, list[bytes]]]:
    """A server that answers with these codes, one after the other, then with 200; its address, what came."""
    came: list[bytes] = []
    answers = list(codes)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(slow)
            self.send_response(answers.pop(0) if answers else 200)
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/services/{SECRET}", came
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def webhook(address: str) -> Webhook:
    return Webhook(SecretStr(address))


def test_the_text_arrives_as_json_that_slack_reads():
    with receiver() as (address, came):
        webhook(address).send("fine_tune <b> & more failed")
    assert [json.loads(each) for each in came] == [{"text": "fine_tune &lt;b&gt; &amp; more failed"}]


def test_a_passing_fault_is_tried_again():
    with receiver(503, 500) as (address, came):
        webhook(address).send("failed")
    assert len(came) == 3


@pytest.mark.parametrize("code", [404, 302, 500])
def test_what_is_refused_says_why_and_not_where(code: int):
    with receiver(code, code, code) as (address, came), pytest.raises(HoneloopError) as caught:
        webhook(address).send("failed")
    assert len(came) == 3
    assert f"answers with {code}" in str(caught.value)
    assert SECRET not in repr(caught.value) + str(caught.value)
    assert caught.value.__context__ is None  # nor does what Python prints beside it


def test_who_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(alerts, "TIMEOUT_SECONDS", 0.2)
    started = time.monotonic()
    with receiver(slow=1.0) as (address, _), pytest.raises(HoneloopError, match="TimeoutError"):
        webhook(address).send("failed")
    assert time.monotonic() - started < 5


def test_nobody_there_is_said_without_the_address():
    with pytest.raises(HoneloopError, match="cannot be reached") as caught:
        webhook(f"http://127.0.0.1:9/{SECRET}").send("failed")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "address", [SECRET, f"ftp://host/{SECRET}", f"http:///{SECRET}", f"file:///{SECRET}"]
)
def test_what_is_no_address_is_refused_unnamed(address: str):
    with pytest.raises(BadInputError, match="HONELOOP_ALERT_WEBHOOK is no") as caught:
        webhook(address)
    assert SECRET not in str(caught.value)


def test_nothing_is_sent_by_default():
    silent = Webhook(None)
    assert not silent.wanted
    silent.send("failed")


def test_a_very_long_text_is_cut():
    with receiver() as (address, came):
        webhook(address).send("x" * 100_000)
    assert len(came[0]) < 4000
