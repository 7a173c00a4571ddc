"""The addresses of the web page, and the two hooks the API calls when a browser asks it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException

from pipeline.config import Settings
from pipeline.errors import BadInputError
from pipeline.search.api.negotiation import prefers_html
from pipeline.search.api.routes import service_of, threads_of
from pipeline.search.api.schemas import ErrorOut
from pipeline.search.api.security import own_path
from pipeline.search.engine import SearchEngine
from pipeline.search.web.choices import ChoiceKeeper
from pipeline.search.web.insights_page import InsightsKeeper, insights_page
from pipeline.search.web.judging import judging_router
from pipeline.search.web.rendering import MEDIA_TYPES, render, static_files, static_version
from pipeline.search.web.search_page import home_page, search_page
from pipeline.search.web.snippet_page import snippet_page
from pipeline.search.web.visitor import checked_name, remember, visitor_of

__all__ = ["error_page", "snippet_page", "web_router"]

FOREVER = "public, max-age=31536000, immutable"


def web_router(engine: SearchEngine, settings: Settings) -> APIRouter:
    """The pages: /, /search, /insights, /login, what they send, and what they load from /static/.

    Args:
        engine: The same that answers the API.
        settings: The time zone whose days are counted, and whether there is a token.
    """
    router = APIRouter(include_in_schema=False)
    router.include_router(judging_router())
    choices = ChoiceKeeper(engine)
    insights = InsightsKeeper(engine, settings)

    @router.get("/")
    async def home(request: Request) -> Response:
        return await threads_of(request).run(lambda: home_page(request, choices))

    @router.get("/search")
    async def search(request: Request) -> Response:
        if "q" not in request.query_params:
            return RedirectResponse("/", 303)
        # What a browser loads in case somebody may want it was not asked by anybody.
        if "prefetch" in request.headers.get("sec-purpose", ""):
            raise HTTPException(503, "A search is not made ahead of time")
        service = service_of(request)
        return await threads_of(request).run(lambda: search_page(request, service, choices))

    @router.get("/insights")
    async def figures(request: Request) -> Response:
        return await threads_of(request).run(lambda: insights_page(request, insights))

    @router.get("/login")
    async def login(request: Request) -> Response:
        target = own_path(request.query_params.get("next", "/"))
        if settings.api_token is None:
            return RedirectResponse(target, 303)
        wrong = "wrong" in request.query_params
        return render(request, "login.html", status=401 if wrong else 200, target=target, wrong=wrong)

    @router.post("/name")
    async def name(
        request: Request, name: Annotated[str, Form()] = "", next: Annotated[str, Form()] = "/"
    ) -> Response:
        target = own_path(next)
        try:
            visitor = visitor_of(request).named(checked_name(name))
        except BadInputError as error:
            if not prefers_html(request):
                raise
            return render(
                request, "name.html", status=422, name_problem=error, name_given=name[:1000], next=target
            )
        response = RedirectResponse(target, 303)
        remember(response, request, visitor)
        return response

    @router.get("/static/{version}/{name}")
    async def static(version: str, name: str) -> Response:
        """The version stands before the name, so that what a script imports has it, too."""
        if name not in MEDIA_TYPES:
            raise HTTPException(404)
        return Response(
            static_files()[name],
            media_type=MEDIA_TYPES[name],
            headers={"Cache-Control": FOREVER if version == static_version() else "no-cache"},
        )

    _ = home, search, figures, login, name, static  # used by the router
    return router


def error_page(request: Request, status: int, body: ErrorOut) -> Response:
    """An error as a page. It reads nothing from the database, which may be what failed."""
    return render(request, "error.html", status=status, problem=body, code=status)
