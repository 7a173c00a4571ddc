"""Evaluations as tables: for the terminal (rich), and as Markdown for Dagster's metadata.

`named` maps a role (base, serving, candidate) to its evaluation, all on one test set. Roles that one model
version holds together share a column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich import box
from rich.table import Table
from rich.text import Text

from pipeline.evaluation.compare import Comparison, Differences
from pipeline.evaluation.metrics import METRICS
from pipeline.evaluation.results import Evaluation, Means
from pipeline.evaluation.slices import DIMENSIONS
from pipeline.evaluation.statistics import Difference, Interval

Named = Mapping[str, Evaluation]

BETTER, WORSE, UNCLEAR = "▲", "▼", "·"
INTERVAL = "±: half of the 95% interval"
# Mining takes only negatives that the mining model ranks below the positive.
TRIPLETS = "Triplets: the model they were mined with is right on nearly all of them by construction"
LEGEND = f"{INTERVAL}   {BETTER} {WORSE}: beyond chance   {UNCLEAR}: may be chance\n{TRIPLETS}"
TITLES = {
    "map@10": "MAP@10",
    "mrr@10": "MRR@10",
    "ndcg@10": "nDCG@10",
    "recall@1": "Recall@1",
    "recall@5": "Recall@5",
    "recall@10": "Recall@10",
    "recall@100": "Recall@100",
    "triplet_accuracy": "Triplets",
}
DIFFERENCE = "candidate − serving"
SHOWN_SLICES = 6  # of one dimension, in a terminal
_QUERY_WIDTH = 60
STYLES = {BETTER: "green", WORSE: "red", UNCLEAR: "dim"}


@dataclass(frozen=True)
class _Row:
    """One line: its title, one interval per column, and the difference where it is known."""

    title: str
    what: str  # origin, language, repository, length, or empty
    count: int
    intervals: tuple[Interval | None, ...]
    difference: Difference | None


def metrics_table(named: Named, comparison: Comparison | None = None) -> Table:
    """Every metric of every model side by side, with the difference candidate − serving and its interval."""
    columns = merged(named)
    rows = _metric_rows(columns, comparison)
    return _table("metric", columns, rows, comparison is not None, counted=False)


def slices_table(named: Named, metric: str, comparison: Comparison | None = None) -> Table:
    """One metric slice by slice, with how many queries each has; of a dimension the largest few."""
    columns = merged(named)
    rows = _slice_rows(columns, metric, comparison, SHOWN_SLICES)
    return _table(title_of(metric), columns, rows, comparison is not None, counted=True)


def slices_note(comparison: Comparison) -> str:
    """What to make of so many intervals at once."""
    count = sum(len(slices) for slices in comparison.slices.values())
    return (
        f"{count} slices stand here, each on its own: where nothing changed, about one in twenty is marked "
        "▲ or ▼ all the same."
    )


def metrics_markdown(named: Named, comparison: Comparison | None = None) -> str:
    """`metrics_table` as a Markdown table, with whole intervals."""
    columns = merged(named)
    rows = _metric_rows(columns, comparison)
    return _markdown("metric", columns, rows, comparison is not None, counted=False)


def slices_markdown(named: Named, metric: str, comparison: Comparison | None = None) -> str:
    """Every slice as a row of a Markdown table, with whole intervals."""
    columns = merged(named)
    rows = _slice_rows(columns, metric, comparison, None)
    table = _markdown(title_of(metric), columns, rows, comparison is not None, counted=True)
    return table if comparison is None else f"{table}\n\n{slices_note(comparison)}"


def merged(named: Named) -> dict[str, Evaluation]:
    """The columns: roles held by one model version become one, as in "base = serving"."""
    columns: dict[str, tuple[str, Evaluation]] = {}
    for role, evaluation in named.items():
        known = columns.get(evaluation.model_version)
        title = role if known is None else f"{known[0]} = {role}"
        columns[evaluation.model_version] = (title, evaluation)
    return dict(columns.values())


def title_of(metric: str) -> str:
    """How a metric is written for people."""
    return TITLES.get(metric, metric)


def mark_of(difference: Difference) -> str:
    """▲, ▼ or ·: whether the interval leaves zero out, and on which side."""
    if not difference.significant:
        return UNCLEAR
    return BETTER if difference.mean > 0 else WORSE


def _metric_rows(columns: Mapping[str, Evaluation], comparison: Comparison | None) -> list[_Row]:
    present = [m for m in METRICS if any(m in evaluation.overall for evaluation in columns.values())]
    return [
        _row((title_of(m), ""), m, [e.overall for e in columns.values()], comparison and comparison.overall)
        for m in present
    ]


def _slice_rows(
    columns: Mapping[str, Evaluation], metric: str, comparison: Comparison | None, limit: int | None
) -> list[_Row]:
    evaluations = list(columns.values())
    overall = [e.overall for e in evaluations]
    rows = [_row(("all queries", ""), metric, overall, comparison and comparison.overall)]
    for dimension in DIMENSIONS:
        slices = [e.slices.get(dimension, {}) for e in evaluations]
        differences = comparison.slices.get(dimension, {}) if comparison else {}
        found = [
            _row((name, dimension), metric, [each.get(name, {}) for each in slices], differences.get(name))
            for name in slices[0]
        ]
        if limit is not None and len(found) > limit:
            largest = sorted(found, key=lambda row: -row.count)[:limit]
            found = [row for row in found if row in largest]
        rows += found
    return [row for row in rows if row.count]


def _row(
    title: tuple[str, str], metric: str, means: Sequence[Means], differences: Differences | None
) -> _Row:
    intervals = tuple(each.get(metric) for each in means)
    return _Row(
        title=title[0],
        what=title[1],
        count=max((interval.count for interval in intervals if interval), default=0),
        intervals=intervals,
        difference=differences.get(metric) if differences else None,
    )


def _table(
    first: str, columns: Mapping[str, Evaluation], rows: Sequence[_Row], compared: bool, *, counted: bool
) -> Table:
    """As narrow as 76 columns, so that it fits an indented place in a terminal of 80."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first)
    if counted:
        table.add_column("queries", justify="right")
    for title in columns:
        table.add_column(title, justify="right")
    if compared:
        table.add_column(DIFFERENCE)
    for row, following in zip_longest(rows, rows[1:]):
        cells = [Text(row.title)]
        if counted:
            cells.append(Text(f"{row.count:,}", style="dim"))
        # Beside the number of queries there is no room for each model's own interval.
        cells += [_interval_text(interval, narrow=counted) for interval in row.intervals]
        if compared:
            cells.append(_difference_text(row.difference))
        table.add_row(*cells, end_section=following is not None and following.what != row.what)
    return table


