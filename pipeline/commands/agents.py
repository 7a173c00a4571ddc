"""`honeloop mcp` and `honeloop embed-worker`: search for agents, embeddings over NATS."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Adds the command."""
    del app
