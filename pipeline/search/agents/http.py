"""The server over streamable HTTP, for several agents: on this machine, or beyond it with a token."""

from __future__ import annotations

import hmac
import json
import signal
import socket
from collections.abc import Callable, Mapping, Sequence

import uvicorn
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.config import Settings
from pipeline.errors import HoneloopError
from pipeline.search.agents.backend import AgentBackend
from pipeline.search.agents.server import build_server
from pipeline.search.api.errors import RefusedError
from pipeline.search.api.limits import RateLimit
from pipeline.search.api.security import require_safe_host

PATH = "/mcp"
# Streams that clients hold open are cut after this long when the server ends.
STOP_SECONDS = 3
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


class RateGuard:
    """Lets each client, told by its address, ask only so often; those without the token are counted, too."""

    def __init__(self, app: ASGIApp, rate: RateLimit) -> None:
        self._app = app
        self._rate = rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] == "http":
            client = scope.get("client")
            try:
                self._rate.take(client[0] if client else "unknown")
            except RefusedError as error:
                await _refuse(send, error.status, str(error), error.headers)
                return
        await self._app(scope, receive, send)


class TokenGuard:
    """Lets only requests with the bearer token through. The token is compared in constant time."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = b"bearer " + token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] == "lifespan" or self._has_token(scope):
            await self._app(scope, receive, send)
            return
        said = "This server takes requests with its bearer token only."
        await _refuse(send, 401, said, {"WWW-Authenticate": "Bearer"})

    def _has_token(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
        if len(given) != 1:
            return False
        scheme, _, token = given[0].partition(b" ")
        return hmac.compare_digest(scheme.lower() + b" " + token.strip(), self._expected)


def serve_http(
    backend: AgentBackend,
    settings: Settings,
    *,
    host: str,
    port: int,
    allowed_hosts: Sequence[str] = (),
    user: str | None = None,
    ready: Callable[[str], None],
) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        backend: What the tools work with; its owner closes it.
        settings: For the token, and how large and how frequent requests may be.
        host: Address to listen at.
        port: 0: any that is free.
        allowed_hosts: Further names that clients may call this server by.
        user: See `build_server`.
        ready: Told the address once it listens.

    Raises:
        BadInputError: the address is not this machine's own and there is no token.
        HoneloopError: the address cannot be listened at.
    """
    require_safe_host(host, settings.api_token)
    app = http_app(backend, settings, host=host, allowed_hosts=allowed_hosts, user=user)
    with _listen(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{listener.getsockname()[1]}{PATH}")
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        # When it has ended, uvicorn sends the signal that ended it once more, to whoever handled it before.
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)
        server.run(sockets=[listener])


def http_app(
    backend: AgentBackend,
    settings: Settings,
    *,
    host: str,
    allowed_hosts: Sequence[str] = (),
    user: str | None = None,
) -> ASGIApp:
    """The server as an application, with the limits that the search service has. Arguments: `serve_http`."""
    app: ASGIApp = build_server(backend, user=user).streamable_http_app(
        streamable_http_path=PATH,
        max_request_body_size=settings.max_body_bytes,
        transport_security=transport_security(host, allowed_hosts),
        host=host,
    )
    if settings.api_token is not None:
        app = TokenGuard(app, settings.api_token.get_secret_value())
    return RateGuard(app, RateLimit(settings.rate_limit))


def transport_security(host: str, allowed_hosts: Sequence[str] = ()) -> TransportSecuritySettings:
    """Which names a request may call the server by, so that no web page reaches it by one of its own.

    At all of a machine's addresses any name may be right; there the token, which no page knows, protects it.
    """
    if host in {"0.0.0.0", "::"} and not allowed_hosts:
        return TransportSecuritySettings(enable_dns_rebinding_protection=False)
    own = f"[{host}]" if ":" in host else host
    names = list(dict.fromkeys((*LOOPBACK_NAMES, own, *allowed_hosts)))
    hosts = [each for name in names for each in (name, f"{name}:*")]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=hosts,
        allowed_origins=[f"{scheme}://{each}" for scheme in ("http", "https") for each in hosts],
    )


async def _refuse(send: Send, status: int, error: str, headers: Mapping[str, str]) -> None:
    body = json.dumps({"error": error}).encode()
    told = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in told.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise HoneloopError(
            f"{host}:{port} cannot be listened at ({error.strerror}).", hint="Choose another with --port."
        ) from error
    return listener
