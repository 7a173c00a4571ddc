"""Executes the notebook over a database, and says what it showed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from pipeline.config import PROJECT_ROOT, Settings

TOUR = PROJECT_ROOT / "notebooks" / "tour.ipynb"


def executed_tour(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The notebook's code cells after running them over the settings' database; a cell that fails raises."""
    assert settings.database_url is not None
    monkeypatch.setenv("HONELOOP_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("HONELOOP_HOME", str(settings.home_path))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    notebook = nbformat.read(TOUR, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(Path(TOUR).parent)}}).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def stored_outputs() -> list[Any]:
    """Every output that is stored in the notebook's file: there should be none."""
    notebook = nbformat.read(TOUR, as_version=4)
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
