"""One worker and a real nats-server: every request is answered, right or with the reason."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nats.errors import NoRespondersError

from assets_tests.index.click_corpus import Function
from assets_tests.search.models import index_of, load_perturbed
from assets_tests.search.nats.conftest import (
    SUBJECT,
    NatsServer,
    ask,
    connected,
    running_server,
    slow_after_pings,
    working,
)
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.errors import BadInputError, UnavailableError
from pipeline.index import flipping
from pipeline.search.nats.connecting import Link
from pipeline.store.connections import Database

QUERY = "open a file for reading"


def test_vectors_are_the_encoders_own(
    server: NatsServer, settings: Settings, serving: Database, minilm: Encoder, texts: tuple[Function, ...]
) -> None:
    code = [function.code for function in texts]

    async def scenario() -> None:
        async with working(settings, serving, server.url), connected(server.url) as client:
            query = await ask(client, {"query_id": "q-1", "query": QUERY})
            assert (query["query_id"], query["status"], query["dimensions"]) == ("q-1", "ok", 384)
            assert query["model_version"] == minilm.version
            assert query["timestamp"].endswith("+00:00")
            assert _distance(query["embedding"], minilm.embed_queries([QUERY])[0]) < 1e-5
            several = await ask(client, {"query_id": 2, "texts": code, "model": "base"})
            assert (several["query_id"], several["status"]) == (2, "ok")
            assert _distance(several["embeddings"], minilm.embed_documents(code)) < 1e-5
            for name in (minilm.version, minilm.version[:6], minilm.version[:9].upper(), "minilm", "serving"):
                named = await ask(client, {"query_id": name, "query": QUERY, "model": name})
                assert named["embedding"] == query["embedding"], name

    asyncio.run(scenario())


def test_many_at_once_get_each_its_own(
    server: NatsServer, settings: Settings, serving: Database, minilm: Encoder
) -> None:
    queries = [f"the {number}th way to {QUERY}" for number in range(60)]

    async def scenario() -> list[dict[str, Any]]:
        async with working(settings, serving, server.url), connected(server.url) as client:
            return await asyncio.gather(
                *(ask(client, {"query_id": number, "query": query}) for number, query in enumerate(queries))
            )

    answers = asyncio.run(scenario())
    assert [each["query_id"] for each in answers] == list(range(60))
    assert _distance([each["embedding"] for each in answers], minilm.embed_queries(queries)) < 1e-5


def test_what_cannot_be_answered_is_refused_and_work_goes_on(
    server: NatsServer, settings: Settings, serving: Database, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()

    async def scenario() -> list[tuple[str, dict[str, Any]]]:
        async with working(settings, serving, server.url) as (_, told), connected(server.url) as client:
            for content, said in (
                (b"{nonsense", "not JSON"),
                (b"", "not JSON"),
                ({"query_id": "a", "query": ""}, "The query is empty"),
                ({"query_id": "a", "texts": ["x", None]}, "texts[1] is not a string"),
                ({"query_id": "a", "texts": ["x"] * 129}, "at most 128"),
                # A request must not make the worker read a directory, or download a model.
                ({"query_id": "a", "query": "x", "model": str(tmp_path / "model")}, "No registered model"),
                ({"query_id": "a", "query": "x", "model": "qodo"}, "No registered model"),
                ({"query_id": "a", "query": "x", "model": "org/name@main"}, "No registered model"),
                ({"query_id": "a", "query": "x", "model": "a\x00b"}, "No registered model"),
                ({"query_id": "a", "query": "x", "model": "0" * 64}, "No registered model"),
            ):
                answer = await ask(client, content)
                assert answer["status"] == "error", content
                assert said in answer["error"], content
                assert answer.get("query_id") == (None if isinstance(content, bytes) else "a")
                assert "embedding" not in answer
            assert (await ask(client, {"query_id": "a", "query": QUERY}))["status"] == "ok"
            return told

    told = asyncio.run(scenario())
    counts = next(particulars for event, particulars in told if event == "ended")
    assert counts == {"answered": 1, "refused": 10, "unanswered": 0}


def test_without_a_reply_subject_the_answer_is_published(
    server: NatsServer, settings: Settings, serving: Database
) -> None:
    async def scenario() -> list[dict[str, Any]]:
        async with working(settings, serving, server.url), connected(server.url) as client:
            answers = await client.subscribe("embedding.response")
            await client.publish(SUBJECT, json.dumps({"query_id": "a", "query": QUERY}).encode())
            await client.publish(SUBJECT, b"nonsense")
            # One with a reply subject is answered there, and there alone.
            await ask(client, {"query_id": "b", "query": QUERY})
            messages = [await answers.next_msg(timeout=30) for _ in range(2)]
            await client.flush()
            assert answers.pending_msgs == 0
            return [json.loads(message.data) for message in messages]

    by_status = {answer["status"]: answer for answer in asyncio.run(scenario())}
    assert by_status["ok"]["query_id"] == "a"
    assert len(by_status["ok"]["embedding"]) == 384
    assert "not JSON" in by_status["error"]["error"]


def test_an_answer_too_large_for_the_server_is_an_error(
    tmp_path: Path, settings: Settings, serving: Database
) -> None:
    async def scenario(server: NatsServer) -> None:
        async with working(settings, serving, server.url) as (_, told), connected(server.url) as client:
            large = await ask(client, {"query_id": "a", "texts": ["x"] * 5})
            assert large["status"] == "error"
            assert "at most 4 at a time" in large["error"]
            assert (await ask(client, {"query_id": "a", "texts": ["x"] * 4}))["status"] == "ok"
            assert [event for event, _ in told if event == "disconnected"] == []

    with running_server(tmp_path, "max_payload: 32768") as server:
        asyncio.run(scenario(server))


def test_a_flip_is_followed(
    *,
    server: NatsServer,
    settings: Settings,
    serving: Database,
    minilm: Encoder,
    texts: tuple[Function, ...],
    tmp_path: Path,
) -> None:
    other = load_perturbed(tmp_path / "other", texts)

    async def scenario() -> None:
        async with working(settings, serving, server.url), connected(server.url) as client:
            first = await ask(client, {"query_id": 1, "query": QUERY})
            assert first["model_version"] == minilm.version
            index = index_of(serving, other, settings)
            flipping.flip(serving, index, actor="index", reasons=["test"], settings=settings)
            async with asyncio.timeout(60):
                while (now := await ask(client, {"query_id": 2, "query": QUERY}))["model_version"] == (
                    minilm.version
                ):
                    assert now["embedding"] == first["embedding"]  # never a mixture
                    await asyncio.sleep(0.1)
            assert now["model_version"] == other.version
            assert _distance(now["embedding"], other.encoder.embed_queries([QUERY])[0]) < 1e-5
            old = await ask(client, {"query_id": 3, "query": QUERY, "model": minilm.version[:12]})
            assert old["embedding"] == first["embedding"]

    asyncio.run(scenario())


def test_a_server_that_goes_away_is_found_again(
    server: NatsServer, settings: Settings, serving: Database
) -> None:
    async def scenario() -> list[str]:
        async with working(settings, serving, server.url) as (_, told), connected(server.url) as client:
            assert (await ask(client, {"query_id": 1, "query": QUERY}))["status"] == "ok"
            server.stop()
            async with asyncio.timeout(60):
                while not any(event == "disconnected" for event, _ in told):
                    await asyncio.sleep(0.05)
            server.start()
            async with asyncio.timeout(60):
                while not (client.is_connected and any(event == "reconnected" for event, _ in told)):
                    await asyncio.sleep(0.05)
            await client.flush()
            assert (await ask(client, {"query_id": 2, "query": QUERY}))["status"] == "ok"
            return [event for event, _ in told]

    events = asyncio.run(scenario())
    assert "error" not in events  # one line that it went, one that it is back
    assert events.count("disconnected") == events.count("reconnected") == 1


def test_the_event_loop_never_embeds(
    server: NatsServer, settings: Settings, serving: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops = threading.get_ident()
    seen: list[tuple[str, bool]] = []
    for name in ("embed_queries", "embed_documents"):
        original = getattr(Encoder, name)

        def noted(self: Encoder, *arguments: Any, _name: str = name, _original: Any = original) -> Any:
            seen.append((_name, threading.get_ident() == loops))
            return _original(self, *arguments)

        monkeypatch.setattr(Encoder, name, noted)

    async def scenario() -> None:
        async with working(settings, serving, server.url), connected(server.url) as client:
            await ask(client, {"query_id": 1, "query": QUERY})
            await ask(client, {"query_id": 1, "texts": [QUERY]})

    asyncio.run(scenario())
    assert seen == [("embed_queries", False), ("embed_documents", False)]


def test_a_full_worker_says_so_and_drains(
    server: NatsServer, settings: Settings, serving: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it took before it was told to stop is answered, however long that takes."""
    go_on = threading.Event()
    original = Encoder.embed_queries

    def slow(self: Encoder, texts: list[str]) -> Any:
        go_on.wait(60)
        return original(self, texts)

    monkeypatch.setattr(Encoder, "embed_queries", slow)
    small = settings.model_copy(update={"nats_max_waiting": 3})

    async def scenario() -> tuple[list[dict[str, Any]], dict[str, Any]]:
        async with working(small, serving, server.url) as (worker, told), connected(server.url) as client:
            held = [
                asyncio.create_task(ask(client, {"query_id": number, "query": f"{QUERY} {number}"}))
                for number in range(3)
            ]
            await asyncio.sleep(0)
            async with asyncio.timeout(60):
                while len(worker._waiting) < 3:
                    await asyncio.sleep(0.01)
            refused = await ask(client, {"query_id": "late", "query": QUERY})
            worker.stop()
            async with asyncio.timeout(60):
                while not any(event == "draining" for event, _ in told):
                    await asyncio.sleep(0.01)
            # Nobody takes anything new.
            with pytest.raises(Exception, match="no responders"):
                async with asyncio.timeout(60):
                    while True:
                        await ask(client, {"query_id": "new", "query": QUERY}, timeout=0.2)
            go_on.set()
            return await asyncio.gather(*held), refused

    held, refused = asyncio.run(scenario())
    assert [each["status"] for each in held] == ["ok"] * 3
    assert refused["status"] == "error"
    assert "3 requests waiting already" in refused["error"]


