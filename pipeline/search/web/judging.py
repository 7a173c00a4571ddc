"""What a person says by a link or a button alone: that a result was opened, and that it fits or does not.

With its script the page says the same to the API, and both are one: saying it twice adds nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Path, Request, Response
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException

from pipeline.errors import HoneloopError, UnavailableError
from pipeline.search.api.routes import service_of, threads_of
from pipeline.search.api.schemas import FeedbackIn
from pipeline.search.api.security import from_own_page
from pipeline.search.snippets import MAX_ID
from pipeline.search.web.permalinks import snippet_link
from pipeline.search.web.visitor import remember, visitor_of


def judging_router() -> APIRouter:
    """GET /open/SEARCH/SNIPPET and POST /judge; both lead to the snippet's page."""
    router = APIRouter(include_in_schema=False)

    @router.get("/open/{search}/{snippet}")
    async def open_result(
        request: Request, search: UUID, snippet: Annotated[int, Path(ge=1, le=MAX_ID)]
    ) -> Response:
        """Where results link to: records that one was opened, and leads to its page.

        Only a link of this site's own page says that somebody opened what they were shown. Whoever else comes
        here sees the snippet, and nothing is recorded.
        """
        if "prefetch" in request.headers.get("sec-purpose", ""):
            raise HTTPException(503, "A result is not opened ahead of time")
        if not from_own_page(request):
            return RedirectResponse(f"/snippets/{snippet}", 303)
        service, visitor = service_of(request), visitor_of(request)
        given = FeedbackIn(search_id=search, snippet_id=snippet, judgement="click", user=visitor.user)
        target = snippet_link(snippet, str(search))
        try:
            await threads_of(request).run(lambda: service.feedback(given))
        except UnavailableError:
            pass  # the page says so, if the database is still away
        except HoneloopError:  # no such search, or it did not show this: the code is there all the same
            target = f"/snippets/{snippet}"
        response = RedirectResponse(target, 303)
        remember(response, request, visitor)
        return response

    @router.post("/judge")
    async def judge(
        request: Request,
        search: Annotated[UUID, Form()],
        snippet: Annotated[int, Form(ge=1, le=MAX_ID)],
        judgement: Annotated[Literal["accept", "reject"], Form()],
    ) -> Response:
        """What a button says without the script, which says it to the API. Leads to where it can be seen."""
        service, visitor = service_of(request), visitor_of(request)
        given = FeedbackIn(search_id=search, snippet_id=snippet, judgement=judgement, user=visitor.user)
        await threads_of(request).run(lambda: service.feedback(given))
        response = RedirectResponse(snippet_link(snippet, str(search)), 303)
        remember(response, request, visitor)
        return response

    _ = open_result, judge  # used by the router
    return router
