"""What a search gave: the snippets shown, in order, and by which model and index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.search.nearest import Near
from pipeline.search.places import Found, Place


@dataclass(frozen=True)
class SearchResult:
    """One snippet shown. `score` is the cosine similarity to the query, from -1 to 1; `rank` is from 1.

    `also_at` lists other live snippets with the same text (at most 50), `places` counts all of them.
    """

    rank: int
    score: float
    snippet_id: int
    repository: str
    path: str
    symbol: str
    kind: str
    language: str
    start_line: int
    end_line: int
    code: str
    also_at: tuple[Place, ...]
    places: int


@dataclass(frozen=True)
class SearchAnswer:
    """What a search gave. `search_id` is what feedback refers to; None when it was not recorded."""

    search_id: str | None
    query: str
    model_version: str
    index_version_id: int
    latency_ms: float
    results: tuple[SearchResult, ...]


def ranked(near: Sequence[Near], places: Mapping[bytes, Found], k: int) -> tuple[SearchResult, ...]:
    """The first k texts that have a place, best first; equal scores by repository, path and line."""
    shown = [(each.score, places[each.content_hash]) for each in near if each.content_hash in places]
    shown.sort(key=lambda pair: (-pair[0], pair[1].repository, pair[1].path, pair[1].start_line))
    return tuple(
        SearchResult(
            rank,
            score,
            found.snippet_id,
            found.repository,
            found.path,
            found.symbol,
            found.kind,
            found.language,
            found.start_line,
            found.end_line,
            found.code,
            found.also_at,
            found.places,
        )
        for rank, (score, found) in enumerate(shown[:k], start=1)
    )
