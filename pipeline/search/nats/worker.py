"""The worker: takes requests from a queue group, answers each once, and ends without losing one."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np
from nats import errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from pipeline.errors import HoneloopError
from pipeline.search.encoding import QueryEncoder
from pipeline.search.nats.connecting import Link
from pipeline.search.nats.messages import (
    EmbeddingRequest,
    InvalidRequestError,
    QueryId,
    error_answer,
    ok_answer,
    parse_request,
    require_room,
)
from pipeline.search.nats.models import NamedModels
from pipeline.workbench import Workbench

Result = TypeVar("Result")
# Told what happens: a word for it, and its particulars.
Say = Callable[[str, dict[str, Any]], None]

# How often it is looked whether another model serves.
FOLLOW_SECONDS = 2.0
# How long requests in flight may take after a signal to end.
DRAIN_SECONDS = 60.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger(__name__)


class EmbedWorker:
    """Answers embedding requests until it is told to stop. The contract is in `pipeline.search.nats`.

    Nothing that takes long happens on the event loop: the connection's heartbeats go on while models load
    and vectors are made. Queries that come together are embedded together; texts one request after another.

    Args:
        bench: Settings, registry and encoders.
        say: Told what happens.
    """

    def __init__(self, bench: Workbench, say: Say) -> None:
        self._bench = bench
        self._settings = bench.settings
        self._say = say
        self._link = Link(bench.settings, say)
        self._models = NamedModels(bench)
        self._waiting: set[asyncio.Task[None]] = set()
        self._counts = {"answered": 0, "refused": 0, "unanswered": 0}
        # Looking up and loading models, and writing answers; texts have a thread of their own.
        self._aside = ThreadPoolExecutor(8, thread_name_prefix="embed-worker")
        self._documents = ThreadPoolExecutor(1, thread_name_prefix="documents")
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Works until SIGTERM or SIGINT; then finishes what it has, takes nothing new, and returns.

        Raises:
            UnavailableError: the NATS server cannot be reached at the start, or turned the worker out.
            HoneloopError: what was in flight was not done within a minute.
        """
        loop = asyncio.get_running_loop()
        for each in SIGNALS:
            loop.add_signal_handler(each, self.stop)
        try:
            await self._link.open()
            # Before anything is subscribed to, so that the first request does not wait for it.
            await self._follow()
            following = asyncio.create_task(self._keep_following())
            try:
                await self._work()
            finally:
                following.cancel()
        finally:
            await self._link.close()
            self._aside.shutdown(wait=False, cancel_futures=True)
            self._documents.shutdown(wait=False, cancel_futures=True)
            self._say("ended", dict(self._counts))

    def close(self) -> None:
        """Ends its threads. Blocks, so not on the event loop."""
        self._models.close()

    def stop(self) -> None:
        """Makes `run` finish what it has and return; what a signal does. On the event loop only."""
        # Whoever sends a second signal does not want to wait.
        for each in SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(each)
        self._stopping.set()

    async def _work(self) -> None:
        settings = self._settings
        subscription = await self._link.client.subscribe(
            settings.nats_request_subject, queue=settings.nats_queue_group, cb=self._take
        )
        await self._link.client.flush()
        self._say(
            "listening",
            {
                "url": settings.shown_nats_url,
                "subject": settings.nats_request_subject,
                "queue_group": settings.nats_queue_group,
                "max_payload": self._link.client.max_payload,
            },
        )
        await self._link.until_closed_or(self._stopping)
        await self._drain(subscription)

    async def _drain(self, subscription: Subscription) -> None:
        self._say("draining", {"in_flight": len(self._waiting)})
        # The server may be away just now; then nothing new comes anyway.
        with suppress(errors.Error, OSError):
            await subscription.drain()
        if self._waiting:
            _, late = await asyncio.wait(self._waiting, timeout=DRAIN_SECONDS)
            if late:
                raise HoneloopError(
                    f"{len(late)} requests were not answered within {DRAIN_SECONDS:.0f} s.",
                    hint="Whoever asked runs into the time limit and may ask again.",
                )
        with suppress(errors.Error, OSError):
            await self._link.client.flush()

    async def _take(self, message: Msg) -> None:
        """Called for one message after the other; what takes time goes on beside."""
        task = asyncio.create_task(self._answer(message, full=self._is_full()))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    def _is_full(self) -> bool:
        return len(self._waiting) >= self._settings.nats_max_waiting

    async def _answer(self, message: Msg, *, full: bool) -> None:
        started = time.perf_counter()
        query_id: QueryId | None = None
        told: dict[str, Any] = {}
        try:
            request = parse_request(message.data, max_texts=self._settings.nats_max_texts)
            query_id = request.query_id
            if full:
                raise HoneloopError(
                    f"This worker has {self._settings.nats_max_waiting:,} requests waiting already.",
                    hint="Try again in a moment, or start more workers.",
                )
            encoder = self._models.at_hand(request.model) or await self._beside(
                self._models.find, request.model
            )
            payload = await self._embedded(request, encoder)
            told = {"vectors": request.count, "model_version": encoder.encoder.version}
        except HoneloopError as error:
            if isinstance(error, InvalidRequestError):
                query_id = error.query_id
            payload = error_answer(query_id, str(error))
        except Exception:
            _log.exception("A request failed unexpectedly.")
            payload = error_answer(query_id, "Something unexpected went wrong. The worker's log says what.")
        outcome = "answered" if told else "refused"
        if not await self._send(message, payload):
            outcome = "unanswered"
        self._counts[outcome] += 1
        took = round((time.perf_counter() - started) * 1000, 1)
        self._say(outcome, {"query_id": query_id, **told, "ms": took})

    async def _embedded(self, request: EmbeddingRequest, encoder: QueryEncoder) -> bytes:
        most = self._link.client.max_payload
        require_room(request, encoder.encoder.dims, most)
        if request.query is not None:
            vector = await asyncio.wrap_future(encoder.submit(request.query))
            vectors = vector[np.newaxis]
        else:
            vectors = await asyncio.get_running_loop().run_in_executor(
                self._documents, encoder.encoder.embed_documents, request.texts
            )
        return await self._beside(ok_answer, request, vectors, encoder.encoder.version)

    async def _send(self, message: Msg, payload: bytes) -> bool:
        try:
            await self._link.client.publish(message.reply or self._settings.nats_response_subject, payload)
        except (errors.Error, OSError) as error:
            # The connection is gone, or what waits for it to come back is too much: nobody can be told.
            self._say("error", {"error": str(error) or type(error).__name__})
            return False
        return True

    async def _follow(self) -> None:
        try:
            encoder = await self._beside(self._models.follow)
        except HoneloopError as error:
            self._say("error", {"error": str(error)})
            return
        self._say("serving", {"model_version": encoder.encoder.version, "device": encoder.encoder.device})

    async def _keep_following(self) -> None:
        before = self._models.at_hand("serving")
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            with suppress(HoneloopError):  # the database is away, or nothing serves yet
                now = await self._beside(self._models.follow)
                if now is not before:
                    before = now
                    self._say("serving", {"model_version": now.encoder.version, "device": now.encoder.device})

    async def _beside(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """What `work` gives, in a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._aside, work, *arguments)
