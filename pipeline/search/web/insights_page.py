"""The page of insights: figures as charts, with the same figures as tables beside them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from pipeline.config import Settings
from pipeline.errors import BadInputError
from pipeline.search.api.negotiation import prefers_html
from pipeline.search.engine import SearchEngine
from pipeline.search.insights import CHART_METRICS, PERIODS, read_insights
from pipeline.search.insights_figures import Insights, Judgements, ModelFigures, RankCount
from pipeline.search.web.charts import (
    Series,
    dots,
    lines,
    milliseconds,
    percent,
    stacked_columns,
    three_places,
)
from pipeline.search.web.rendering import render
from pipeline.search.web.snippet_page import repeated

DEFAULT_DAYS = 30
# Figures are kept for so many times as long as it took to read them: reloading, by however many, then takes
# the database a twentieth of the time at the most.
KEPT_TIMES = 20
METRIC_TITLES = {"ndcg@10": "nDCG@10", "mrr@10": "MRR@10", "recall@10": "Recall@10"}


class InsightsKeeper:
    """The figures per period, each kept for a while; one request at a time reads them."""

    def __init__(self, engine: SearchEngine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._lock = threading.Lock()
        self._read: dict[int, tuple[float, datetime, Insights]] = {}

    def get(self, days: int) -> tuple[Insights, datetime]:
        """The figures, and when they were read.

        Raises:
            BadInputError: no such period.
            UnavailableError: the database is away.
        """
        with self._lock:
            known = self._read.get(days)
            if known is None or time.monotonic() >= known[0]:
                now, started = datetime.now(UTC), time.monotonic()
                figures = self._engine.read(
                    lambda connection: read_insights(connection, days, self._settings, now)
                )
                read = time.monotonic()
                known = self._read[days] = (read + KEPT_TIMES * (read - started), now, figures)
            return known[2], known[1]


@dataclass(frozen=True)
class Unmet:
    """A query nobody was satisfied with, and the address that asks it again."""

    query: Any
    link: str


def insights_page(request: Request, keeper: InsightsKeeper) -> HTMLResponse:
    """The page over the period that the address names.

    Raises:
        BadInputError: there is no such period, and a program asks; people are told beside those there are.
    """
    try:
        days = _days(request.query_params.get("days", ""))
        figures, at = keeper.get(days)
    except BadInputError as error:
        if not prefers_html(request):
            raise
        return render(request, "insights.html", status=422, problem=error, periods=PERIODS, days=None)
    clients = sorted({client for each in figures.searches.values() for client in each})
    total = figures.total_judgements
    return render(
        request,
        "insights.html",
        problem=None,
        figures=figures,
        total=total,
        at=at,
        days=days,
        periods=PERIODS,
        clients=clients,
        searches_chart=_searches_chart(figures, clients),
        ranks_chart=_ranks_chart(figures.by_rank),
        judgements_chart=_judgements_chart(figures),
        latency_chart=_latency_chart(figures),
        models_chart=_models_chart(figures.models),
        unmet=[Unmet(each, repeated(each.query, each.asked)) for each in figures.unmet],
        models=list(reversed(figures.models)),
        metrics=[(metric, METRIC_TITLES[metric]) for metric in CHART_METRICS],
        test_sets=sorted({model.test_set[:8] for model in figures.models if model.test_set}),
        no_judgements=Judgements(),
    )


def _days(text: str) -> int:
    try:
        return int(text or DEFAULT_DAYS)
    except ValueError:
        raise BadInputError(
            f"{text[:20]!r} is no number of days.",
            hint=f"Choose {', '.join(map(str, PERIODS))}.",
            field="days",
        ) from None


def _labels(figures: Insights) -> list[str]:
    return [f"{day.day} {day:%b}" for day in figures.days]


def _searches_chart(figures: Insights, clients: Sequence[str]) -> Markup:
    series = [
        Series(client, tuple(figures.searches.get(day, {}).get(client, 0) for day in figures.days))
        for client in clients
    ]
    return stacked_columns("Searches per day", _labels(figures), series)


def _ranks_chart(ranks: Sequence[RankCount]) -> Markup:
    series = Series(
        "opened", tuple(each.click_through for each in ranks), tuple(each.interval for each in ranks)
    )
    return dots("Share of results opened, by rank", [str(each.rank) for each in ranks], [series], percent)


def _judgements_chart(figures: Insights) -> Markup:
    days = [figures.judgements.get(day, Judgements()) for day in figures.days]
    series = [
        Series("opened", tuple(day.opened for day in days)),
        Series("rejected", tuple(day.rejected for day in days)),
        Series("accepted", tuple(day.accepted for day in days)),
        Series("copied", tuple(day.copied for day in days)),
    ]
    return stacked_columns("Judgements per day", _labels(figures), series)


def _latency_chart(figures: Insights) -> Markup:
    days = [figures.latency.get(day) for day in figures.days]
    series = [
        Series("p50", tuple(None if day is None else day.p50 for day in days)),
        Series("p95", tuple(None if day is None else day.p95 for day in days)),
        Series("p99", tuple(None if day is None else day.p99 for day in days)),
    ]
    return lines("Latency per day", _labels(figures), series, milliseconds)


def _models_chart(models: Sequence[ModelFigures]) -> Markup:
    measured = [model for model in models if model.metrics]
    series: list[Series] = []
    for metric in CHART_METRICS:
        found = [model.metrics.get(metric) for model in measured]
        series.append(
            Series(
                METRIC_TITLES[metric],
                tuple(None if each is None else each[0] for each in found),
                tuple(None if each is None else (each[1], each[2]) for each in found),
            )
        )
    return dots(
        "Metrics by model version, with 95% intervals",
        [model.version[:8] for model in measured],
        series,
        three_places,
        highest=1.0,
        latest=True,
    )
