"""Every error in one shape: a sentence, what to do, and the fields it is about."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import Request

from pipeline.errors import BadInputError, HoneloopError, UnavailableError
from pipeline.search.api.negotiation import prefers_html
from pipeline.search.api.schemas import ErrorOut, FieldProblem

RETRY_SECONDS = 2
TRACEBACK_VARIABLE = "HONELOOP_TRACEBACK"  # as on the command line

ErrorPage = Callable[[Request, int, ErrorOut], Response]

_log = logging.getLogger(__name__)


class RefusedError(HoneloopError):
    """A request that is refused with a status of its own."""

    def __init__(
        self, status: int, message: str, *, hint: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.headers = headers or {}


def install(app: FastAPI) -> None:
    """Makes every error of the app an `ErrorOut`, or the page that `app.state.error_page` makes of it."""
    app.add_exception_handler(RequestValidationError, _handler(_invalid))
    app.add_exception_handler(HTTPException, _handler(http))
    app.add_exception_handler(HoneloopError, _handler(_known))


def respond(request: Request, status: int, body: ErrorOut, headers: dict[str, str] | None = None) -> Response:
    """The error as a browser or a program wants it."""
    page: ErrorPage | None = request.app.state.error_page
    if page is not None and prefers_html(request):
        response = page(request, status, body)
    else:
        response = JSONResponse(body.model_dump(), status)
    response.headers.update(headers or {})
    return response


def failed(request: Request, error: HoneloopError) -> Response:
    """The response to an error that says itself what is the matter."""
    if isinstance(error, RefusedError):
        return respond(request, error.status, _body(error), error.headers)
    if isinstance(error, BadInputError):
        return respond(request, 422, _body(error))
    if isinstance(error, UnavailableError):
        return respond(request, 503, _body(error), {"Retry-After": str(RETRY_SECONDS)})
    # A model that cannot be loaded, say: the sentence is for whoever runs the service.
    _log.error("%s", error)
    return respond(request, 503, _body(error), {"Retry-After": str(RETRY_SECONDS)})


def unexpected(request: Request, error: Exception) -> Response:
    """Says nothing of what went wrong but a number under which it is in the log.

    The log has the kind of error and where it was raised; its message may quote what somebody searched for,
    and is there only with HONELOOP_TRACEBACK=1.
    """
    number = uuid4().hex[:12]
    where = "".join(traceback.format_tb(error.__traceback__))
    said = f": {error}" if os.environ.get(TRACEBACK_VARIABLE) else ""
    _log.error("error %s: %s%s\n%s", number, type(error).__name__, said, where)
    body = ErrorOut(
        error="Something unexpected went wrong.",
        hint=f"It is in the service's log as error {number}; that is worth a bug report.",
    )
    return respond(request, 500, body)


def _handler(respond_to: Callable[[Request, Any], Response]) -> Any:
    # Coroutines: the framework would run plain functions in its own threads.
    async def handle(request: Request, error: Exception) -> Response:
        return respond_to(request, error)

    return handle


def _known(request: Request, error: HoneloopError) -> Response:
    return failed(request, error)


def http(request: Request, error: HTTPException) -> Response:
    """The response to what the framework itself refuses."""
    if error.status_code == 400:
        # What the framework says of a body whose bytes are no text, or that is nested without end.
        problem = FieldProblem(field="body", problem="It is not JSON in UTF-8, or nested too deeply")
        body = ErrorOut(
            error="body cannot be used as sent.", hint=f"body: {problem.problem}.", fields=[problem]
        )
        return respond(request, 422, body)
    if error.status_code == 404:
        body = ErrorOut(error="There is nothing at this address.", hint="/openapi.json lists what there is.")
    elif error.status_code == 405:
        body = ErrorOut(error=f"{request.method} is not possible here.", hint="See /openapi.json.")
    else:
        body = ErrorOut(error=f"{error.detail or HTTPStatus(error.status_code).phrase}.".replace("..", "."))
    return respond(request, error.status_code, body, dict(error.headers or {}))


def _invalid(request: Request, error: RequestValidationError) -> Response:
    problems = [_problem(each) for each in _telling(error.errors())]
    unique = list({(each.field, each.problem): each for each in problems}.values())
    names = list(dict.fromkeys(each.field for each in unique))
    return respond(
        request,
        422,
        ErrorOut(
            error=f"{_listed(names)} cannot be used as sent.",
            hint="; ".join(f"{each.field}: {each.problem.rstrip('.')}" for each in unique[:5]) + ".",
            fields=unique,
        ),
    )


def _telling(errors: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what is said of the other form, where a field takes one value or a list of them."""
    telling = [
        error
        for error in errors
        if not (error["type"] == "list_type" and isinstance(error["input"], str))
        and not (error["type"] in {"string_type", "literal_error"} and isinstance(error["input"], list))
    ]
    return telling or list(errors)


def _problem(error: dict[str, Any]) -> FieldProblem:
    location = list(error["loc"])
    if error["type"] == "json_invalid":
        return FieldProblem(field="body", problem=f"It is not valid JSON: {error['ctx']['error']}")
    # Of a choice of forms, the names of the forms say nothing to whoever sent it.
    named = [
        str(part)
        for at, part in enumerate(location)
        if at > 0 and (isinstance(part, int) or part.isidentifier()) and part not in {"str", "list"}
    ]
    return FieldProblem(
        field=".".join(named) or str(location[0]), problem=str(error["msg"]).removeprefix("Value error, ")
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _body(error: HoneloopError) -> ErrorOut:
    wrong = error.field if isinstance(error, BadInputError) else ""
    fields = [FieldProblem(field=wrong, problem=error.message)] if wrong else []
    return ErrorOut(error=error.message, hint=error.hint, fields=fields)
