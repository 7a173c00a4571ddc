"""What runs by itself, when, and beside what."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings


class AutomationSettings(BaseSettings):
    """What runs by itself, when, and beside what."""

    early_finetune_pairs: int = Field(default=1000, ge=1, description="New eligible pairs that start one.")
    nightly_min_pairs: int = Field(default=20, ge=1, description="Fewer new pairs: the night is skipped.")
    timezone: str = Field(default="UTC", description="Where it is night: the IANA name of a time zone.")
    new_commits_seconds: int = Field(
        default=300, ge=30, description="How often each source is asked whether it has something new."
    )
    new_commits_timeout_seconds: int = Field(
        default=10,
        ge=1,
        le=30,
        description="So long the sources asked in one tick have for their answers, all together.",
    )
    recheck_hours: int = Field(
        default=24,
        ge=1,
        description="Sources are read and the serving index is verified again at least so often, even if "
        "nothing seems to have changed.",
    )
    stale_after_hours: int = Field(
        default=72,
        ge=2,
        description="Freshness: snippets or the index not materialized for so long are overdue; warned of "
        "after half of it.",
    )
    model_stale_after_days: int = Field(
        default=60,
        ge=1,
        description="Freshness: no fine-tuning for so long is overdue; warned of after half of it.",
    )
    run_retention_days: int = Field(
        default=90,
        ge=1,
        description="Dagster's runs and their events are deleted after so long, unless an asset was "
        "last made by them.",
    )
    background_niceness: int = Field(
        default=10,
        ge=0,
        le=19,
        description="How far the processes of Dagster's runs step back for the processors behind the search "
        "service (see nice(1)); 0: not at all.",
    )
    run_threads: int | None = Field(
        default=None,
        ge=1,
        description="Threads that torch takes in Dagster's runs, unless OMP_NUM_THREADS says it; unset: one "
        "fewer than there are processors, so that one is left to the search service.",
    )
    alert_webhook: SecretStr | None = Field(
        default=None,
        description="Where failed runs are reported: the address of an incoming webhook that takes "
        "{\"text\": …}, such as Slack's or Mattermost's. Unset: nowhere.",
    )
    ui_port: int = Field(
        default=3000, ge=1, le=65535, description="Of the Dagster web page that `honeloop up` serves."
    )

    @field_validator("timezone")
    @classmethod
    def _require_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("no time zone goes by that name, such as Europe/Berlin") from error
        return name
