"""What a search gave: the snippets shown, in order, and by which model and index."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.evaluation.interleaving import Team
from pipeline.search.nearest import Near
from pipeline.search.places import Found, Place

# What pipeline/corpus/cutting.py adds to the symbol of each further part of a long definition.
_PART = re.compile(r"@[0-9]+$")


@dataclass(frozen=True)
class SearchResult:
    """One snippet shown. `score` is the cosine similarity to the query, from -1 to 1; `rank` is from 1.

    Where more than meaning counts, `rank` follows all of it, and `score` is the cosine all the same.

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

    @property
    def definition(self) -> tuple[str, str, str]:
        """What all parts of a long definition share: repository, path, name."""
        return self.repository, self.path, _PART.sub("", self.symbol)


@dataclass(frozen=True)
class SearchTimes:
    """What the parts of one answer took, in ms; the rest of `latency_ms` is waiting for what serves.

    `encode`: from the query to its vector, waiting for a batch and for the cache included. `search`: names of
    filters looked up, texts found and put in order. `fetch`: their places and their code. `candidate`: what
    the other model of an interleaved search took beyond these; 0 for any other search.
    """

    encode_ms: float = 0.0
    search_ms: float = 0.0
    fetch_ms: float = 0.0
    candidate_ms: float = 0.0


# Why a search that was to be interleaved was answered by what serves alone: no challenger is chosen, or it
# has no index; its model is not loaded; it took too long; one of the two indexes lacks a text that the other
# one shows; something failed.
Alone = Literal["no challenger", "not loaded", "slow", "stale", "failed"]


@dataclass(frozen=True)
class Interleaved:
    """Whose pick each result of an interleaved search was, by snippet id; None: it was left over."""

    candidate_version: str
    teams: Mapping[int, Team | None]


@dataclass(frozen=True)
class SearchAnswer:
    """What a search gave. `search_id` is what feedback refers to; None when it was not recorded.

    `interleaved` is set where two models' results stand in it, `alone` where they were to and do not. The
    versions and scores are those of what serves in any case.
    """

    search_id: str | None
    query: str
    model_version: str
    index_version_id: int
    latency_ms: float
    results: tuple[SearchResult, ...]
    times: SearchTimes = SearchTimes()
    interleaved: Interleaved | None = None
    alone: Alone | None = None


def ranked(near: Sequence[Near], places: Mapping[bytes, Found], k: int) -> tuple[SearchResult, ...]:
    """The first k texts that have a place, best first; equal ones by repository, path and line.

    Of a long definition that was cut into parts (`f`, `f@2`, `f@3`) only the best one is shown. Fewer than k
    where such parts take the places of `near`.
    """
    found = [(each, places[each.content_hash]) for each in near if each.content_hash in places]
    found.sort(key=lambda pair: (-pair[0].order, pair[1].repository, pair[1].path, pair[1].start_line))
    shown: dict[tuple[str, str, str], tuple[Near, Found]] = {}
    for each, place in found:
        shown.setdefault((place.repository, place.path, _PART.sub("", place.symbol)), (each, place))
    return tuple(
        SearchResult(
            rank,
            each.score,
            place.snippet_id,
            place.repository,
            place.path,
            place.symbol,
            place.kind,
            place.language,
            place.start_line,
            place.end_line,
            place.code,
            place.also_at,
            place.places,
        )
        for rank, (each, place) in enumerate(list(shown.values())[:k], start=1)
    )
