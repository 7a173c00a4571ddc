"""The page of a search: the form, what was found, or why nothing could be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from pipeline.errors import BadInputError, HoneloopError, UnavailableError
from pipeline.search.api.errors import RETRY_SECONDS
from pipeline.search.api.schemas import ResultOut
from pipeline.search.api.service import Service
from pipeline.search.request import MAX_QUERY_CHARACTERS, SearchRequest
from pipeline.search.web.choices import Choice, ChoiceKeeper, Choices
from pipeline.search.web.highlighting import Line, highlighted
from pipeline.search.web.permalinks import DEFAULT_K, permalink, request_of, without_k
from pipeline.search.web.rendering import render
from pipeline.search.web.visitor import visitor_of

# As many lines as show what a function does; the rest is a click away.
SHOWN_LINES = 20
# Hiding less than this saves nothing.
LEAST_HIDDEN = 4
# Longer code is read on a page of its own.
MOST_LINES = 400
PAGE_SIZES = (5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Shown:
    """One result with its code as lines: those shown at once, and the rest, empty if they are all."""

    result: ResultOut
    lines: tuple[Line, ...]
    rest: tuple[Line, ...]
    beyond: int

    @classmethod
    def of(cls, result: ResultOut) -> Shown:
        """`result`, its code highlighted."""
        lines = highlighted(result.code, result.language, result.start_line)
        cut = SHOWN_LINES if len(lines) >= SHOWN_LINES + LEAST_HIDDEN else len(lines)
        return cls(result, lines[:cut], lines[cut:MOST_LINES], max(0, len(lines) - MOST_LINES))


def home_page(request: Request, choices: ChoiceKeeper) -> HTMLResponse:
    """The search box, and what could be asked. Without anything indexed it says how to begin."""
    asked = SearchRequest("", user=visitor_of(request).user, client="web")
    there, error = _choices(choices)
    return _rendered(request, asked, there, error=error, status=200 if error is None else 503)


def search_page(request: Request, service: Service, choices: ChoiceKeeper) -> HTMLResponse:
    """The answer to the search that the address names; an error is a sentence above the form."""
    there, error = _choices(choices)
    user = visitor_of(request).user
    asked = without_k(request.query_params, user)
    try:
        asked = request_of(request.query_params, user)
        if error is not None:
            raise error
        answer = service.search(asked)
    except HoneloopError as failure:
        status = 422 if isinstance(failure, BadInputError) else 503
        return _rendered(request, asked, there, error=failure, status=status)
    shown = [Shown.of(result) for result in answer.results]
    return _rendered(request, asked, there, answer=answer, shown=shown)


def _rendered(
    request: Request,
    asked: SearchRequest,
    choices: Choices,
    *,
    status: int = 200,
    error: HoneloopError | None = None,
    answer: Any = None,
    shown: Sequence[Shown] = (),
) -> HTMLResponse:
    headers = {"Retry-After": str(RETRY_SECONDS)} if isinstance(error, UnavailableError) else {}
    filtered = bool(asked.languages or asked.sources or asked.kinds or asked.path)
    return render(
        request,
        "search.html",
        status=status,
        headers=headers,
        asked=asked,
        menus=(
            ("language", "Language", _with_chosen(choices.languages, asked.languages), asked.languages),
            ("source", "Source", _with_chosen(choices.sources, asked.sources), asked.sources),
            ("kind", "Kind", _with_chosen(choices.kinds, asked.kinds), asked.kinds),
        ),
        choices=choices,
        page_sizes=sorted({*PAGE_SIZES, asked.k}),
        default_k=DEFAULT_K,
        most_characters=MAX_QUERY_CHARACTERS,
        link=permalink(asked),
        unfiltered=permalink(replace(asked, languages=(), sources=(), kinds=(), path=None)),
        filtered=filtered,
        error=error,
        wrong=error.field if isinstance(error, BadInputError) else "",
        answer=answer,
        shown=shown,
    )


def _choices(keeper: ChoiceKeeper) -> tuple[Choices, HoneloopError | None]:
    try:
        return keeper.get(), None
    except UnavailableError as error:
        return Choices(), error


def _with_chosen(there: Sequence[Choice], chosen: Sequence[str]) -> list[Choice]:
    """What there is, and what was asked for although it is not there, so that it can be unticked."""
    known = {choice.value for choice in there}
    return [*there, *(Choice(value, 0) for value in chosen if value not in known)]
