"""The queries that moved most, shown with their rankings: where the answer stood, and what stood above it."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.table import Table
from rich.text import Text

from pipeline.evaluation.compare import Comparison, QueryChange
from pipeline.evaluation.report import BETTER, STYLES, WORSE, escaped, shortened, title_of

_SHOWN_ABOVE = 2


def changes_table(comparison: Comparison, limit: int = 5) -> Table:
    """Each query with its answer, that one's rank before → after, and what stood or stands above it.

    Of several answers the metric counts all, the rank is the first one's.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=False)
    table.add_column("")
    table.add_column("query, its answer, what stood above it", overflow="fold")
    table.add_column("origin", style="dim")
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column(title_of(comparison.metric), justify="right", no_wrap=True)
    for mark, change in _marked(comparison, limit):
        cell = Text(shortened(change.query))
        if change.answer:
            cell.append(f"\n→ {change.answer}", style="cyan")
        # What a riser has overtaken, and what a faller is overtaken by; the other list says less.
        risen = mark == BETTER
        above = change.above_before if risen else change.above_after
        if above:
            cell.append(f"\n  above it {'before' if risen else 'now'}: {_listed(above)}", style="dim")
        table.add_row(
            Text(mark, style=STYLES[mark]),
            cell,
            Text(change.origin),
            Text(f"{change.before:,} → {change.after:,}", style=STYLES[mark]),
            Text(f"{change.change:+.3f}", style=STYLES[mark]),
        )
    return table


def changes_markdown(comparison: Comparison, limit: int = 10) -> str:
    """`changes_table` as a Markdown table, with up to nine contents that stood above."""
    lines = [
        f"| | query | origin | language | answer | {title_of(comparison.metric)} | rank before | rank after "
        "| above it before | above it after |",
        "|---|---|---|---|---|---:|---:|---:|---|---|",
    ]
    for mark, change in _marked(comparison, limit):
        cells = [
            mark,
            escaped(shortened(change.query)),
            escaped(change.origin),
            escaped(change.language),
            _code(change.answer) if change.answer else "–",
            f"{change.change:+.3f}",
            f"{change.before:,}",
            f"{change.after:,}",
            _numbered(change.above_before),
            _numbered(change.above_after),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _marked(comparison: Comparison, limit: int) -> Iterator[tuple[str, QueryChange]]:
    yield from ((BETTER, change) for change in comparison.improved[:limit])
    yield from ((WORSE, change) for change in comparison.harmed[:limit])


def _listed(above: tuple[str, ...]) -> str:
    more = len(above) - _SHOWN_ABOVE
    return "; ".join(above[:_SHOWN_ABOVE]) + (f"; {more} more" if more > 0 else "")


def _numbered(above: tuple[str, ...]) -> str:
    return "<br>".join(f"{rank}. {_code(each)}" for rank, each in enumerate(above, 1)) or "–"


def _code(place: str) -> str:
    return f"`{escaped(place).replace('`', '')}`"
