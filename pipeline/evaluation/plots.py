"""Pictures of a training run and of evaluations, as PNG bytes.

Figures are made and drawn without pyplot: it keeps global state, and Dagster runs steps side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluation.metrics import METRICS
from pipeline.evaluation.report import Named, merged, title_of
from pipeline.training.validation import VALIDATION_LOSS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = (8.0, 4.0)  # inches, at 100 dots each
_COLOURS = ("#8a8f98", "#3b6ea8", "#d98e04")
_AXIS_COLUMNS = frozenset({"step", "epoch", "loss", VALIDATION_LOSS, "learning_rate", "gradient_norm"})


def training_curve(history: Sequence[Mapping[str, Any]], overfitting_since: Sequence[int] = ()) -> bytes:
    """The loss step by step, and whatever was validated, over the steps of a training run.

    Args:
        history: Rows with "step" and, of an optimiser step, "loss"; of a validation, metrics by name.
        overfitting_since: Steps to mark, from which on the model learned by heart.

    Raises:
        ValueError: no row has a loss.
    """
    losses = [(row["step"], row["loss"]) for row in history if "loss" in row]
    if not losses:
        raise ValueError("a training curve needs at least one step with a loss")
    figure, axes = _figure()
    axes.plot([s for s, _ in losses], [v for _, v in losses], color=_COLOURS[1], alpha=0.35, linewidth=1)
    window = max(1, len(losses) // 20)
    smooth = np.convolve([v for _, v in losses], np.ones(window) / window, mode="valid")
    axes.plot([s for s, _ in losses][window - 1 :], smooth, color=_COLOURS[1], linewidth=2, label="loss")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_ylim(bottom=0)
    validated = [row for row in history if "loss" not in row]
    held_out = [(row["step"], row[VALIDATION_LOSS]) for row in validated if VALIDATION_LOSS in row]
    if held_out:
        axes.plot(
            [s for s, _ in held_out],
            [v for _, v in held_out],
            color=_COLOURS[1],
            linestyle="--",
            marker="o",
            label="validation loss",
        )
    for number, step in enumerate(overfitting_since):
        axes.axvline(step, color="#b3261e", linestyle=":", label=None if number else "overfitting since")
    found = {name for row in validated for name, value in row.items() if isinstance(value, float)}
    names = sorted(found - _AXIS_COLUMNS)
    if names:
        right = axes.twinx()
        right.set_ylabel("validation")
        for name, style in zip(names, ("-", "--", ":", "-."), strict=False):
            points = [(row["step"], row[name]) for row in validated if name in row]
            right.plot(
                [s for s, _ in points],
                [v for _, v in points],
                linestyle=style,
                marker="o",
                color=_COLOURS[2],
                label=title_of(name),
            )
    return _png(figure)


def metric_bars(named: Named) -> bytes:
    """Every metric of every model as bars side by side, with their 95% intervals."""
    columns = merged(named)
    metrics = [m for m in METRICS if all(m in evaluation.overall for evaluation in columns.values())]
    figure, axes = _figure()
    width = 0.8 / len(columns)
    places = np.arange(len(metrics))
    for number, (title, evaluation) in enumerate(columns.items()):
        found = [evaluation.overall[metric] for metric in metrics]
        means = np.array([interval.mean for interval in found])
        # The percentile interval need not hold the mean of a very skewed sample; a bar's whisker must.
        below = np.maximum(0, means - [interval.low for interval in found])
        above = np.maximum(0, np.array([interval.high for interval in found]) - means)
        axes.bar(
            places + (number - (len(columns) - 1) / 2) * width,
            means,
            width * 0.92,
            yerr=[below, above],
            capsize=2,
            label=title,
            color=_COLOURS[number % len(_COLOURS)],
            error_kw={"elinewidth": 1, "ecolor": "#333333"},
        )
    axes.set_xticks(places, [title_of(metric) for metric in metrics], rotation=20, ha="right")
    axes.set_ylim(0, 1)
    return _png(figure)


def margins_histogram(named: Named) -> bytes:
    """How far each test triplet's positive stands above its negative, in cosine; below zero is a mistake.

    Raises:
        ValueError: no evaluation has a triplet.
    """
    columns = {title: e.margins for title, e in merged(named).items() if e.margins}
    if not columns:
        raise ValueError("a histogram of margins needs at least one test triplet")
    figure, axes = _figure()
    everything = np.concatenate([np.asarray(margins) for margins in columns.values()])
    edges = np.histogram_bin_edges(everything, bins=40)
    for number, (title, margins) in enumerate(columns.items()):
        axes.hist(
            margins,
            bins=edges.tolist(),
            histtype="step",
            linewidth=1.8,
            label=title,
            color=_COLOURS[number % len(_COLOURS)],
        )
    axes.axvline(0, color="#333333", linewidth=1, linestyle="--")
    axes.set_xlabel("cos(query, positive) − cos(query, negative)")
    axes.set_ylabel("test triplets")
    return _png(figure)


def _figure() -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    # Above the axes, where it covers nothing; a figure's legend gathers those of all its axes.
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
