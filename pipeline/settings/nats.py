"""Answering embedding requests over NATS."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, field_serializer
from pydantic_settings import BaseSettings


class NatsSettings(BaseSettings):
    """Answering embedding requests over NATS."""

    nats_url: str = Field(
        default="nats://127.0.0.1:4222",
        min_length=1,
        description="Where the server is; several addresses of one cluster with commas between them.",
    )
    nats_credentials: Path | None = Field(
        default=None, description="A .creds file; or put user and password into the address."
    )
    nats_request_subject: str = Field(
        default="embedding.request", pattern=r"^[^\s.*>]+(\.[^\s.*>]+)*$", description="What is answered."
    )
    nats_response_subject: str = Field(
        default="embedding.response",
        pattern=r"^[^\s.*>]+(\.[^\s.*>]+)*$",
        description="Where answers go to requests without a reply subject.",
    )
    nats_queue_group: str = Field(
        default="honeloop-embed",
        pattern=r"^\S+$",
        description="Workers of one group share the requests: each goes to one of them.",
    )
    nats_max_texts: int = Field(default=128, ge=1, description="Texts in one request, at the most.")
    nats_max_waiting: int = Field(
        default=1000, ge=1, description="Requests a worker holds at once; what comes beyond is refused."
    )

    @property
    def shown_nats_url(self) -> str:
        """`nats_url` as it may be shown: without users, passwords and tokens."""
        return shown_address(self.nats_url)

    @field_serializer("nats_url", when_used="json")
    def _show_nats_url(self, _: str) -> str:
        return self.shown_nats_url


def shown_address(address: str) -> str:
    """An address, or several, without users, passwords and tokens."""
    return re.sub(r"[^/,@]*@", "***@", address)
