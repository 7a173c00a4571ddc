"""What the insights are made of: the figures of a period, per day, rank, query, snippet and model version."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from pipeline.evaluation.online import OnlineComparison


@dataclass(frozen=True)
class Latency:
    """Percentiles of one day's searches, in milliseconds, over `searches` of them."""

    searches: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Judgements:
    """What people did in one day. A change of mind counts once, as what was said last.

    Attributes:
        opened: Results opened, each once per search and person.
        copied: Likewise copied.
        accepted: Likewise accepted, as the last word on them.
        rejected: Likewise rejected.
    """

    opened: int = 0
    copied: int = 0
    accepted: int = 0
    rejected: int = 0

    @property
    def acceptance(self) -> float | None:
        """Share of the accepted among the judged; None if nothing was judged."""
        judged = self.accepted + self.rejected
        return self.accepted / judged if judged else None


@dataclass(frozen=True)
class RankCount:
    """What became of the results shown at one rank: how many were opened, copied, accepted, rejected."""

    rank: int
    shown: int
    opened: int
    copied: int
    accepted: int
    rejected: int

    @property
    def click_through(self) -> float:
        """Share opened, 0 to 1."""
        return self.opened / self.shown

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of `click_through`."""
        return wilson(self.opened, self.shown)


@dataclass(frozen=True)
class UnmetQuery:
    """A query after which nobody accepted, opened or copied anything that they did not also reject.

    Attributes:
        query: As it was spelt last; spellings that differ in nothing that matters are one query.
        searches: How often it was asked.
        people: By how many known people.
        rejected: How many of its results were rejected.
        shown: How many results its last search showed.
        clients: Through what it was asked.
        last_at: When last.
        asked: The filters of that last time, as `SearchRequest.asked` gives them.
    """

    query: str
    searches: int
    people: int
    rejected: int
    shown: int
    clients: tuple[str, ...]
    last_at: datetime
    asked: dict[str, Any]


@dataclass(frozen=True)
class AcceptedSnippet:
    """A text that people accepted, at the place where that happened, and how often, by how many people."""

    snippet_id: int
    repository: str
    path: str
    symbol: str
    start_line: int
    times: int
    people: int
    vanished: bool


@dataclass(frozen=True)
class ModelFigures:
    """A model version, its last evaluation, and when its indexes served.

    Attributes:
        metrics: Per metric mean, lower and upper end of the 95% interval; empty if never evaluated.
        queries: Test queries of that evaluation; 0 if there is none.
        test_set: Its fingerprint; figures of two test sets cannot be compared.
        served: From when to when; None for the end: it still does.
    """

    version: str
    name: str
    state: str
    is_base: bool
    created_at: datetime
    metrics: dict[str, tuple[float, float, float]]
    queries: int
    test_set: str | None
    served: tuple[tuple[datetime, datetime | None], ...]


@dataclass(frozen=True)
class ComparedOnline:
    """What interleaved searches say of two models, and what the gate decided last on the same two.

    Attributes:
        online: The two, and what people chose.
        offline: The gate's decision; None: it was not asked about these two.
    """

    online: OnlineComparison
    offline: str | None


@dataclass(frozen=True)
class Insights:
    """All figures of one period, read in one snapshot of the database.

    Attributes:
        days: Its days, the oldest first, today last; those without a search as well.
        searches: Per day and client.
        latency: Per day with searches.
        judgements: Per day with any.
        people: Known people who searched.
        newest: Searches that `by_rank`, `satisfied`, `answered` and `unmet` are about: all, or the newest.
        satisfied: Of these, the ones that somebody was satisfied with.
        answered: Of these, the ones with any feedback.
    """

    days: tuple[date, ...]
    searches: dict[date, dict[str, int]]
    latency: dict[date, Latency]
    judgements: dict[date, Judgements]
    people: int
    newest: int
    satisfied: int
    answered: int
    by_rank: tuple[RankCount, ...]
    unmet: tuple[UnmetQuery, ...]
    accepted: tuple[AcceptedSnippet, ...]
    models: tuple[ModelFigures, ...]
    compared: tuple[ComparedOnline, ...]

    @property
    def total_searches(self) -> int:
        """Searches of the period."""
        return sum(sum(clients.values()) for clients in self.searches.values())

    @property
    def total_judgements(self) -> Judgements:
        """What people did in the period."""
        days = self.judgements.values()
        return Judgements(
            sum(day.opened for day in days),
            sum(day.copied for day in days),
            sum(day.accepted for day in days),
            sum(day.rejected for day in days),
        )


def wilson(successes: int, of: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson 1927, JASA 22, 209–212): good for few observations, too."""
    z = 1.959964
    share = successes / of
    centre = share + z * z / (2 * of)
    spread = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    scale = 1 + z * z / of
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
