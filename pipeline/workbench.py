"""What every piece of work needs at hand: settings, the database, and encoders, each loaded once."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

from pipeline.config import Settings
from pipeline.progress import Progress, Silent
from pipeline.promotion import registry
from pipeline.promotion.registry import ModelRecord
from pipeline.store.connections import Database, open_database

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.corpus.tokens import TokenBudget
    from pipeline.encoders.encoder import Encoder

# The serving model and a candidate are compared text by text; a third is rare, and a large one fills memory.
ENCODERS_KEPT = 2


class Workbench:
    """Settings, database and loaded encoders of one process. Opening the database waits for its first use.

    Args:
        settings: What is in force.
        progress: Where work says how far it is.
        database: An opened database; by default the one of the settings, migrated.
    """

    def __init__(
        self, settings: Settings, progress: Progress | None = None, database: Database | None = None
    ) -> None:
        self.settings = settings
        self.progress = progress or Silent()
        self._database = database
        self._encoders: dict[str, Encoder] = {}
        self._lock = threading.Lock()

    @cached_property
    def db(self) -> Database:
        """The database, its server started and its schema up to date."""
        return self._database or open_database(self.settings)

    def encoder(self, model: ModelRecord) -> Encoder:
        """The encoder of a registered model version. Its weights are read when they are first needed."""
        from pipeline.encoders.deferred import DeferredEncoder
        from pipeline.encoders.spec import EncoderSpec

        return DeferredEncoder(
            EncoderSpec.model_validate(model.spec),
            model.version,
            model.location,
            lambda: self._load_registered(model),
        )

    def encoder_at(self, location: str) -> Encoder:
        """The encoder at a location that need not be registered yet; loaded now, which verifies its files."""
        return self._load(location)

    def recall_queries(self, model: ModelRecord) -> NDArray[np.float32]:
        """What the recall of an index of `model` is measured with; see `documentation_queries`."""
        from pipeline.index.recall_queries import documentation_queries

        return documentation_queries(self.db, self.encoder(model), self.settings.recall_sample)

    def token_budget(self) -> TokenBudget:
        """How long snippets may be: what the model whose index answers searches sees whole.

        Asked of the encoder its line began with: fine-tuning changes neither tokenizer nor limit, but the
        saved tokenizer's bytes may differ, and every file would be parsed again after each promotion.
        """
        from pipeline.encoders.loading import token_budget

        models = {model.version: model for model in registry.list_models(self.db)}
        model = self.target_model()
        while model.base_version is not None:
            model = models[model.base_version]
        return token_budget(model.location)

    def model(self, version: str) -> ModelRecord:
        """The record of exactly this version. Raises BadInputError if it is not registered."""
        with self.db.connect() as connection:
            return registry.get_model(connection, version)

    def base_model(self) -> ModelRecord:
        """The record of the encoder named in the settings, registered if it is new.

        A preset is pinned to its weights, so one that is registered need not be loaded to know its version.
        """
        from pipeline.encoders.presets import PRESETS

        name = self.settings.encoder
        if name in PRESETS:
            for model in registry.list_models(self.db):
                if model.location == name and model.base_version is None:
                    return model
        return registry.ensure_registered(self.db, self._load(name), name)

    def named_model(self, name: str) -> ModelRecord:
        """The model version that a person means by `name`; see `registry.resolve`."""
        return (
            self.base_model()
            if name == "base"
            else registry.resolve(self.db, name, self.settings, self.progress)
        )

    def serving_model(self) -> ModelRecord:
        """The model version that serves, else the base encoder, which is then the first to serve."""
        return registry.serving_model(self.db) or self.base_model()

    def target_model(self) -> ModelRecord:
        """The model version whose index should answer searches: the one approved last, else what serves."""
        return self.approved_model() or self.serving_model()

    def approved_model(self) -> ModelRecord | None:
        """The model version that is approved and waits for its index; the registry keeps it at most one."""
        approved = [model for model in registry.list_models(self.db) if model.state == "approved"]
        return approved[0] if approved else None

    def _load_registered(self, model: ModelRecord) -> Encoder:
        """Raises HoneloopError, saying so, if its weights were given up."""
        from pipeline.promotion.weights import require_weights, weights_in_use

        if model.base_version is None:
            return self._load(model.location)
        with weights_in_use(self.db, model.version):
            require_weights(self.model(model.version))
            return self._load(model.location)

    def _load(self, source: str) -> Encoder:
        from pipeline.encoders.loading import load_as_set

        location = registry.stored_location(source)
        with self._lock:
            encoder = self._encoders.pop(location, None)
            if encoder is None:
                with self.progress.stage(f"Loading {source}"):
                    encoder = load_as_set(location, self.settings, self.progress)
            self._encoders[location] = encoder  # the one used last stands last
            while len(self._encoders) > ENCODERS_KEPT:
                del self._encoders[next(iter(self._encoders))]
        return encoder