def test_the_server_knows_what_the_worker_says(
    server: NatsServer, settings: Settings, serving: Database
) -> None:
    """Listening is said once it listens, and a request that comes while it drains is answered.

    On a slow connection: whatever follows a PING reaches the server half a second later.
    """

    async def scenario() -> tuple[int, list[str]]:
        async with slow_after_pings(server) as url, connected(server.url) as client:
            async with working(settings, serving, url) as (worker, told):
                first = await ask(client, {"query_id": 0, "query": QUERY})
                assert first["status"] == "ok"
                worker.stop()
                answered = 1
                while True:
                    try:
                        answer = await ask(client, {"query_id": answered, "query": QUERY}, timeout=30)
                    except NoRespondersError:
                        break
                    assert answer["status"] == "ok"
                    answered += 1
            return answered, [event for event, _ in told]

    answered, events = asyncio.run(scenario())
    assert events.count("answered") == answered
    assert events[-1] == "ended"


def test_nothing_serves_yet(server: NatsServer, settings: Settings, db: Database, minilm: Encoder) -> None:
    async def scenario() -> None:
        async with working(settings, db, server.url), connected(server.url) as client:
            answer = await ask(client, {"query_id": 1, "query": QUERY})
            assert answer["status"] == "error"
            assert "No model serves yet" in answer["error"]
            base = await ask(client, {"query_id": 1, "query": QUERY, "model": "base"})
            assert base["model_version"] == minilm.version

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("configuration", "change", "error", "said"),
    [
        (
            "",
            {"nats_url": "nats://u:secret@127.0.0.1:1"},
            UnavailableError,
            r"//\*\*\*@127.*Connect call failed",
        ),
        ("authorization: {user: u, password: p}", {}, UnavailableError, "uthorization"),
        ("", {"nats_credentials": Path("/nowhere/x.creds")}, BadInputError, "no credentials file"),
        ("", {"nats_url": "nats://:x"}, BadInputError, "not the address of a NATS server"),
        ("", {"nats_url": "nats://a:4222,http://secret@b"}, BadInputError, r"http://\*\*\*@b"),
    ],
)
def test_a_server_that_cannot_be_used_is_an_error_at_once(
    *,
    tmp_path: Path,
    settings: Settings,
    serving: Database,
    configuration: str,
    change: dict[str, Any],
    error: type[Exception],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.search.nats.connecting.CONNECT_SECONDS", 1.5)

    async def scenario(url: str) -> None:
        changed = settings.model_copy(update=change)
        async with working(changed, serving, change.get("nats_url", url)):
            pass

    with running_server(tmp_path, configuration) as server, pytest.raises(error, match=said) as raised:
        asyncio.run(scenario(server.url))
    assert "secret" not in str(raised.value)


def _distance(given: Any, expected: np.ndarray[Any, Any]) -> float:
    return float(np.abs(np.asarray(given, dtype=np.float32) - expected).max())


def test_what_a_server_said_is_not_forgotten_when_it_hangs_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server refuses and hangs up, and seldom only the latter arrives; here they come in turn."""
    monkeypatch.setattr("pipeline.search.nats.connecting.CONNECT_SECONDS", 2.5)
    met: list[int] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(len(met))
        if len(met) == 1:
            writer.write(b'INFO {"server_id": "x", "version": "2.11.0", "max_payload": 1048576}\r\n')
            await reader.readline()
            writer.write(b"-ERR 'Authorization Violation'\r\n")
            await writer.drain()
        else:  # no farewell: the client meets a reset
            hang_up = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, hang_up)
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await Link(
                settings.model_copy(update={"nats_url": f"nats://127.0.0.1:{port}"}), lambda *_: None
            ).open()

    with pytest.raises(UnavailableError, match="Authorization"):
        asyncio.run(scenario())
    assert len(met) > 1
