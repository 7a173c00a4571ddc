"""Vectors that somebody makes or reads are not cleaned away under their hands; once nobody does, they are."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.index.click_corpus import (
    Function,
    add_functions,
    another_model,
    build,
    register,
    store_vectors,
)
from assets_tests.index.nights import has_vectors, turn_down
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.errors import OvertakenError
from pipeline.index.embeddings import EmbeddingReport, count_missing, embed_missing, load_vectors
from pipeline.index.in_use import vectors_in_use, vectors_lock
from pipeline.progress import Advance, Silent
from pipeline.store.connections import Database
from pipeline.store.locks import is_held

COUNT, CHUNK = 9, 3
PATIENCE = 120.0


class StopsMidway(Silent):
    """Lets one chunk be stored, and the next one only when it is told to go on."""

    def __init__(self) -> None:
        self.midway, self.go_on = Event(), Event()

    @contextmanager
    def stage(self, description: str, total: int | None = None) -> Generator[Advance]:
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if done > CHUNK:
                self.midway.set()
                assert self.go_on.wait(PATIENCE)

        yield advance


@pytest.fixture
def few(settings: Settings) -> Settings:
    """In chunks of a few texts, with the vectors of the two newest fine-tuned models kept."""
    return settings.model_copy(update={"embed_chunk_size": CHUNK, "keep_retired_indexes": 2})


@pytest.fixture
def nights(
    db: Database, minilm: Encoder, functions: tuple[Function, ...], vectors: NDArray[np.float32]
) -> list[Encoder]:
    """Fine-tuned models that were turned down, the oldest first, without vectors; MiniLM has them."""
    add_functions(db, functions[:COUNT])
    store_vectors(db, minilm, functions[:COUNT], vectors[:COUNT])
    encoders = [another_model(minilm, f"night-{night}") for night in range(4)]
    for encoder in encoders:
        register(db, encoder)
        turn_down(db, encoder.version, minilm.version)
    return encoders


@contextmanager
def embedding(db: Database, encoder: Encoder, settings: Settings) -> Generator[Future[EmbeddingReport]]:
    """Embeds in a thread of its own; within the block it stands still, with the first chunk stored."""
    progress = StopsMidway()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(embed_missing, db, encoder, settings, progress)
        try:
            assert progress.midway.wait(PATIENCE)
            assert count_missing(db, encoder.version) == COUNT - CHUNK
            yield running
        finally:
            progress.go_on.set()


def test_what_is_being_embedded_is_cleaned_away_only_afterwards(
    db: Database,
    few: Settings,
    minilm: Encoder,
    nights: list[Encoder],
    *,
    functions: tuple[Function, ...],
    vectors: NDArray[np.float32],
) -> None:
    old, unused, *_ = nights
    store_vectors(db, unused, functions[:COUNT], vectors[:COUNT])
    with embedding(db, old, few) as running:
        build(db, minilm, few)
        assert not running.done()
        assert has_vectors(db, old.version)
        assert not has_vectors(db, unused.version)
    assert running.result().embedded == COUNT
    assert len(load_vectors(db, old.version)[0]) == COUNT
    build(db, minilm, few)
    assert not has_vectors(db, old.version)
    assert has_vectors(db, minilm.version)


def test_they_stay_until_nobody_is_left_who_uses_them(
    db: Database, few: Settings, minilm: Encoder, nights: list[Encoder]
) -> None:
    old = nights[0]
    with vectors_in_use(db, old.version):
        with vectors_in_use(db, old.version):
            embed_missing(db, old, few, Silent())
        build(db, minilm, few)
        assert len(load_vectors(db, old.version)[0]) == COUNT
    assert not is_held(db, vectors_lock(old.version))
    build(db, minilm, few)
    assert not has_vectors(db, old.version)


def test_that_the_server_forgot_the_lock_is_said_and_mended_by_another_run(
    db: Database, few: Settings, minilm: Encoder, nights: list[Encoder]
) -> None:
    old = nights[0]
    with embedding(db, old, few) as running:
        with db.connect(autocommit=True) as connection:
            ended = connection.execute(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_locks WHERE locktype = 'advisory'"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            ).fetchall()
        assert ended == [(True,)]
        build(db, minilm, few)
        assert not has_vectors(db, old.version)
    with pytest.raises(OvertakenError, match=f"of model version {old.version[:12]} were cleaned away"):
        running.result()
    assert embed_missing(db, old, few, Silent()).embedded == COUNT
