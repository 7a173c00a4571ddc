"""Triplets and the account of a training set for a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.training.pairs import Negative, Pair, TrainingSet
from pipeline.training.set_tables import tables_of
from pipeline.training.triplets import Place, margin, why_negative, why_positive

if TYPE_CHECKING:
    from rich.console import RenderableType

# From this width on, code stands side by side.
SIDE_BY_SIDE = 120
LINES_SHOWN = 24
# What would move the cursor or colour the rest of the terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def render_set(training_set: TrainingSet) -> list[RenderableType]:
    """The account of a training set: its pairs, what was left out, its negatives and margins."""
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for each in tables_of(training_set):
        table = Table(
            title=each.title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 2)
        )
        for position, heading in enumerate(each.headings):
            is_number = position > 0 and all(row[position][:1] in "+-–0123456789" for row in each.rows)
            table.add_column(
                heading, justify="right" if is_number else "left", header_style="dim", overflow="fold"
            )
        for row in each.rows:
            table.add_row(*(Text(cell) for cell in row))
        parts += [table, Text("")]
    return parts


def render_triplets(
    pairs: Sequence[Pair], where: Mapping[bytes, Place], *, width: int
) -> Iterable[RenderableType]:
    """Each pair with its negatives: the query, the code, and why each is what it is."""
    from rich.rule import Rule
    from rich.text import Text

    for number, pair in enumerate(pairs, start=1):
        yield Rule(
            f"{number} of {len(pairs)} · {pair.origin} · {pair.split} · {pair.language} · "
            f"weight {pair.weight:.2f}",
            style="dim",
            align="left",
        )
        yield Text(f"“{_plain(pair.query)}”", style="bold")
        panels = [_answer(pair, where), *(_no_answer(pair, each, where) for each in pair.negatives)]
        yield _arranged(panels, width)
        if not pair.negatives:
            yield Text("No negative: nothing near the query is below the threshold and fair.", style="yellow")
        yield Text("")


def _answer(pair: Pair, where: Mapping[bytes, Place]) -> RenderableType:
    scores = [each.positive_score for each in pair.negatives if each.positive_score is not None]
    said = why_positive(pair) + (f" Cosine {scores[0]:.3f}." if scores else "")
    return _panel(
        "answers",
        place=where.get(pair.positive_hash),
        code=pair.positive_text,
        language=pair.language,
        said=said,
        style="green",
    )


def _no_answer(pair: Pair, negative: Negative, where: Mapping[bytes, Place]) -> RenderableType:
    said = why_negative(negative)
    difference = margin(negative)
    if difference is not None and negative.negative_score is not None and negative.positive_score is not None:
        said += f" Cosine {negative.negative_score:.3f}"
        if negative.positive_score > 0:
            said += f", {negative.negative_score / negative.positive_score:.2f} of the positive's"
        said += f"; margin {difference:+.3f}."
    return _panel(
        negative.reason,
        place=where.get(negative.content_hash),
        code=negative.text,
        language=pair.language,
        said=said,
        style="red",
    )


def _panel(
    title: str, *, place: Place | None, code: str, language: str, said: str, style: str
) -> RenderableType:
    from rich.console import Group
    from rich.panel import Panel
    from rich.syntax import Syntax
    from rich.text import Text

    lines = _plain(code).splitlines()
    shown = "\n".join(lines[:LINES_SHOWN])
    parts: list[RenderableType] = [
        Text(_plain(said)),
        Text(_plain(str(place)) if place else "no longer anywhere", style="dim"),
        Syntax(shown, language, word_wrap=True, background_color="default"),
    ]
    if len(lines) > LINES_SHOWN:
        parts.append(Text(f"… {len(lines) - LINES_SHOWN} more lines", style="dim"))
    return Panel(Group(*parts), title=title, title_align="left", border_style=style)


def _arranged(panels: Sequence[RenderableType], width: int) -> RenderableType:
    """Side by side in pairs where there is room for it, else one below the other."""
    from rich.console import Group
    from rich.table import Table

    if width < SIDE_BY_SIDE or len(panels) == 1:
        return Group(*panels)
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    for start in range(0, len(panels), 2):
        grid.add_row(*panels[start : start + 2])
    return grid


def _plain(text: str) -> str:
    return _CONTROL.sub("\ufffd", text)
