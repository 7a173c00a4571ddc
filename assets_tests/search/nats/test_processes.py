"""Workers as they are run, several at a time: they share the load, die in the midst of it, end in order."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from nats.aio.client import Client
from nats.aio.msg import Msg

from assets_tests.search.nats.conftest import SUBJECT, NatsServer, StartWorkers, connected
from pipeline.config import Settings

REQUESTS = 150
TEXT = "def f(a, b):\n" + "    a = a + b * 2  # and so on, for a while\n" * 6


def request(number: int) -> bytes:
    """Some work each: queries that are all different, and among them requests with texts."""
    if number % 3:
        return json.dumps({"query_id": number, "query": f"{TEXT} {number}"}).encode()
    return json.dumps({"query_id": number, "texts": [f"{TEXT} {number}", f"{TEXT} {number}b"]}).encode()


class Inbox:
    """Sends requests, each attempt with a reply subject of its own, and counts the answers to each."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._came = asyncio.Condition()
        self.answers: Counter[tuple[int, int]] = Counter()  # by attempt and number
        self.statuses: Counter[str] = Counter()

    async def open(self) -> None:
        await self._client.subscribe(f"{self._inbox}.*.*", cb=self._take)

    async def send(self, attempt: int, numbers: Iterable[int]) -> None:
        for number in numbers:
            await self._client.publish(SUBJECT, request(number), reply=f"{self._inbox}.{attempt}.{number}")
        await self._client.flush()

    def missing(self) -> list[int]:
        """What no attempt was answered of."""
        return sorted(set(range(REQUESTS)) - {number for _, number in self.answers})

    async def complete(self, seconds: float) -> bool:
        """Whether every request was answered within that time."""
        try:
            async with asyncio.timeout(seconds), self._came:
                await self._came.wait_for(lambda: not self.missing())
        except TimeoutError:
            return False
        return True

    async def _take(self, message: Msg) -> None:
        answer = json.loads(message.data)
        attempt, number = map(int, message.subject.split(".")[-2:])
        assert answer["query_id"] == number
        async with self._came:
            self.answers[attempt, number] += 1
            self.statuses[answer["status"]] += 1
            self._came.notify_all()


def test_one_is_killed_and_one_is_told_to_end(server: NatsServer, start_workers: StartWorkers) -> None:
    """Two share the load; killed, one answers nothing twice; told to end, the other loses nothing."""
    doomed, survivor = start_workers(2)

    async def one_is_killed() -> Inbox:
        async with connected(server.url) as client:
            inbox = Inbox(client)
            await inbox.open()
            await inbox.send(1, range(REQUESTS))
            # It has answered some, so it shares the load, and has others that it will never answer.
            for _ in range(20):
                await asyncio.to_thread(doomed.until, "answered")
            doomed.process.kill()
            # What a client does: a time limit, and then it asks again by the same query_id.
            assert not await inbox.complete(4), "nothing was lost: the test needs more load"
            await inbox.send(2, inbox.missing())
            assert await inbox.complete(90)
            await inbox.send(3, range(10))  # whatever else is on its way comes before the answers to these
            while sum(attempt == 3 for attempt, _ in inbox.answers) < 10:
                await asyncio.sleep(0.05)
            return inbox

    async def one_is_told_to_end() -> Inbox:
        async with connected(server.url) as client:
            inbox = Inbox(client)
            await inbox.open()
            await inbox.send(1, range(REQUESTS))
            await asyncio.to_thread(survivor.until, "answered")
            survivor.process.send_signal(signal.SIGTERM)
            assert await inbox.complete(90)
            return inbox

    first = asyncio.run(one_is_killed())
    assert set(first.answers.values()) == {1}  # no attempt was answered twice
    assert set(first.statuses) == {"ok"}
    assert len({number for attempt, number in first.answers if attempt == 1}) > 20  # both answered some
    second = asyncio.run(one_is_told_to_end())
    assert second.answers == {(1, number): 1 for number in range(REQUESTS)}
    assert second.statuses == {"ok": REQUESTS}
    told, said = survivor.rest()
    assert survivor.process.returncode == 0, said
    assert said == ""
    draining = next(each for each in told if each["event"] == "draining")
    assert draining["in_flight"] > 0, "the signal came too late: the test needs more load"
    ended = told[-1]
    assert ended["event"] == "ended"
    assert (ended["refused"], ended["unanswered"]) == (0, 0)
    # The survivor answered some of the first load and all of the second; the rest was answered by the other.
    assert REQUESTS < ended["answered"] < len(first.answers) + REQUESTS


def test_without_the_client_library_it_says_what_to_install(settings: Settings) -> None:
    code = (
        "import sys; sys.modules['nats'] = None; sys.argv[1:] = ['embed-worker']; "
        "from pipeline.cli import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={"HONELOOP_HOME": str(settings.home)},
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
        timeout=60,
    )
    assert ended.returncode == 1
    assert 'pip install "honeloop[nats]"' in ended.stderr
