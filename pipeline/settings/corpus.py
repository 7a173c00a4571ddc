"""Which files are read, and within which limits."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings


class CorpusSettings(BaseSettings):
    """Which files are read, and within which limits."""

    max_file_bytes: int = Field(
        default=1_000_000, ge=1, le=100_000_000, description="Larger files are skipped, and counted."
    )
    parse_seconds: float = Field(
        default=10,
        gt=0,
        description="Processor time that parsing one file may take. A file that takes more is skipped, and "
        "counted; its earlier snippets stay.",
    )
    parse_memory_mb: int = Field(default=1000, ge=50, description="Memory likewise, on Linux.")
    parse_processes: int | None = Field(
        default=None,
        ge=1,
        description="Processes that parse side by side, each within these limits; unset: one per processor.",
    )
    find_secrets: bool = Field(
        default=True,
        description="Keys, tokens and passwords in code are recognised, and left out of all that is stored.",
    )
    secret_rules: Path | None = Field(
        default=None, description="A file of further rules to recognise them by, in Kingfisher's form."
    )
    fetch_timeout_seconds: int = Field(
        default=60, ge=1, description="A git server that stays silent for this long is unreachable."
    )
    max_parse_error_share: float = Field(
        default=0.2, ge=0, le=1, description="Check: share of files with syntax errors a repository may have."
    )
    max_snippet_drop_share: float = Field(
        default=0.5, ge=0, le=1, description="Check: share of its snippets a repository may lose in one go."
    )
