"""The models of a long-lived process: each loaded once, in a thread of its own, however many wait for it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait

from pipeline.config import Settings
from pipeline.errors import HoneloopError, UnavailableError
from pipeline.search.encoding import EncodingCounter, QueryEncoder

# The serving model and the one about to serve, or the one that did.
KEPT = 2
# A model that could not be loaded is not tried again sooner; its files may be back by then.
RETRY_SECONDS = 10.0


class ModelNotReadyError(Exception):
    """The model is still being loaded, and patience is at its end."""


class _Loading:
    """A model version on its way, or there, or the error that kept it away."""

    def __init__(self, future: Future[QueryEncoder]) -> None:
        self.future = future
        self.failed_at: float | None = None
        self.waited_from: float | None = None
        future.add_done_callback(self._ended)

    def _ended(self, future: Future[QueryEncoder]) -> None:
        if future.exception() is not None:
            self.failed_at = time.monotonic()

    @property
    def to_retry(self) -> bool:
        """Whether it failed so long ago that it may be tried again."""
        return self.failed_at is not None and time.monotonic() - self.failed_at > RETRY_SECONDS

    def patience(self, seconds: float) -> float:
        """What is left of `seconds` since somebody first waited for it: not each search waits anew."""
        now = time.monotonic()
        if self.waited_from is None:
            if not seconds:
                return 0.0
            self.waited_from = now
        return max(0.0, self.waited_from + seconds - now)


class ServingModels:
    """The encoders of a few model versions. Safe from many threads; `close` it.

    Args:
        settings: Device, batch size, size of the query cache.
        counter: Counts what the encoders of all versions do.
        kept: Of how many versions, at the most.
    """

    def __init__(self, settings: Settings, counter: EncodingCounter, *, kept: int = KEPT) -> None:
        self._kept = kept
        self._settings = settings
        self._counter = counter
        self._lock = threading.Lock()
        self._models: dict[str, _Loading] = {}
        self._closed = False
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="model-loader")

    def encoder(
        self, version: str, location: str, *, patience: float | None, keep: str | None
    ) -> QueryEncoder:
        """The encoder of a model version.

        Args:
            version: Which.
            location: What `load_encoder` takes to load it.
            patience: Seconds to wait; None: as long as it takes.
            keep: A model version that stays loaded meanwhile.

        Raises:
            ModelNotReadyError: it is not loaded within `patience`.
            HoneloopError: it cannot be loaded. For `RETRY_SECONDS` this is remembered and said at once.
        """
        loading = self._loading(version, location, keep)
        done, _ = wait([loading.future], None if patience is None else loading.patience(patience))
        if not done:
            raise ModelNotReadyError
        error = loading.future.exception()
        if error is not None and not isinstance(error, HoneloopError):
            raise HoneloopError(
                f"The model version {version[:12]} cannot be loaded from {location}:"
                f" {type(error).__name__}: {error}.",
                hint="Put its files back, or let another version serve with `honeloop promote`.",
            ) from error
        return loading.future.result()

    def prepare(self, version: str, location: str, *, keep: str) -> None:
        """Begins to load a model version that is about to serve, so that its first search need not wait."""
        self._loading(version, location, keep)

    def close(self) -> None:
        """Ends all threads. What was submitted to an encoder is done first."""
        with self._lock:
            self._closed = True
            models = list(self._models.values())
            self._models.clear()
        self._loader.shutdown()
        for each in models:
            _close(each)

    def _loading(self, version: str, location: str, keep: str | None) -> _Loading:
        with self._lock:
            if self._closed:
                raise UnavailableError("The search engine is closed.", hint="Its process is about to end.")
            loading = self._models.pop(version, None)
            if loading is None or loading.to_retry:
                loading = _Loading(self._loader.submit(self._load, version, location))
            self._models[version] = loading  # the one used last stands last
            others = [each for each in self._models if each not in (version, keep)]
            surplus = [self._models.pop(each) for each in others[: max(0, len(self._models) - self._kept)]]
        for old in surplus:
            # Searches in flight still wait for it: it ends when they have their vectors.
            threading.Thread(target=_close, args=[old], name="model-closer", daemon=True).start()
        return loading

    def _load(self, version: str, location: str) -> QueryEncoder:
        from pipeline.encoders.loading import load_as_set

        encoder = load_as_set(location, self._settings)
        if encoder.version != version:
            raise HoneloopError(
                f"{location} no longer holds the model version {version[:12]} but {encoder.version[:12]}.",
                hint="Put the model's files back, or let another version serve with `honeloop promote`.",
            )
        return QueryEncoder(encoder, cache_size=self._settings.query_cache_size, counter=self._counter)


def _close(model: _Loading) -> None:
    if model.future.exception() is None:
        model.future.result().close()
