"""`honeloop serve`: the search service alone."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Adds the command."""
    del app
