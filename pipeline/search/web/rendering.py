"""Templates filled in: every page of the service in the same frame, and every value escaped."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import date, datetime
from functools import cache
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline.config import Settings
from pipeline.search.web.permalinks import opening_link, query_link
from pipeline.search.web.visitor import remember, visitor_of

# The first is the page's script; it imports the others, which are named here to be loaded beside it.
SCRIPTS = (
    "honeloop.js",
    "asking.js",
    "copying.js",
    "keyboard.js",
    "page.js",
    "reading.js",
    "telling.js",
    "verdicts.js",
)
MEDIA_TYPES: Mapping[str, str] = {
    "honeloop.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(SCRIPTS, "text/javascript; charset=utf-8"),
}


# What the frame of every page names, where there is nothing to say.
_NOTHING_WRONG: Mapping[str, Any] = {"name_problem": None, "next": None}


@cache
def static_files() -> dict[str, bytes]:
    """The stylesheet, the scripts and the icon: all there is under /static/, by name."""
    folder = files("pipeline.search.web") / "static"
    return {name: (folder / name).read_bytes() for name in MEDIA_TYPES}


@cache
def static_version() -> str:
    """Stands in the addresses of static files, which may therefore be cached for ever."""
    return hashlib.sha256(b"".join(static_files().values())).hexdigest()[:12]


def render(
    request: Request,
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: Any,
) -> HTMLResponse:
    """A page.

    Args:
        request: Whose. A person who gets a page that is no error is remembered by a cookie.
        template: Its name in templates/.
        status: Of the response.
        headers: More of them.
        context: What the template names.
    """
    settings: Settings = request.app.state.settings
    visitor = visitor_of(request)
    address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    html = (
        _environment()
        .get_template(template)
        .render(
            visitor=visitor,
            here=request.url.path,
            address=address,
            zone=ZoneInfo(settings.timezone),
            has_token=settings.api_token is not None,
            **{**_NOTHING_WRONG, **context},
        )
    )
    response = HTMLResponse(html, status)
    # Asked for anew when followed or reloaded; going back shows what was there, marks and all.
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Vary"] = "Accept, Cookie"
    response.headers.update(headers or {})
    if status < 400:
        remember(response, request, visitor)
    return response


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.search.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "number": _number,
        "percent": _percent,
        "moment": _moment,
        "day": _day,
        "one_line": _one_line,
        "breakable": breakable,
        "sentences": sentences,
        "whole_symbol": whole_symbol,
        "part": part,
    }
    environment.filters.update(filters)
    functions: dict[str, Any] = {
        "static": _static_address,
        "query_link": query_link,
        "opening_link": opening_link,
        "scripts": SCRIPTS,
    }
    environment.globals.update(functions)
    return environment


_PART = re.compile(r"@([0-9]+)$")


def breakable(text: str) -> Markup:
    """A path or a name, to be broken where a reader would: before a dot, after a slash or underscore."""
    return Markup(re.sub(r"(?<=[^/._])(?=\.)|(?<=[/_])(?=[^/._])", "<wbr>", str(escape(text))))


def sentences(text: str) -> Markup:
    """What a message says, its `commands` as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def whole_symbol(symbol: str) -> str:
    """The name of the definition: a long one is cut into snippets, of which the third is called `name@3`."""
    return _PART.sub("", symbol)


def part(symbol: str) -> str:
    """Which part of a long definition a snippet is, as ", part 3"; nothing for the first or only one."""
    found = _PART.search(symbol)
    return f", part {found[1]}" if found else ""


def _one_line(text: str) -> str:
    # A box of one line drops line ends, and would join the words around them.
    return " ".join(text.splitlines())


def _static_address(name: str) -> str:
    return f"/static/{static_version()}/{name}"


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _percent(value: float) -> str:
    # Always one place: in a column the points stand under one another.
    return f"{value:.1%}"


def _moment(value: datetime, zone: ZoneInfo) -> str:
    return value.astimezone(zone).strftime("%Y-%m-%d %H:%M")


def _day(value: date) -> str:
    return f"{value.day} {value:%b}"
