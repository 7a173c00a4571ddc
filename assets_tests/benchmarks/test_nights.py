"""The notebook of the nights draws the figures of a run, and says what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from assets_tests.benchmarks.judged import Judged, judged_corpus
from assets_tests.benchmarks.nights import simulate
from assets_tests.benchmarks.provenance import provenance
from pipeline.config import PROJECT_ROOT
from pipeline.progress import Silent

NOTEBOOK = PROJECT_ROOT / "notebooks" / "nights.ipynb"
FIGURES = NOTEBOOK.with_name("nights.json")
# A loop over 40 functions is over in seconds, but for loading torch.
SMALL = {
    "min_pairs": "10",
    "train_max_tokens": "32",
    "validations_per_epoch": "1",
    "gate_min_queries": "5",
    "recall_sample": "20",
    "max_documentation_pairs": "0",
}

needs_figures = pytest.mark.skipif(not FIGURES.exists(), reason="notebooks/nights.json was not measured yet")


def executed(file: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setenv("HONELOOP_NIGHTS", str(file))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(cells: list[Any]) -> str:
    return "".join(
        output.get("text", "") for cell in cells for output in cell.outputs if output.output_type == "stream"
    )


def worst(told: dict[str, Any]) -> float:
    return min(
        night[which]["over base"]["mean"]
        for run in told["runs"]
        for night in run["nights"]
        for which in ("held out", "as searched")
    )


def assert_drawn(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = executed(file, monkeypatch)
    told = json.loads(file.read_text("utf-8"))
    assert f"The worst night against the base: {worst(told):+.4f}" in text_of(cells)
    kinds = [key for cell in cells for output in cell.outputs for key in output.get("data", {})]
    assert "image/png" in kinds
    assert "text/html" in kinds


@needs_figures
def test_the_notebook_draws_what_served_by_night(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_drawn(FIGURES, monkeypatch)


@needs_figures
def test_a_night_below_the_base_does_not_pass_for_a_good_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = json.loads(FIGURES.read_text("utf-8"))
    told["runs"][0]["nights"][0]["held out"]["over base"]["mean"] = -0.5
    (tmp_path / "worse.json").write_text(json.dumps(told), "utf-8")
    assert "never below it: NO" in text_of(executed(tmp_path / "worse.json", monkeypatch))


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.slow
def test_two_nights_of_judgements_of_click_are_told_and_drawn(
    data: Judged, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[dict[str, Any]] = []
    with judged_corpus(data, None, Silent()) as indexed:
        simulate(indexed, data, 17, nights=2, overrides=SMALL, told=told.append)
    nights = told[-1]["nights"]
    assert [night["night"] for night in nights] == [1, 2]
    learning, _ = data.sides(17, 0)
    assert nights[-1]["judgements"] == len(learning)
    approved = False
    for night in nights:
        approved |= night.get("decision") == "approved"
        assert approved or night["held out"]["over base"]["mean"] == 0  # the base serves on
    # Figures only: a night is short, and says nothing of what was asked or found.
    text = json.dumps(nights)
    assert not any(each.query in text for each in data.judgements)
    file = tmp_path / "nights.json"
    figures = {**provenance([17], functions=len(data.functions), settings=SMALL), "runs": [told[-1]]}
    file.write_text(json.dumps(figures), "utf-8")
    assert_drawn(file, monkeypatch)
