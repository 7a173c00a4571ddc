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
    """The table, what it says, and how to choose."""
    parts: list[RenderableType] = [_table(comparison), Text()]
    parts += [Text(f"{name} failed: {why}", style="red") for name, why in comparison.failed.items()]
    best = comparison.best
    if best is None:
        parts.append(Text("There are no validation pairs to tell the recipes apart by."))
        return Group(*parts)
    parts += [Text(line) for line in _said(comparison, best)]
    return Group(*parts)


def _table(comparison: Comparison) -> Table:
    first = comparison.compared[0].account
    queries: dict[str, int] = first.validation["queries"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Recipe", no_wrap=True)
    decides = "feedback" if first.validation["decides"] == "feedback" else "all"
    table.add_column(f"{title_of(METRIC)}\n{decides}", justify="right")
    for origin, count in queries.items():
        table.add_column(f"{origin}\n{count:,}", justify="right")
    table.add_column("p", justify="right")
    table.add_column("pairs ×\ndocuments", justify="right")
    table.add_column("steps", justify="right")
    table.add_column("seconds", justify="right")
    table.add_column("peak\nMB", justify="right")
    before = comparison.compared[0].before
    table.add_row("before training", *_metrics(before, queries), *[""] * 5, style="dim")
    best = comparison.best
    for each in comparison.compared:
        chosen = best is not None and each.name == best.name
        account = each.account
        table.add_row(
            f"{each.name}{' (best)' if chosen else ''}",
            *_metrics(each.validation, queries),
            "" if chosen or best is None else f"{each.p_value:.3f}",
            _batch(account),
            f"{len(losses(account.history)):,}",
            f"{account.seconds:,.0f}{'' if each.made == 'trained' else '*'}",
            f"{account.peak_memory_bytes / 1e6:,.0f}",
            style="bold" if chosen else "",
        )
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
        f"{title_of(METRIC)} on the validation queries, each ranking the validation snippets; below the "
        "origins, how many queries. p: how likely chance alone makes so large a difference from the best.",
    ]
    if any(each.made != "trained" for each in comparison.compared):
        lines.append("*: trained before, and not again.")
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
