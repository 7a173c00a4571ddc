"""Who may use the service.

Without a token only this machine may: the service listens on a loopback address, answers only to a loopback
name (else a web page elsewhere could have its own name point here, "DNS rebinding"), and takes nothing that
another site's page sends. With a token, whoever sends it, or a cookie that was given for it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from urllib.parse import quote, urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.errors import BadInputError
from pipeline.search.api.errors import RefusedError
from pipeline.search.api.limits import RateLimit
from pipeline.search.api.negotiation import prefers_html

COOKIE = "honeloop_session"
SESSION_SECONDS = 30 * 24 * 3600
# What a browser must reach to log in, and what a supervisor asks.
OPEN_PATHS = ("/health", "/login")
OPEN_PREFIX = "/static/"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def require_safe_host(host: str, token: SecretStr | None) -> None:
    """Raises BadInputError if others could reach the service at `host` without a token."""
    if token is None and not is_loopback(host):
        raise BadInputError(
            f"{host} can be reached from other machines, and no API token is set.",
            hint="Set HONELOOP_API_TOKEN to a long random text that clients then send, or leave --host out.",
        )


def is_loopback(host: str) -> bool:
    """Whether a name or address means this machine alone, whoever resolves it."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Sessions:
    """Cookies given for the token: until when they hold, and a proof that only the token's owner can make.

    The proof is an HMAC-SHA256 (RFC 2104) under the token, which cannot be computed back from it. Another
    token ends all sessions.
    """

    def __init__(self, token: SecretStr) -> None:
        self._token = token.get_secret_value().encode()

    def is_token(self, offered: bytes) -> bool:
        """Whether it is the token, in UTF-8; takes equally long whatever is offered."""
        return hmac.compare_digest(offered, self._token)

    def new(self) -> str:
        """A cookie's value."""
        until = str(int(time.time()) + SESSION_SECONDS)
        return f"{until}.{self._proof(until)}"

    def holds(self, cookie: str) -> bool:
        """Whether the cookie was given for the token and is not too old."""
        until, _, proof = cookie.partition(".")
        genuine = hmac.compare_digest(proof.encode("utf-8", "replace"), self._proof(until).encode())
        return genuine and int(until) > time.time()

    def _proof(self, until: str) -> str:
        message = b"honeloop session until " + until.encode("utf-8", "replace")
        return hmac.new(self._token, message, hashlib.sha256).hexdigest()


class Guard:
    """Middleware: lets through who may, and raises RefusedError for everybody else.

    Args:
        app: What is inside.
        token: What clients must send; None: they must be on this machine.
        rate: How often.
    """

    def __init__(self, app: ASGIApp, token: SecretStr | None, rate: RateLimit) -> None:
        self._app = app
        self._sessions = None if token is None else Sessions(token)
        self._rate = rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or not."""
        if scope["type"] == "http":
            request = Request(scope)
            self._rate.take(client_of(request))
            _refuse_other_sites(request)
            if self._sessions is None:
                _require_loopback_name(request)
            elif not self._may(request, self._sessions):
                await _refusal(request)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _may(self, request: Request, sessions: Sessions) -> bool:
        path = request.url.path
        if path in OPEN_PATHS or path.startswith(OPEN_PREFIX):
            return True
        scheme, _, offered = request.headers.get("authorization", "").partition(" ")
        # A header is bytes, which the framework shows as Latin-1.
        if scheme.lower() == "bearer" and sessions.is_token(offered.encode("latin-1").strip()):
            return True
        return sessions.holds(request.cookies.get(COOKIE, ""))


def client_of(request: Request) -> str:
    """Who asks, as far as requests are counted: an address."""
    return request.client.host if request.client is not None else "unknown"


def set_session(response: Response, request: Request, sessions: Sessions) -> None:
    """Gives the browser a session. Scripts cannot read it, and other sites' pages cannot make it be sent."""
    response.set_cookie(
        COOKIE,
        sessions.new(),
        max_age=SESSION_SECONDS,
        path="/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def own_path(target: str) -> str:
    r"""`target` if it is a path of this service, else `/`: a login must not lead to somebody else's page.

    Browsers take `//host` and `/\host` for other sites.
    """
    safe = target.startswith("/") and not target.startswith("//") and "\\" not in target
    return target if safe and target.isprintable() else "/"


def from_own_page(request: Request) -> bool:
    """Whether a link on a page of this service was followed, as far as the browser says.

    Browsers tell it in `Sec-Fetch-Site`; those that do not, old ones and any over plain http from another
    machine, name the page that they come from, which this service's pages ask for within the site only.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    came_from = request.headers.get("referer")
    if came_from is None:
        return True
    try:
        return urlsplit(came_from).netloc.lower() == request.headers.get("host", "").lower()
    except ValueError:
        return False


def _refusal(request: Request) -> Response:
    if request.method in {"GET", "HEAD"} and prefers_html(request):
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/login?next={quote(request.url.path + query, safe='')}", 303)
    raise RefusedError(
        401,
        "This needs the service's API token.",
        hint="Send it as `Authorization: Bearer …`, or log in at /login.",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _require_loopback_name(request: Request) -> None:
    name = (
        urlsplit(f"//{request.headers.get('host', '')}").hostname if _host_is_sane(request.headers) else None
    )
    if name is None or not is_loopback(name):
        raise RefusedError(
            403,
            "Without an API token the service answers only to this machine's own names.",
            hint="Ask http://127.0.0.1 or http://localhost, or set HONELOOP_API_TOKEN.",
        )


def _host_is_sane(headers: Headers) -> bool:
    try:
        urlsplit(f"//{headers.get('host', '')}")
    except ValueError:
        return False
    return True


def _refuse_other_sites(request: Request) -> None:
    """What another site's page makes a browser send is refused, but for a person who follows a link."""
    headers = request.headers
    reading = request.method in {"GET", "HEAD", "OPTIONS"}
    site = headers.get("sec-fetch-site", "none")
    followed = (
        reading
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )
    other = site not in {"same-origin", "none"} and not followed
    origin = headers.get("origin")
    if origin is not None and not reading:
        # Behind a proxy that speaks https, this service does not know its own scheme.
        _, _, origin_host = origin.partition("://")
        other = other or origin_host.lower() != headers.get("host", "").lower()
    if other:
        raise RefusedError(403, "Another site's page may not use this service.", hint="Open it directly.")
