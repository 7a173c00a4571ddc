"""Logging in and out of the web page, for a service with a token."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from pipeline.search.api.errors import RefusedError
from pipeline.search.api.limits import RateLimit
from pipeline.search.api.negotiation import prefers_html
from pipeline.search.api.security import COOKIE, Sessions, client_of, own_path, set_session

# Wrong tokens per client; a person mistypes, a program guesses.
WRONG_TOKENS = "10/minute"


def login_router(sessions: Sessions | None) -> APIRouter:
    """POST /login and /logout.

    Args:
        sessions: Of the service's token; None: it has none, and whoever comes is in already.
    """
    router = APIRouter(include_in_schema=False)
    wrong = RateLimit(WRONG_TOKENS)

    @router.post("/login")
    async def login(
        request: Request,
        token: Annotated[str, Form(max_length=10_000)] = "",
        next: Annotated[str, Form(max_length=10_000)] = "/",
    ) -> Response:
        """A session for the token; a browser goes on to where it wanted to be."""
        target = own_path(next)
        html = prefers_html(request)
        if sessions is not None:
            wrong.require_left(client_of(request))
            if not sessions.is_token(token.strip().encode("utf-8", "replace")):
                wrong.take(client_of(request))
                if html:
                    return RedirectResponse(f"/login?wrong=1&next={quote(target, safe='')}", 303)
                raise RefusedError(
                    401, "That is not the service's API token.", hint="It is HONELOOP_API_TOKEN."
                )
        response = RedirectResponse(target, 303) if html else JSONResponse({"status": "ok"})
        if sessions is not None:
            set_session(response, request, sessions)
        return response

    @router.post("/logout")
    async def logout(request: Request) -> Response:
        """Ends the session of this browser."""
        response = (
            RedirectResponse("/login", 303) if prefers_html(request) else JSONResponse({"status": "ok"})
        )
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return response

    _ = login, logout  # used by the router
    return router
