"""Query vectors for many callers: batched, cached, and one query's failure is its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import another_model
from pipeline.encoders.encoder import Encoder
from pipeline.search.encoding import EncodingCounter, QueryEncoder

Vector = NDArray[np.float32]
QUERIES = [f"open file number {number} for {'reading ' * (number % 7)}" for number in range(40)]


class Gate:
    """Lets the first forward pass wait until the test has asked for everything else."""

    def __init__(self, encoder: Encoder) -> None:
        self._embed = encoder.embed_queries
        self.batches: list[list[str]] = []
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.batches.append(list(texts))
        self.entered.set()
        assert self.open.wait(30)
        if any("fails" in text for text in texts):
            raise RuntimeError("no vector for this one")
        return self._embed(texts)


@pytest.fixture
def gated(minilm: Encoder, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[QueryEncoder, Gate]]:
    """The real MiniLM behind a gate."""
    encoder = another_model(minilm)
    gate = Gate(minilm)
    monkeypatch.setattr(encoder, "embed_queries", gate)
    queries = QueryEncoder(encoder, cache_size=100, max_batch=16)
    yield queries, gate
    gate.open.set()
    queries.close()


def test_queries_that_come_together_share_forward_passes(
    gated: tuple[QueryEncoder, Gate], minilm: Encoder
) -> None:
    queries, gate = gated
    futures = [queries.submit(QUERIES[0])]
    assert gate.entered.wait(30)
    futures += [queries.submit(query) for query in QUERIES[1:]]
    gate.open.set()
    vectors = [future.result(30) for future in futures]
    assert [len(batch) for batch in gate.batches] == [1, 16, 16, 7]
    alone = np.concatenate([minilm.embed_queries([query]) for query in QUERIES])
    assert np.abs(np.stack(vectors) - alone).max() < 1e-5


def test_the_same_query_is_embedded_once(gated: tuple[QueryEncoder, Gate]) -> None:
    queries, gate = gated
    first = [queries.submit("same") for _ in range(5)]
    gate.open.set()
    assert len({id(future.result(30)) for future in first}) == 1
    again = queries.submit("same")
    assert again.done()
    assert again.result() is first[0].result()
    assert gate.batches == [["same"]]


def test_what_is_counted_adds_up(minilm: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over two encoders, as over a flip from one model version to the next."""
    counter = EncodingCounter()
    gate = Gate(minilm)
    for _ in range(2):
        encoder = another_model(minilm)
        monkeypatch.setattr(encoder, "embed_queries", gate)
        gate.open.clear()
        gate.entered.clear()
        queries = QueryEncoder(encoder, cache_size=100, max_batch=16, counter=counter)
        futures = [queries.submit(QUERIES[0])]
        assert gate.entered.wait(30)
        futures += [queries.submit(query) for query in [*QUERIES[1:], QUERIES[3]]]
        gate.open.set()
        assert all(future.result(30).any() for future in futures)
        queries.submit(QUERIES[5])
        queries.close()
    counts = counter.counts()
    assert (counts.hits, counts.joined, counts.misses) == (2, 2, 80)
    assert counts.batches == {1: 2, 16: 4, 7: 2}


def test_a_vector_cannot_be_changed_by_who_asked_for_it(gated: tuple[QueryEncoder, Gate]) -> None:
    queries, gate = gated
    gate.open.set()
    with pytest.raises(ValueError, match="read-only"):
        queries.submit("mine").result(30)[0] = 1.0


def test_one_querys_failure_is_its_own(gated: tuple[QueryEncoder, Gate]) -> None:
    queries, gate = gated
    blocked = queries.submit("first")
    assert gate.entered.wait(30)
    fine = [queries.submit(query) for query in QUERIES[:5]]
    bad = queries.submit("this one fails")
    gate.open.set()
    with pytest.raises(RuntimeError, match="no vector"):
        bad.result(30)
    assert all(len(future.result(30)) for future in [blocked, *fine])
    with pytest.raises(RuntimeError, match="no vector"):  # a failure is not remembered as a vector
        queries.submit("this one fails").result(30)
    assert len(queries.submit("and it works on").result(30))


def test_nobody_can_cancel_what_others_wait_for(gated: tuple[QueryEncoder, Gate]) -> None:
    queries, gate = gated
    future = queries.submit("shared")
    assert not future.cancel()
    gate.open.set()
    assert len(future.result(30))
    assert len(queries.submit("next").result(30))


def test_the_cache_forgets_the_least_recently_used(minilm: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = another_model(minilm)
    asked: list[str] = []

    def counted(texts: Sequence[str]) -> NDArray[np.float32]:
        asked.extend(texts)
        return minilm.embed_queries(texts)

    monkeypatch.setattr(encoder, "embed_queries", counted)
    queries = QueryEncoder(encoder, cache_size=2)
    for query in ("a", "b", "a", "c", "a", "b"):
        queries.submit(query).result(30)
    queries.close()
    assert asked == ["a", "b", "c", "b"]


def test_closing_answers_what_came_before_and_ends_the_thread(gated: tuple[QueryEncoder, Gate]) -> None:
    queries, gate = gated
    before = [queries.submit(query) for query in QUERIES[:20]]
    closing = threading.Thread(target=queries.close)
    closing.start()
    while not queries._closed:
        time.sleep(0.001)
    late: list[Future[Vector]] = []
    asker = threading.Thread(target=lambda: late.append(queries.submit("came too late")))
    asker.start()
    gate.open.set()
    closing.join(30)
    asker.join(30)
    assert not closing.is_alive()
    assert not queries._thread.is_alive()
    assert all(len(future.result(0)) for future in [*before, *late])
    assert len(late) == 1
    queries.close()  # twice does no harm
