"""How much one client may ask: the size of a request, and how many in a while."""

from __future__ import annotations

import math
import time

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.search.api.errors import RefusedError


class RateLimit:
    """So many requests per client in any stretch of time (a moving window), counted in memory.

    Args:
        limit: Such as "20000/minute".
    """

    def __init__(self, limit: str) -> None:
        self._limit = parse(limit)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def take(self, client: str) -> None:
        """Counts one request. Raises RefusedError (429) if it is one too many."""
        if not self._limiter.hit(self._limit, client):
            self._refuse(client)

    def require_left(self, client: str) -> None:
        """Raises RefusedError (429) if another one would be too many; counts nothing."""
        if not self._limiter.test(self._limit, client):
            self._refuse(client)

    def _refuse(self, client: str) -> None:
        reset = self._limiter.get_window_stats(self._limit, client).reset_time
        seconds = max(1, math.ceil(reset - time.time()))
        raise RefusedError(
            429,
            f"That is more than {self._limit}.",
            hint=f"Try again in {seconds} s.",
            headers={"Retry-After": str(seconds)},
        )


class BodyLimit:
    """Middleware: refuses a larger body, by its announced length or as soon as more than that has come.

    Args:
        app: What is inside.
        limit: In bytes.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, its body counted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > self._limit:
                raise self._too_large()
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._limit:
                    raise self._too_large()
            return message

        await self._app(scope, counted, send)

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(self._limit)


class BodyTooLargeError(HTTPException):
    """413. The framework passes its own kind of error on when it meets one while it reads a body."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"The body is larger than {limit:,} bytes", {"Connection": "close"})
