"""Which model a request means: looked up in the registry, loaded once, "serving" followed through flips."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg
from cachetools import LRUCache

from pipeline.errors import BadInputError, HoneloopError, UnavailableError
from pipeline.promotion import registry
from pipeline.promotion.registry import ModelRecord
from pipeline.search.encoding import QueryEncoder
from pipeline.workbench import Workbench

SERVING = "serving"
# What serves, and one that is asked for beside it or about to serve.
MODELS_KEPT = 2
NAMES_KEPT = 100
# A name or the beginning of a version may come to mean another model, but seldom does.
NAME_SECONDS = 30.0
SHORTEST_BEGINNING = 6


class NamedModels:
    """Encoders by the names that requests give. For many threads; `close` it.

    Only what is registered can be named: a request comes from elsewhere, and must not make this machine read
    a directory or download a model.

    Args:
        bench: Registry, and how encoders are loaded.
    """

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._lock = threading.Lock()
        self._names: LRUCache[str, tuple[ModelRecord, float]] = LRUCache(NAMES_KEPT)
        self._loaded: OrderedDict[str, Future[QueryEncoder]] = OrderedDict()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="model-loader")

    def at_hand(self, name: str) -> QueryEncoder | None:
        """The encoder if it is known and loaded, else None; at once. `follow` keeps "serving" up to date."""
        with self._lock:
            found = self._names.get(name)
            if found is None or (name != SERVING and time.monotonic() > found[1]):
                return None
            loading = self._loaded.get(found[0].version)
            if loading is None or not loading.done() or loading.exception() is not None:
                return None
            self._loaded.move_to_end(found[0].version)
        return loading.result()

    def find(self, name: str) -> QueryEncoder:
        """The encoder of the model of that name, looked up and loaded; blocks as long as that takes.

        Raises:
            BadInputError: no registered model goes by that name, or more than one.
            UnavailableError: nothing serves yet, or the database is away.
            HoneloopError: the model cannot be loaded.
        """
        model = self._look_up(name)
        encoder = self._load(model)
        with self._lock:
            self._names[name] = (model, time.monotonic() + NAME_SECONDS)
        return encoder

    def follow(self) -> QueryEncoder:
        """Loads what serves now; until that is done, requests are answered by what served. As `find`."""
        return self.find(SERVING)

    def close(self) -> None:
        """Ends all threads when they have done what they were given."""
        self._loader.shutdown()
        with self._lock:
            loaded = list(self._loaded.values())
            self._loaded.clear()
        for loading in loaded:
            _close(loading)

    def _look_up(self, name: str) -> ModelRecord:
        try:
            if name == SERVING:
                serving = registry.serving_model(self._bench.db)
                if serving is None:
                    raise UnavailableError(
                        "No model serves yet: nothing is indexed.",
                        hint='Run `honeloop run`, or ask for "base".',
                    )
                return serving
            if name == "base":
                return self._bench.base_model()
            return _registered(registry.list_models(self._bench.db), name)
        except psycopg.OperationalError as error:
            raise UnavailableError(
                f"The database went away: {str(error).strip()}.", hint="Try again in a moment."
            ) from error

    def _load(self, model: ModelRecord) -> QueryEncoder:
        with self._lock:
            loading = self._loaded.pop(model.version, None)
            if loading is None or (loading.done() and loading.exception() is not None):
                loading = self._loader.submit(self._read, model)
            self._loaded[model.version] = loading  # the one used last stands last
            surplus = [self._loaded.popitem(last=False)[1]] if len(self._loaded) > MODELS_KEPT else []
        for old in surplus:
            # Requests in flight still wait for it: it ends when they have their vectors.
            threading.Thread(target=_close, args=[old], daemon=True).start()
        return loading.result()

    def _read(self, model: ModelRecord) -> QueryEncoder:
        encoder = self._bench.encoder_at(model.location)
        if encoder.version != model.version:
            raise HoneloopError(
                f"{model.location} no longer holds the model version {model.version[:12]}.",
                hint="Put the model's files back, or ask for another version.",
            )
        return QueryEncoder(encoder, cache_size=self._bench.settings.query_cache_size)


def _registered(models: list[ModelRecord], name: str) -> ModelRecord:
    """By the beginning of a version, then by a registered name."""
    found = [
        model
        for model in models
        if len(name) >= SHORTEST_BEGINNING and model.version.startswith(name.lower())
    ] or [model for model in models if model.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInputError(
            f"{name!r} may mean {len(found)} models.",
            hint=f"Give more of the version: {', '.join(model.version[:16] for model in found)}.",
        )
    known = ", ".join(f"{model.version[:12]} ({model.name})" for model in models)
    raise BadInputError(
        f"No registered model goes by {name!r}.",
        hint=f'Say "serving", "base", or one of these: {known or "none is registered yet"}.',
    )


def _close(loading: Future[QueryEncoder]) -> None:
    if loading.exception() is None:
        loading.result().close()
