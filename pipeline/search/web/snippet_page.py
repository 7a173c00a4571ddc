"""The page of one snippet: all its code, where it stands, and what was said of it in a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from fastapi import Request
from fastapi.responses import HTMLResponse

from pipeline.search.api.schemas import SnippetOut
from pipeline.search.engine import SearchEngine
from pipeline.search.request import SearchRequest
from pipeline.search.web.highlighting import highlighted
from pipeline.search.web.permalinks import permalink
from pipeline.search.web.rendering import render
from pipeline.search.web.visitor import visitor_of
from pipeline.store.connections import Connection

# More places than a person reads; the API lists them.
PLACES = 100


@dataclass(frozen=True)
class ReachedFrom:
    """The search that led here.

    Attributes:
        search_id: What feedback refers to.
        link: The address that repeats it; None while it is not written to the database yet.
        verdict: What this person said of the snippet in it: accept, reject, or nothing so far.
    """

    search_id: str
    link: str | None
    verdict: str | None


def snippet_page(request: Request, snippet: SnippetOut) -> HTMLResponse:
    """The page. Feedback is possible when it was reached from a search that showed the snippet."""
    engine: SearchEngine = request.app.state.engine
    reached = reached_from(
        engine, request.query_params.get("search", ""), snippet.snippet_id, visitor_of(request).user
    )
    return render(
        request,
        "snippet.html",
        snippet=snippet,
        hosted=None if snippet.url.startswith("/") else snippet.url,
        lines=highlighted(snippet.code, snippet.language, snippet.start_line),
        also_at=snippet.also_at[:PLACES],
        reached=reached,
    )


def reached_from(engine: SearchEngine, search: str, snippet_id: int, user: str) -> ReachedFrom | None:
    """The search named in the address; None if none is, or if it did not show this snippet."""
    try:
        search_id = str(UUID(search))
    except ValueError:
        return None

    def read(connection: Connection) -> tuple[Any, Any]:
        known = connection.execute(
            "SELECT s.query, s.filters, i.snippet_id IS NOT NULL FROM searches s"
            " LEFT JOIN impressions i ON i.search_id = s.id AND i.snippet_id = %s WHERE s.id = %s",
            [snippet_id, search_id],
        ).fetchone()
        said = connection.execute(
            "SELECT f.judgement FROM feedback f JOIN searches s ON s.id = f.search_id"
            " WHERE f.search_id = %s AND f.snippet_id = %s AND f.judgement IN ('accept', 'reject')"
            " AND coalesce(f.user_name, s.user_name) = %s ORDER BY f.at DESC, f.id DESC LIMIT 1",
            [search_id, snippet_id, user],
        ).fetchone()
        return known, said

    known, said = engine.read_newest(read)
    if known is None:  # written in a moment; should it never be, feedback on it is refused with the reason
        return ReachedFrom(search_id, None, None)
    query, filters, shown = known
    if not shown:
        return None
    return ReachedFrom(search_id, repeated(query, filters), None if said is None else said[0])


def repeated(query: str, filters: dict[str, Any]) -> str:
    """The address that asks the same again, from what was recorded of a search."""
    return permalink(
        SearchRequest(
            query,
            min(int(filters.get("k", 10)), 100),
            tuple(filters.get("languages", ())),
            tuple(filters.get("sources", ())),
            tuple(filters.get("kinds", ())),
            filters.get("path"),
        )
    )
