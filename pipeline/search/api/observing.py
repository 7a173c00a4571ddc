"""The outermost layer: every request is counted, logged in one line, and answered, come what may."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from urllib.parse import quote

from pydantic import SecretStr
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.errors import HoneloopError
from pipeline.search.api import errors, security
from pipeline.search.api.metrics import Metrics
from pipeline.store.failures import explained

# One line per request. Never the query string or a header: they hold what people ask, and secrets; and where
# somebody put the token into the path, not that either.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
access_log = logging.getLogger("pipeline.search.api.access")


class Observing:
    """Middleware: see above; it also adds the security headers.

    Args:
        app: What is inside.
        metrics: Where requests are counted.
        token: What no log may have; None: there is none.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, token: SecretStr | None) -> None:
        self._app = app
        self._metrics = metrics
        self._token = "" if token is None else token.get_secret_value()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on and sees to it that there is an answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in security.HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"] not in {"/openapi.json"} and not scope["path"].startswith("/static/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._answer(scope, receive, watched, lambda: status)
        finally:
            self._count(scope, status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, status: Callable[[], int]) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            request = Request(scope)
            known = error if isinstance(error, HoneloopError) else explained(error)
            if known is not None:
                response = errors.failed(request, known)
            elif isinstance(error, HTTPException):
                response = errors.http(request, error)
            else:
                response = errors.unexpected(request, error)
            if not status():  # else part of an answer is out, and the connection is closed
                await response(scope, receive, send)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        # Of addresses that do not exist there are too many to count each.
        route = getattr(scope.get("route"), "path", None) or "none"
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        path = scope["path"].replace(self._token, "[token]") if self._token else scope["path"]
        access_log.info(
            "%s %s %s %.1f ms %s",
            method,
            quote(path, safe="/[]")[:200],
            status or "broken off",
            seconds * 1000,
            scope["client"][0] if scope.get("client") else "-",
        )
