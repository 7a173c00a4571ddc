"""Settings of the command line, sent along with a run that another process does.

The command's settings decide what is done, as if it did it itself; where things are (home, database, ports)
and what is secret stays as it is where the run is done.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.config import Settings
from pipeline.errors import BadInputError

# Where things are, what the machine gives, and what is secret.
NEVER_SENT = frozenset(
    (
        *("home", "database_url", "search_database_url", "index_tablespace", "ui_port", "search_port"),
        *("timezone", "engine", "executor", "ray_address", "ray_patience_seconds"),
        *("device", "run_threads", "background_niceness"),
        *("api_token", "alert_webhook"),
    )
)


def settings_to_send(settings: Settings) -> dict[str, Any]:
    """Those that differ from the defaults, as JSON values."""
    content = settings.model_dump(mode="json", exclude_defaults=True)
    return {name: value for name, value in content.items() if _is_sent(name)}


def with_sent_settings(here: Settings, sent: Mapping[str, Any]) -> Settings:
    """The settings of a run: what was sent, else the defaults; and from here what is never sent.

    Raises:
        BadInputError: there is no such setting, it is none to be sent, or its value cannot be.
    """
    fields = Settings.model_fields
    wrong = [name for name in sent if name not in fields or not _is_sent(name)]
    if wrong:
        raise BadInputError(f"These are no settings of a run: {', '.join(sorted(wrong))}.")
    kept = {name: getattr(here, name) for name in fields if not _is_sent(name)}
    defaults = {name: field.get_default() for name, field in fields.items() if _is_sent(name)}
    try:
        # Arguments outrank the environment, which is this process's and not the sender's.
        return Settings(**{**defaults, **kept, **sent})
    except ValidationError as error:
        raise BadInputError(f"A setting has a value that cannot be: {error}.") from error


def _is_sent(name: str) -> bool:
    return name not in NEVER_SENT and not name.startswith("nats_")
