"""A comparison of recipes as a person reads it on a terminal."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.evaluation.report import title_of
from pipeline.training.account import Account
from pipeline.training.comparing import Compared, Comparison
from pipeline.training.history import losses
from pipeline.training.validation import BY_ORIGIN, METRIC

_CHANCE = 0.05


def render_comparison(comparison: Comparison) -> RenderableType:
    """Two tables, how good and how dear; what they say; and how to choose."""
    parts: list[RenderableType] = [_validated(comparison), _cost(comparison), Text()]
    parts += [Text(f"{name} failed: {why}", style="red") for name, why in comparison.failed.items()]
    best = comparison.best
    if best is None:
        parts.append(Text("There are no validation pairs to tell the recipes apart by."))
        return Group(*parts)
    parts += [Text(line) for line in _said(comparison, best)]
    return Group(*parts)


def _validated(comparison: Comparison) -> Table:
    first = comparison.compared[0]
    queries: dict[str, int] = first.account.validation["queries"]
    table = _table()
    decides = "feedback decides" if first.account.validation["decides"] == "feedback" else "all queries"
    table.add_column(f"{title_of(METRIC)}\n{decides}", justify="right", no_wrap=True)
    for origin, count in queries.items():
        table.add_column(f"{origin}\n{count:,}", justify="right", no_wrap=True)
    table.add_column("p", justify="right", no_wrap=True)
    table.add_row("before training", *_metrics(first.before, queries), "", style="dim")
    best = comparison.best
    for each in comparison.compared:
        chosen = each is best
        p_value = "best" if chosen else f"{each.p_value:.3f}" if best is not None else ""
        table.add_row(
            each.name, *_metrics(each.validation, queries), p_value, style="bold green" if chosen else ""
        )
    return table


def _cost(comparison: Comparison) -> Table:
    table = _table()
    for title in ("pairs × documents\nin a step", "steps", "seconds", "peak memory\nMB"):
        table.add_column(title, justify="right", no_wrap=True)
    for each in comparison.compared:
        account = each.account
        table.add_row(
            each.name,
            _batch(account),
            f"{len(losses(account.history)):,}",
            f"{account.seconds:,.0f}{'' if each.made == 'trained' else '*'}",
            f"{account.peak_memory_bytes / 1e6:,.0f}",
            style="bold green" if each is comparison.best else "",
        )
    return table


def _table() -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Recipe", overflow="fold")
    return table


def _metrics(row: dict[str, Any], queries: dict[str, int]) -> list[str]:
    if not row:
        return ["–"] * (1 + len(queries))
    return [f"{row[METRIC]:.4f}", *(f"{row[BY_ORIGIN][origin][METRIC]:.4f}" for origin in queries)]


def _batch(account: Account) -> str:
    """The effective batch of each stage: pairs, and documents that each query is compared with."""
    return "\n".join(f"{stage['batch_pairs']} × {stage['batch_documents']}" for stage in account.stages)


def _said(comparison: Comparison, best: Compared) -> list[str]:
    lines = [
        f"{title_of(METRIC)} of the validation queries, each ranking the validation snippets; below an origin"
        " stands how many. p: how likely chance alone makes so large a difference from the best.",
    ]
    if any(each.made != "trained" for each in comparison.compared):
        lines.append("*: trained before, and not trained again.")
    unclear = [each.name for each in comparison.compared if each is not best and each.p_value >= _CHANCE]
    if unclear:
        lines.append(f"The difference from {', '.join(unclear)} may be chance.")
    if best.before and best.validation[METRIC] <= best.before[METRIC]:
        lines.append("None of them is better than the model before training.")
    return [
        *lines,
        "",
        f"To choose {best.name}: export HONELOOP_RECIPE={best.name}",
        "`honeloop train` then takes the model over from this comparison, and `honeloop run` and the nightly "
        "schedule train by it. Nothing was registered, and what serves is what served before.",
    ]
