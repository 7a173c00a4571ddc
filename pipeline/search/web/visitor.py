"""Who sits in front of the page: an anonymous id in a cookie, so that one person's judgements stay one's."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote
from uuid import uuid4

from fastapi import Request, Response

from pipeline.errors import BadInputError
from pipeline.feedback.judged import ANONYMOUS

ID_COOKIE = "honeloop_visitor"
NAME_COOKIE = "honeloop_name"
ONE_YEAR_SECONDS = 365 * 24 * 3600
MAX_NAME_CHARACTERS = 60
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Visitor:
    """One browser. `id` is 32 random hexadecimal digits; `name` is what the person chose to be called."""

    id: str
    name: str | None = None

    @property
    def user(self) -> str:
        """The user name of this person's searches and feedback."""
        return self.name or f"{ANONYMOUS}{self.id}"

    def named(self, name: str | None) -> Visitor:
        """The same browser, whose person is now called `name`; None: anonymous again."""
        return replace(self, name=name)


def visitor_of(request: Request) -> Visitor:
    """Who asks; somebody new without a cookie, or with one that was tampered with."""
    known = request.cookies.get(ID_COOKIE, "")
    return Visitor(known if _ID.fullmatch(known) else uuid4().hex, _name(request))


def remember(response: Response, request: Request, visitor: Visitor) -> None:
    """Sets the cookies for another year. Scripts cannot read them, and other sites' requests lack them."""
    _set(response, request, ID_COOKIE, visitor.id)
    if visitor.name is not None:
        _set(response, request, NAME_COOKIE, quote(visitor.name, safe=""))
    elif NAME_COOKIE in request.cookies:
        response.delete_cookie(NAME_COOKIE, path="/", httponly=True, samesite="lax")


def checked_name(name: str) -> str | None:
    """`name` without the space around it; None if nothing is left, which is to be anonymous again.

    Raises:
        BadInputError: it is too long, not printable, or looks like somebody's anonymous id.
    """
    name = name.strip()
    if not name:
        return None
    if len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise BadInputError(
            "That cannot be a name.",
            hint=f"Use up to {MAX_NAME_CHARACTERS} printable characters.",
            field="name",
        )
    if name.lower().startswith(ANONYMOUS):
        raise BadInputError(
            f"A name cannot begin with {ANONYMOUS}",
            hint="That is how the nameless are called.",
            field="name",
        )
    return name


def _name(request: Request) -> str | None:
    try:
        return checked_name(unquote(request.cookies.get(NAME_COOKIE, ""), errors="strict"))
    except (BadInputError, UnicodeDecodeError):
        return None


def _set(response: Response, request: Request, cookie: str, value: str) -> None:
    response.set_cookie(
        cookie,
        value,
        max_age=ONE_YEAR_SECONDS,
        path="/",
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