def _interval_text(interval: Interval | None, *, narrow: bool) -> Text:
    if interval is None:
        return Text("–", style="dim")
    margin = "" if narrow else f" ±{_without_zero(f'{interval.margin:.3f}')}"
    return Text.assemble(f"{interval.mean:.3f}", (margin, "dim"))


def _difference_text(difference: Difference | None) -> Text:
    if difference is None:
        return Text("–", style="dim")
    mark = mark_of(difference)
    mean, low, high = (_without_zero(f"{v:+.3f}") for v in (difference.mean, difference.low, difference.high))
    return Text.assemble((f"{mark} {mean}", STYLES[mark]), (f" ({low} … {high})", "dim"), no_wrap=True)


def _markdown(
    first: str, columns: Mapping[str, Evaluation], rows: Sequence[_Row], compared: bool, *, counted: bool
) -> str:
    heads = [first, *(["queries"] if counted else []), *columns]
    heads += [DIFFERENCE, "p"] if compared else []
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for row in rows:
        cells = [escaped(f"{row.what} {row.title}"), *([f"{row.count:,}"] if counted else [])]
        cells += [
            f"{i.mean:.3f} ({i.low:.3f} … {i.high:.3f})" if i is not None else "–" for i in row.intervals
        ]
        if compared and row.difference is not None:
            d = row.difference
            cells += [f"{mark_of(d)} {d.mean:+.3f} ({d.low:+.3f} … {d.high:+.3f})", _p_value(d)]
        elif compared:
            cells += ["–", "–"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _p_value(difference: Difference) -> str:
    """Of the permutation test where there is one, else of the bootstrap."""
    p = difference.p_value if difference.permutation_p is None else difference.permutation_p
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def shortened(query: str) -> str:
    """A query in one line of limited length."""
    line = " ".join(query.split())
    return line if len(line) <= _QUERY_WIDTH else line[: _QUERY_WIDTH - 1] + "…"


def _without_zero(number: str) -> str:
    """`+.038` for `+0.038`: the column is narrow and the zero says nothing."""
    return number.replace("0.", ".", 1) if number.lstrip("+-").startswith("0.") else number


def escaped(text: str) -> str:
    """Text that cannot break a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
