"""The overview as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

DAYS_SHOWN = 14


def render(content: Mapping[str, Any]) -> list[RenderableType]:
    """What `Overview.to_json` gives, for people."""
    from rich.text import Text

    eligible = content["eligible"]
    parts: list[RenderableType] = [_there_is(content)]
    weights = content["weight"]["by_judgement"]
    judged = _table("pairs", "weight")
    for judgement, count in eligible["by_judgement"].items():
        judged.add_row(judgement, f"{count:,}", f"{weights[judgement]:,.1f}")
    if eligible["by_judgement"]:
        parts.append(_titled("pairs by what they rest on", judged))
    by_day = dict(list(eligible["by_day"].items())[:DAYS_SHOWN])
    for title, counts in (
        ("pairs by origin", eligible["by_origin"]),
        ("pairs by origin and language", _joined(eligible["by_origin_and_language"])),
        ("pairs by day of their latest judgement", by_day),
        ("their negatives", content["negatives"]),
        ("left out, and why", _joined(content["dropped_by_origin"])),
        ("commits left out, and why", content["commits_left_out"]),
    ):
        if any(counts.values()):
            parts.append(_counts(title, counts))
    earlier = len(eligible["by_day"]) - len(by_day)
    if earlier:
        parts.append(Text(f"  … and {earlier:,} earlier days; --json has them all.", style="dim"))
    parts.append(_bias(content["position_bias"]))
    return parts


def _there_is(content: Mapping[str, Any]) -> Table:
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    kinds = ", ".join(f"{name} {count:,}" for name, count in content["feedback"].items())
    newest = content["newest_at"]
    table.add_row("searches", f"{content['searches']:,}, which showed {content['impressions']:,} snippets")
    table.add_row(
        "judgements",
        f"{content['total']:,} by {content['people']:,} named people, {content['imported']:,} imported"
        + (f"; {kinds}" if kinds else ""),
    )
    if newest is not None:
        table.add_row("newest", f"{newest:%Y-%m-%d %H:%M}, number {content['newest_id']:,}")
    table.add_row("pairs from them", f"{content['pairs']:,}, weighing {content['weight']['total']:,.1f}")
    if content["searches_counted_by_day"]:
        table.add_row(
            "expired",
            f"{content['searches_counted_by_day']:,} searches are counts by day; "
            f"{content['expired_searches']:,} of them keep their judgements, without names",
        )
    if content["forgotten_people"]:
        table.add_row("forgotten", f"{content['forgotten_people']:,} people")
    return table


def _bias(bias: Mapping[str, Any]) -> Group:
    estimated = bias["method"] == "estimated"
    missing = bias["missing_by_rank"]
    table = _table("likely", "chosen", "missing")
    for rank in sorted(set(bias["examination_by_rank"]) | set(missing), key=int):
        in_force = bias["examination_by_rank"].get(rank)
        table.add_row(
            f"rank {rank}",
            "" if in_force is None else f"{in_force:.2f}",
            f"{bias['evidence_by_rank'].get(rank, 0):,.0f}",
            f"{missing.get(rank, 0):,}",
        )
    return _titled(
        "how likely a rank is looked at: "
        + ("estimated from the data" if estimated else "by the fixed table, for want of data"),
        table,
    )


def _joined(by_origin: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """One row for each origin and what it is counted by."""
    return {
        f"{origin}: {name}": count for origin, counts in by_origin.items() for name, count in counts.items()
    }


def _counts(title: str, counts: Mapping[str, int]) -> Group:
    table = _table("")
    for name, count in counts.items():
        if count:
            table.add_row(name, f"{count:,}")
    return _titled(title, table)


def _table(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 2), show_header=any(headings), header_style="dim")
    table.add_column("")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _titled(title: str, table: Table) -> Group:
    from rich.console import Group
    from rich.text import Text

    return Group(Text(f"\n{title}", style="bold"), table)
