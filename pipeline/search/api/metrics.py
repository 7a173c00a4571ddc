"""What the service counts, for Prometheus at /metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from pipeline.search.answer import SearchAnswer
from pipeline.search.encoding import EncodingCounts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# From a cached query on a small index to a cold start; the target of 50 ms lies on a border.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# Queries per forward pass; the last is the most that an encoder takes by default.
BATCH_BUCKETS = (1, 2, 4, 8, 16)


class Metrics:
    """The counts of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "honeloop_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "honeloop_request_seconds",
            "From a request to the end of its answer.",
            ["route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.search_seconds = Histogram(
            "honeloop_search_seconds",
            "Time of a search: total is from the engine's first step to its answer; of that, encode is "
            "until the query's vector is there, search finds the texts, fetch reads their places and code; "
            "candidate, of interleaved searches only, is what the other model took beyond these.",
            ["part"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.interleaved = Counter(
            "honeloop_interleaved_searches",
            "Searches that were to be interleaved, by outcome: interleaved, or why what serves answered "
            "alone: no challenger, not loaded, slow, stale, failed.",
            ["outcome"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "honeloop_searches_in_flight", "Searches being answered.", registry=self.registry
        )
        self.unrecorded = Counter(
            "honeloop_unrecorded_searches",
            "Searches answered that could not be kept: the queue or the disk was full.",
            registry=self.registry,
        )
        self._queue_depth = Gauge(
            "honeloop_queue_depth", "Searches that wait on disk for the database.", registry=self.registry
        )
        self._unusable = Gauge(
            "honeloop_queue_unusable", "Records set aside that the database refused.", registry=self.registry
        )
        self._serving = Gauge(
            "honeloop_serving_info",
            "1 for the model version and index version of the last answer.",
            ["model_version", "index_version_id"],
            registry=self.registry,
        )
        self._encoding = _Encoding()
        self.registry.register(self._encoding)

    def answered(self, answer: SearchAnswer) -> None:
        """Counts one answer."""
        times = answer.times
        for part, ms in (
            ("total", answer.latency_ms),
            ("encode", times.encode_ms),
            ("search", times.search_ms),
            ("fetch", times.fetch_ms),
        ):
            self.search_seconds.labels(part).observe(ms / 1000)
        if answer.interleaved is not None or answer.alone is not None:
            self.interleaved.labels(answer.alone or "interleaved").inc()
            self.search_seconds.labels("candidate").observe(times.candidate_ms / 1000)
        if answer.search_id is None:
            self.unrecorded.inc()

    def text(
        self,
        *,
        queue_depth: int,
        unusable: int,
        serving: tuple[str, int] | None,
        encoding: EncodingCounts,
    ) -> bytes:
        """All of it in Prometheus' text format.

        Args:
            queue_depth: Records that wait.
            unusable: Records set aside.
            serving: Model version and index version; None: nothing serves, or it is not known now.
            encoding: What the engine counted of queries and their vectors.
        """
        self._encoding.counts = encoding
        self._queue_depth.set(queue_depth)
        self._unusable.set(unusable)
        self._serving.clear()
        if serving is not None:
            self._serving.labels(serving[0], str(serving[1])).set(1)
        return generate_latest(self.registry)


class _Encoding(Collector):
    """The engine's own counts, as Prometheus wants them."""

    def __init__(self) -> None:
        self.counts = EncodingCounts(0, 0, 0, {})

    def collect(self) -> Iterator[Metric]:
        """The queries by where their vectors came from, and the sizes of their batches."""
        counts = self.counts
        vectors = CounterMetricFamily(
            "honeloop_query_vectors",
            "Queries by where their vectors came from: hit is from the cache, joined from an embedding for "
            "somebody else that was under way, miss from an embedding of its own.",
            labels=["cache"],
        )
        for how, number in (("hit", counts.hits), ("joined", counts.joined), ("miss", counts.misses)):
            vectors.add_metric([how], number)
        yield vectors
        within = [
            (str(float(most)), float(sum(n for size, n in counts.batches.items() if size <= most)))
            for most in BATCH_BUCKETS
        ]
        yield HistogramMetricFamily(
            "honeloop_query_batch_size",
            "Queries embedded together in one forward pass.",
            buckets=[*within, ("+Inf", float(sum(counts.batches.values())))],
            sum_value=float(sum(size * n for size, n in counts.batches.items())),
        )
