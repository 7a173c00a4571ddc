"""Queries to vectors for many callers at once: batched, and each query of late embedded once."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class EncodingCounts:
    """How queries became vectors.

    Args:
        hits: Queries whose vectors were in the cache.
        joined: Queries that were being embedded for somebody else already.
        misses: Queries that had to be embedded.
        batches: How many forward passes there were, by their number of queries.
    """

    hits: int
    joined: int
    misses: int
    batches: Mapping[int, int]


class EncodingCounter:
    """Counts for one or several `QueryEncoder`s. For many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hits = self._joined = self._misses = 0
        self._batches: Counter[int] = Counter()

    def hit(self) -> None:
        """A vector was in the cache."""
        with self._lock:
            self._hits += 1

    def join(self) -> None:
        """A query is being embedded already."""
        with self._lock:
            self._joined += 1

    def miss(self) -> None:
        """A query has to be embedded."""
        with self._lock:
            self._misses += 1

    def batch(self, queries: int) -> None:
        """So many queries went through the model together."""
        with self._lock:
            self._batches[queries] += 1

    def counts(self) -> EncodingCounts:
        """All of it until now."""
        with self._lock:
            return EncodingCounts(self._hits, self._joined, self._misses, dict(self._batches))


class QueryEncoder:
    """One model version, used by many threads.

    A thread of its own embeds whatever has come in while it embedded the last batch, so that a lone query
    waits for nobody and many cost little more than a few. Its cache holds vectors of this model version only,
    so a vector never outlives its model.

    Args:
        encoder: The model version.
        cache_size: Queries whose vectors are remembered.
        max_batch: Queries per forward pass, at the most.
        counter: Told of every query and batch; None: nobody asks.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        cache_size: int,
        max_batch: int = 16,
        counter: EncodingCounter | None = None,
    ) -> None:
        self.encoder = encoder
        self._counter = counter or EncodingCounter()
        self._max_batch = max_batch
        self._cache: LRUCache[str, Vector] = LRUCache(maxsize=cache_size)
        self._lock = threading.Lock()
        self._afterwards = threading.Lock()
        self._waiting: dict[str, Future[Vector]] = {}
        self._closed = False
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="query-encoder", daemon=True)
        self._thread.start()

    def submit(self, query: str) -> Future[Vector]:
        """The query's vector, shape (dims,), read-only, as soon as it is there."""
        with self._lock:
            known = self._cache.get(query)
            if known is not None:
                self._counter.hit()
                done: Future[Vector] = Future()
                done.set_result(known)
                return done
            # Whoever asks what is being embedded already waits for that.
            future = self._waiting.get(query)
            if future is not None:
                self._counter.join()
                return future
            self._counter.miss()
            future = Future()
            # Several may wait for it, so nobody can cancel it.
            future.set_running_or_notify_cancel()
            self._waiting[query] = future
            if not self._closed:
                self._queue.put(query)
                return future
        # A search that began before the model went. A tokenizer serves one thread at a time.
        self._thread.join()
        with self._afterwards:
            self._embed([query])
        return future

    def close(self) -> None:
        """Ends the thread when what was submitted is done. Who asks later embeds it in his own thread."""
        with self._lock:
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            batch = self._next_batch()
            queries = [query for query in batch if query is not None]
            if queries:
                self._embed(queries)
            if len(queries) < len(batch):
                return

    def _next_batch(self) -> list[str | None]:
        batch = [self._queue.get()]
        while len(batch) < self._max_batch and batch[-1] is not None:
            try:
                batch.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return batch

    def _embed(self, queries: list[str]) -> None:
        """Settles the futures of all these queries, whatever happens: somebody waits for each."""
        try:
            self._counter.batch(len(queries))
            vectors = [vector.copy() for vector in self.encoder.embed_queries(queries)]
            settled = dict(zip(queries, vectors, strict=True))
        except Exception as error:
            if len(queries) > 1:  # one query must not fail the others
                for query in queries:
                    self._embed([query])
                return
            with self._lock:
                future = self._waiting.pop(queries[0])
            future.set_exception(error)
            return
        for query, vector in settled.items():
            vector.setflags(write=False)
            with self._lock:
                self._cache[query] = vector
                future = self._waiting.pop(query)
            future.set_result(vector)
