"""The addresses of the API, and what is said about each in its documentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer

from pipeline.errors import UnavailableError
from pipeline.search.api.health import health
from pipeline.search.api.metrics import CONTENT_TYPE
from pipeline.search.api.negotiation import prefers_html
from pipeline.search.api.schemas import (
    ErrorOut,
    FeedbackIn,
    FeedbackOut,
    HealthOut,
    SearchIn,
    SearchOut,
    SnippetOut,
)
from pipeline.search.api.service import Service
from pipeline.search.api.threads import Threads
from pipeline.search.snippets import MAX_ID

METRICS_SECONDS = 5.0

SnippetPage = Callable[[Request, SnippetOut], Response]

_PROBLEMS = {
    401: "The API token is missing or wrong.",
    403: "It came from another site's page, or to a name that is not this machine's.",
    404: "There is no such thing; the error says which.",
    410: "The search has expired; a new one can be judged.",
    413: "The body is too large.",
    422: "Something in it cannot be; `fields` says which field and why.",
    429: "Too many requests; `Retry-After` says when the next may come.",
    503: "Not now, but maybe in a while: the database is away, or nothing is indexed yet.",
}
# For the documentation: who may ask is decided in security.py, before a route is looked for.
_TOKEN = Security(HTTPBearer(auto_error=False, description="HONELOOP_API_TOKEN, if the service has one."))


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ErrorOut, "description": _PROBLEMS[status]} for status in statuses}


router = APIRouter()


def service_of(request: Request) -> Service:
    """The service of the app that answers."""
    return request.app.state.service


def threads_of(request: Request) -> Threads:
    """The threads of the app that answers."""
    return request.app.state.threads


@router.post(
    "/search",
    summary="Search the indexed code by meaning",
    dependencies=[_TOKEN],
    responses=_problems(401, 403, 413, 422, 429, 503),
)
async def search(asked: SearchIn, request: Request) -> SearchOut:
    """The nearest snippets, best first. What was shown is remembered, so that feedback can refer to it."""
    service = service_of(request)
    return await threads_of(request).run(lambda: service.search(asked.request()))


@router.post(
    "/feedback",
    summary="Say what you did with a result",
    dependencies=[_TOKEN],
    responses=_problems(401, 403, 404, 410, 413, 422, 429, 503),
)
async def feedback(given: FeedbackIn, request: Request) -> FeedbackOut:
    """Only about a snippet that the search really showed. Saying the same twice adds nothing."""
    service = service_of(request)
    return await threads_of(request).run(lambda: service.feedback(given))


@router.get(
    "/snippets/{snippet_id}",
    summary="One snippet, with every place it stands at",
    dependencies=[_TOKEN],
    response_model=SnippetOut,
    responses=_problems(401, 403, 404, 422, 429, 503),
)
async def snippet(
    snippet_id: Annotated[int, Path(ge=1, le=MAX_ID, description="As in a result.", examples=[1742])],
    request: Request,
) -> Response | SnippetOut:
    """JSON, unless `Accept` prefers HTML. A snippet that vanished from its file is shown and says so."""
    service = service_of(request)
    found = await threads_of(request).run(lambda: service.snippet(snippet_id))
    page: SnippetPage | None = request.app.state.snippet_page
    if page is not None and prefers_html(request):
        shown = page
        return await threads_of(request).run(lambda: shown(request, found))
    return found


@router.get(
    "/health",
    summary="Whether searches can be answered now",
    response_model=HealthOut,
    responses={**_problems(403, 429), 503: {"model": HealthOut, "description": "They cannot; it says why."}},
)
async def healthy(request: Request) -> Response:
    """Needs no token."""
    found = await health(service_of(request), threads_of(request))
    return JSONResponse(
        found.model_dump(),
        200 if found.status == "ok" else 503,
        {} if found.status == "ok" else {"Retry-After": "2"},
    )


@router.get(
    "/metrics",
    summary="Counts and latencies for Prometheus",
    dependencies=[_TOKEN],
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Text format 0.0.4."},
        **_problems(401, 403, 429, 503),
    },
)
async def metrics(request: Request) -> Response:
    """Requests by route and status, latencies, searches in flight, the queue, and what serves."""
    try:
        text = await threads_of(request).watch(service_of(request).metrics_text, METRICS_SECONDS)
    except TimeoutError as error:
        raise UnavailableError("The database does not answer.", hint="Try again in a moment.") from error
    return Response(text, media_type=CONTENT_TYPE)
