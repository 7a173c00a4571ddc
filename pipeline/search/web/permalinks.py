"""A search as an address, and back: everything that was asked stands in it."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from pipeline.errors import BadInputError
from pipeline.search.request import SearchRequest

DEFAULT_K = 10
# A page of more is slow to draw and nobody reads it.
MAX_PAGE_K = 100


def request_of(parameters: QueryParams, user: str) -> SearchRequest:
    """The search an address names; the query is empty if it names none. Not yet checked.

    Raises:
        BadInputError: `k` is no number, or more than a page shows.
    """
    return replace(without_k(parameters, user), k=_k(parameters.get("k", "")))


def without_k(parameters: QueryParams, user: str) -> SearchRequest:
    """The same, but with as many results as a page shows when nothing is said, whatever is said."""
    return SearchRequest(
        parameters.get("q", ""),
        DEFAULT_K,
        languages=_all(parameters, "language"),
        sources=_all(parameters, "source"),
        kinds=_all(parameters, "kind"),
        path=parameters.get("path", "").strip() or None,
        user=user,
        client="web",
    )


def permalink(request: SearchRequest) -> str:
    """The path and query that `request_of` reads back; what is not set is left out."""
    parts = [("q", request.query)]
    parts += [("language", name) for name in request.languages]
    parts += [("source", name) for name in request.sources]
    parts += [("kind", name) for name in request.kinds]
    if request.path is not None:
        parts.append(("path", request.path))
    if request.k != DEFAULT_K:
        parts.append(("k", str(request.k)))
    return f"/search?{urlencode(parts)}"


def query_link(query: str) -> str:
    """The address that asks `query` with no filters."""
    return permalink(SearchRequest(query))


def opening_link(search_id: str | None, snippet_id: int) -> str:
    """The address that opens a result, and records that it was opened if the search was recorded."""
    return f"/snippets/{snippet_id}" if search_id is None else f"/open/{search_id}/{snippet_id}"


def snippet_link(snippet_id: int, search_id: str) -> str:
    """The page of a snippet, where it can be judged as a result of that search."""
    return f"/snippets/{snippet_id}?search={search_id}"


def _all(parameters: QueryParams, name: str) -> tuple[str, ...]:
    # A form sends its empty fields, too, and a name given twice is no other search.
    return tuple(dict.fromkeys(value.strip() for value in parameters.getlist(name) if value.strip()))


def _k(text: str) -> int:
    if not text.strip():
        return DEFAULT_K
    try:
        k = int(text)
    except ValueError:
        raise BadInputError(
            f"{text[:20]!r} is no number of results.", hint="Give k as a whole number.", field="k"
        ) from None
    if not 1 <= k <= MAX_PAGE_K:
        raise BadInputError(
            f"k is {k}; a page shows from 1 to {MAX_PAGE_K} results.",
            hint="Ask more precisely, or use a filter, rather than read on.",
            field="k",
        )
    return k
