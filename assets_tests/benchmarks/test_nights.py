"""The notebook of the nights draws the figures that stand beside it, and says what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from pipeline.config import PROJECT_ROOT

NOTEBOOKS = PROJECT_ROOT / "notebooks"


def executed(file: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setenv("HONELOOP_NIGHTS", str(file))
    notebook = nbformat.read(NOTEBOOKS / "nights.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(cells: list[Any]) -> str:
    return "".join(
        output.get("text", "") for cell in cells for output in cell.outputs if output.output_type == "stream"
    )


def test_the_notebook_draws_what_serves_by_night(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = NOTEBOOKS / "nights.json"
    cells = executed(figures, monkeypatch)
    worst = min(
        night[which]["over base"]["mean"]
        for run in json.loads(figures.read_text("utf-8"))["runs"]
        for night in run["nights"]
        for which in ("held out", "as searched")
    )
    assert f"The worst night against the base: {worst:+.4f}" in text_of(cells)
    kinds = [key for cell in cells for output in cell.outputs for key in output.get("data", {})]
    assert "image/png" in kinds
    assert "text/html" in kinds


def test_a_night_below_the_base_does_not_pass_for_a_good_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = json.loads((NOTEBOOKS / "nights.json").read_text("utf-8"))
    told["runs"][0]["nights"][0]["held out"]["over base"]["mean"] = -0.02
    (tmp_path / "worse.json").write_text(json.dumps(told), "utf-8")
    assert "never below it: NO" in text_of(executed(tmp_path / "worse.json", monkeypatch))


def test_the_figures_hold_no_code_and_no_query() -> None:
    told = json.loads((NOTEBOOKS / "nights.json").read_text("utf-8"))
    allowed = {
        "night", "problems", "serving", "words", "held out", "as searched", "pairs", "test pairs",
        "candidate", "candidate held out",
        "decision", "reasons", "decided on", "gain over serving", "general set over base", "judgements",
        "accepted", "seconds",
    }  # fmt: skip
    for run in told["runs"]:
        for night in run["nights"]:
            assert set(night) <= allowed
    notebook = nbformat.read(NOTEBOOKS / "nights.ipynb", as_version=4)
    assert not [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
