"""The search service."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings


class ServiceSettings(BaseSettings):
    """The search service."""

    search_port: int = Field(
        default=8321, ge=1, le=65535, description="Of the search service and its web page."
    )
    query_cache_size: int = Field(
        default=10_000, ge=1, description="Queries whose vectors the search service remembers."
    )
    search_queue_size: int = Field(
        default=100_000, ge=1, description="Searches that wait on disk for the database, at the most."
    )
    api_token: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="Who searches over HTTP must send it; without one the service stays on this machine.",
    )
    max_body_bytes: int = Field(default=256 * 1024, ge=1024, description="A larger request is refused.")
    rate_limit: str = Field(
        default="20000/minute",
        pattern=r"^[1-9][0-9]{0,8}/([1-9][0-9]{0,3} )?(second|minute|hour|day)$",
        description="Requests that one client may make, such as 50/second or 1000/5 minute.",
    )
