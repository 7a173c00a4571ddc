"""Charts as SVG without a style of their own: every shape has a class, and the stylesheet has the colours.

Lengths are SVG units, of which a chart is `WIDTH` wide. What a shape stands for is its `<title>`, shown on
pointing at it; a table beside each chart has the same figures for everybody else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 720
HEIGHT = 220
AXIS, TOP, BOTTOM = 62, 10, 26
PAST_AXIS = 12
TICKS = 4
MOST_LABELS = 10

Format = Callable[[float], str]


@dataclass(frozen=True)
class Series:
    """One thing that is drawn: a value per place on the axis, None where there is none.

    Attributes:
        intervals: Lower and upper end per value, drawn as whiskers; empty for none.
    """

    name: str
    values: tuple[float | None, ...]
    intervals: tuple[tuple[float, float] | None, ...] = ()


def whole(value: float) -> str:
    """A count: 12,345."""
    return f"{value:,.0f}"


def percent(value: float) -> str:
    """A share: 12.3%."""
    return f"{value * 100:.1f}".removesuffix(".0") + "%"


def milliseconds(value: float) -> str:
    """A time: 12 ms."""
    return f"{value:,.1f} ms" if 0 < value < 10 else f"{value:,.0f} ms"


def three_places(value: float) -> str:
    """A metric: 0.534."""
    return f"{value:.3f}"


def stacked_columns(
    title: str, labels: Sequence[str], series: Sequence[Series], form: Format = whole
) -> Markup:
    """Columns, one per label, of the series on top of one another."""
    totals = [sum(each.values[at] or 0 for each in series) for at in range(len(labels))]
    axes = _Axes(labels, max(totals, default=0), form, latest=True)
    parts: list[Markup] = []
    width = max(1.5, axes.step * 0.72)
    for at, label in enumerate(labels):
        base = 0.0
        for number, each in enumerate(series):
            value = each.values[at] or 0
            if value:
                top, bottom = axes.y(base + value), axes.y(base)
                parts.append(
                    Markup(
                        '<rect class="s{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
                    ).format(
                        number,
                        _n(axes.x(at) - width / 2),
                        _n(top),
                        _n(width),
                        _n(bottom - top),
                        f"{label}, {each.name}: {form(value)}",
                    )
                )
            base += value
    return axes.drawn(title, parts)


def lines(title: str, labels: Sequence[str], series: Sequence[Series], form: Format) -> Markup:
    """A line per series, interrupted where there is no value."""
    highest = max((value for each in series for value in each.values if value is not None), default=0)
    axes = _Axes(labels, highest, form, latest=True)
    parts: list[Markup] = []
    for number, each in enumerate(series):
        for run in _runs(each.values):
            if len(run) > 1:
                points = " ".join(f"{_n(axes.x(at))},{_n(axes.y(value))}" for at, value in run)
                parts.append(Markup('<polyline class="line s{}" points="{}"/>').format(number, points))
            for at, value in run:
                said = f"{labels[at]}, {each.name}: {form(value)}"
                parts.append(_dot(number, axes.x(at), axes.y(value), said))
    return axes.drawn(title, parts)


def dots(
    title: str,
    labels: Sequence[str],
    series: Sequence[Series],
    form: Format,
    *,
    highest: float | None = None,
    latest: bool = False,
) -> Markup:
    """A dot per label and series, side by side, with its interval as a whisker.

    Args:
        title: What it shows, for whoever cannot see it.
        labels: Of the places, from left to right.
        series: What is drawn.
        form: How a value is written.
        highest: The end of the axis; None: the highest value or end of an interval.
        latest: The last place is the one that people look for.
    """
    ends = [
        end
        for each in series
        for value, interval in zip(each.values, each.intervals or (None,) * len(each.values), strict=True)
        if value is not None
        for end in (value, *(interval or ()))
    ]
    axes = _Axes(labels, highest if highest is not None else max(ends, default=0), form, latest=latest)
    parts: list[Markup] = []
    apart = min(16.0, axes.step / (len(series) + 1))
    for number, each in enumerate(series):
        shift = (number - (len(series) - 1) / 2) * apart
        for at, value in enumerate(each.values):
            if value is None:
                continue
            x, said = axes.x(at) + shift, f"{labels[at]}, {each.name}: {form(value)}"
            interval = each.intervals[at] if each.intervals else None
            if interval is not None:
                low, high = interval
                said += f" (95% interval {form(low)} to {form(high)})"
                parts.append(
                    Markup('<line class="whisker s{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                        number, _n(x), _n(x), _n(axes.y(low)), _n(axes.y(high))
                    )
                )
            parts.append(_dot(number, x, axes.y(value), said, radius=4.5))
    return axes.drawn(title, parts)


class _Axes:
    """Where a place and a value are drawn, and the grid behind them.

    The axis stands beside what is looked for: on the right if that is the latest. On a screen narrower than
    the chart, which is moved sideways, both are in sight.
    """

    def __init__(self, labels: Sequence[str], highest: float, form: Format, *, latest: bool = False) -> None:
        self.latest = latest
        self.left, self.right = (PAST_AXIS, AXIS) if latest else (AXIS, PAST_AXIS)
        self.labels = labels
        self.form = form
        self.tick = _nice(highest / TICKS, whole_numbers=form is whole)
        self.top = self.tick * max(1, math.ceil(highest / self.tick - 1e-9))
        self.step = (WIDTH - self.left - self.right) / max(1, len(labels))

    def x(self, at: int) -> float:
        return self.left + (at + 0.5) * self.step

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - min(value, self.top) / self.top * (HEIGHT - TOP - BOTTOM)

    def drawn(self, title: str, parts: Sequence[Markup]) -> Markup:
        grid: list[Markup] = []
        for number in range(round(self.top / self.tick) + 1):
            y = _n(self.y(number * self.tick))
            grid.append(
                Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                    self.left, WIDTH - self.right, y, y
                )
            )
            grid.append(
                Markup('<text class="tick" x="{}" y="{}" text-anchor="{}" dy="4">{}</text>').format(
                    WIDTH - self.right + 7 if self.latest else self.left - 7,
                    y,
                    "start" if self.latest else "end",
                    self.form(number * self.tick),
                )
            )
        every = math.ceil(len(self.labels) / MOST_LABELS)
        for at, label in enumerate(self.labels):
            # Counted from the end: the last day is the one that people look for.
            if (len(self.labels) - 1 - at) % every == 0:
                grid.append(
                    Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                        _n(self.x(at)), HEIGHT - 8, label
                    )
                )
        return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            WIDTH, HEIGHT, title, Markup("").join([*grid, *parts])
        )


def _dot(number: int, x: float, y: float, said: str, radius: float = 3) -> Markup:
    return Markup('<circle class="dot s{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
        number, _n(x), _n(y), _n(radius), escape(said)
    )


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """The stretches without a gap: (place, value) each."""
    found: list[list[tuple[int, float]]] = [[]]
    for at, value in enumerate(values):
        if value is None:
            found.append([])
        else:
            found[-1].append((at, value))
    return [run for run in found if run]


def _nice(step: float, *, whole_numbers: bool) -> float:
    """The least of 1, 2, 2.5 and 5 times a power of ten that is not below `step`."""
    if step <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(step))
    nice = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * (1 - 1e-9))
    return max(1.0, math.ceil(nice)) if whole_numbers else nice


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
