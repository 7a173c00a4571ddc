"""Where things live."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings


class PlaceSettings(BaseSettings):
    """Where things live."""

    home: Path = Field(default=Path(".honeloop"), description="All state: database, checkpoints, logs.")
    database_url: str | None = Field(
        default=None, description="postgresql://… of your own server; unset: the embedded one under home."
    )
    search_database_url: str | None = Field(
        default=None,
        description="postgresql://… of a replica that answers searches; unset: the database itself. "
        "What was searched and judged is written to the database itself either way.",
    )
    index_tablespace: str | None = Field(
        default=None,
        min_length=1,
        description="The Postgres tablespace that vectors and their HNSW are created in; unset: the "
        "database's own. What is there already stays where it is.",
    )
    database_patience_seconds: float = Field(
        default=60, ge=0, description="A run waits so long for a database that went away, and then goes on."
    )

    @property
    def home_path(self) -> Path:
        """`home`, absolute."""
        return self.home.expanduser().absolute()

    @property
    def checkpoints_path(self) -> Path:
        """Where checkpoints lie: one directory per model version."""
        return self.home_path / "checkpoints"

    @property
    def onnx_path(self) -> Path:
        """Where ONNX exports lie: one directory per member of an encoder."""
        return self.home_path / "onnx"
