"""One typed settings object: every threshold, path and switch, with its environment variable.

Each field is read from `HONELOOP_<FIELD IN UPPER CASE>`; `honeloop status --json` shows the values in force.
The fields themselves are in settings/, a module for each matter.
"""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import SettingsConfigDict

from pipeline.settings.automation import AutomationSettings
from pipeline.settings.corpus import CorpusSettings
from pipeline.settings.encoder import EncoderSettings
from pipeline.settings.gate import GateSettings
from pipeline.settings.index import IndexSettings
from pipeline.settings.machines import MachineSettings
from pipeline.settings.nats import NatsSettings
from pipeline.settings.pairs import PairSettings
from pipeline.settings.places import PlaceSettings
from pipeline.settings.service import ServiceSettings
from pipeline.settings.training import TrainingSettings

PROJECT_ROOT = Path(__file__).resolve().parents[1]


# From the last to the first: pydantic lists the fields of the last base first.
class Settings(
    NatsSettings,
    ServiceSettings,
    AutomationSettings,
    GateSettings,
    TrainingSettings,
    PairSettings,
    IndexSettings,
    CorpusSettings,
    EncoderSettings,
    MachineSettings,
    PlaceSettings,
):
    """Everything that can be set. Immutable: make another with `model_copy(update=...)`."""

    model_config = SettingsConfigDict(env_prefix="HONELOOP_", frozen=True, extra="ignore")

    @property
    def sql_path(self) -> Path:
        """Where the numbered migrations lie."""
        return PROJECT_ROOT / "sql"


def load_settings() -> Settings:
    """The settings in force, from the environment. Raises pydantic's ValidationError naming the field."""
    return Settings()
