"""Tables and pictures: that they say what was measured, and fit where they are shown."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import BytesIO, StringIO

import pytest
from matplotlib.image import imread
from rich.console import Console, RenderableType

from assets_tests.evaluation.made import BASE, CANDIDATE, SERVING, Slice, evaluation
from pipeline.config import Settings
from pipeline.evaluation import changes, plots, report
from pipeline.evaluation.compare import compare

TRIPLETS = [0.3, 0.1, -0.05, 0.2]
BEFORE = [Slice([3] * 40, "feedback"), Slice([1] * 40, language="go")]
AFTER = [Slice([1, 1, 3, 2] * 10, "feedback"), Slice([1, 2] * 20, language="go")]
NAMED = {
    "base": evaluation(BASE, *BEFORE, triplets=TRIPLETS),
    "serving": evaluation(SERVING, *BEFORE, triplets=TRIPLETS),
    "candidate": evaluation(CANDIDATE, *AFTER, triplets=TRIPLETS),
}
COMPARISON = compare(NAMED["candidate"], NAMED["serving"], Settings(bootstrap_resamples=300))


def shown(content: RenderableType, width: int) -> str:
    console = Console(file=StringIO(), width=width, color_system=None)
    console.print(content)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def line(text: str, start: str) -> str:
    return next(each for each in text.splitlines() if each.strip().startswith(start))


@pytest.mark.parametrize("width", [78, 120])
def test_the_metrics_stand_side_by_side_on_one_line_each(width: int) -> None:
    text = shown(report.metrics_table(NAMED, COMPARISON), width)
    row = line(text, "MRR@10")
    assert row.count("±") == 3
    assert "0.667" in row  # (1/3 + 1) / 2 of base and serving
    assert "0.729" in row  # ((1 + 1 + 1/3 + 1/2) / 4 + (1 + 1/2) / 2) / 2 of the candidate
    assert "+.063" in row
    assert "…" in row
    assert row.endswith(")")
    assert len(text.splitlines()) == 2 + 8


def test_slices_are_marked_where_they_win_or_lose() -> None:
    text = shown(report.slices_table(NAMED, "mrr@10", COMPARISON), 78)
    assert report.BETTER in line(text, "feedback")
    assert report.WORSE in line(text, "go")
    assert " 40 " in line(text, "go")
    assert " 80 " in line(text, "all queries")


def test_one_model_in_two_roles_has_one_column() -> None:
    named = {"base": NAMED["base"], "serving": NAMED["base"], "candidate": NAMED["candidate"]}
    text = shown(report.metrics_table(named), 100)
    assert "base = serving" in text
    assert line(text, "MRR@10").count("±") == 2


def test_changes_show_ranks_before_and_after() -> None:
    text = shown(changes.changes_table(COMPARISON, 2), 80)
    assert text.count("3 → 1") == 2
    assert text.count("1 → 2") == 2


def test_markdown_has_a_row_for_each_metric_with_whole_intervals() -> None:
    table = report.metrics_markdown(NAMED, COMPARISON).splitlines()
    assert table[0] == "| metric | base | serving | candidate | candidate − serving | p |"
    assert len(table) == 2 + 8
    assert len({row.count("|") for row in table}) == 1
    slices = report.slices_markdown(NAMED, "ndcg@10", COMPARISON)
    assert "| origin feedback | 40 |" in slices
    assert "| 3 | 1 |" in changes.changes_markdown(COMPARISON)


def test_a_query_cannot_break_the_markdown_table() -> None:
    broken = changes.changes_markdown(
        compare(
            evaluation(CANDIDATE, Slice([1], "a | b\nc")),
            evaluation(SERVING, Slice([2], "a | b\nc")),
            Settings(bootstrap_resamples=100),
        )
    )
    assert len(broken.splitlines()) == 3
    assert "a \\| b c" in broken


HISTORY = [
    {"step": 0, "epoch": 0.0, "ndcg@10": 0.5, "mrr@10": 0.4, "validation_loss": 1.2},
    *({"step": n, "epoch": n / 50, "loss": 2 / n, "learning_rate": 1e-5} for n in range(1, 51)),
    {"step": 50, "epoch": 1.0, "ndcg@10": 0.6, "mrr@10": 0.5, "validation_loss": 0.9},
]


@pytest.mark.parametrize(
    "png",
    [
        pytest.param(lambda: plots.training_curve(HISTORY), id="training curve"),
        pytest.param(lambda: plots.training_curve(HISTORY, [10, 30]), id="overfitting"),
        pytest.param(lambda: plots.training_curve([{"step": 1, "loss": 0.5}]), id="one step"),
        pytest.param(lambda: plots.metric_bars(NAMED), id="bars"),
        pytest.param(lambda: plots.margins_histogram(NAMED), id="margins"),
    ],
)
def test_pictures_are_png_with_something_on_them(png: Callable[[], bytes]) -> None:
    picture = imread(BytesIO(png()), format="png")
    assert picture.shape[:2] == (400, 800)
    inked = (picture[..., :3].min(axis=2) < 0.8).mean()
    assert 0.005 < inked < 0.6


def test_pictures_leave_pyplot_alone() -> None:
    before = "matplotlib.pyplot" in sys.modules
    plots.metric_bars(NAMED)
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_pictures_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        plots.training_curve([{"step": 0, "ndcg@10": 0.5}])
    with pytest.raises(ValueError, match="at least one test triplet"):
        plots.margins_histogram({"base": evaluation(BASE, Slice([1]))})
