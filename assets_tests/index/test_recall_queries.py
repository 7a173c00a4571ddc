"""The queries that recall is measured with: embedded once, and again where what they document changed."""

from __future__ import annotations

import numpy as np
import pytest

from assets_tests.index.click_corpus import Function, add_functions
from pipeline.encoders.deferred import DeferredEncoder
from pipeline.encoders.encoder import Encoder
from pipeline.index.recall_queries import documentation_queries
from pipeline.promotion import registry
from pipeline.store.connections import Database

SAMPLE = 6


@pytest.fixture(autouse=True)
def _registered(db: Database, minilm: Encoder) -> None:
    registry.ensure_registered(db, minilm, "minilm")


def unloaded(minilm: Encoder) -> Encoder:
    """The same, of which nothing can be asked that needs its weights."""

    def load() -> Encoder:
        raise AssertionError("it was loaded")

    return DeferredEncoder(minilm.spec, minilm.version, "minilm", load)


def documentation(db: Database) -> list[str]:
    with db.connect() as connection:
        rows = connection.execute(
            "SELECT documentation FROM contents WHERE documentation IS NOT NULL ORDER BY content_hash"
            " LIMIT %s",
            [SAMPLE],
        ).fetchall()
    return [text for (text,) in rows]


def stored(db: Database) -> int:
    with db.connect() as connection:
        (count,) = connection.execute("SELECT count(*) FROM recall_queries").fetchone() or (0,)
    return count


def test_they_are_embedded_once(db: Database, minilm: Encoder, functions: tuple[Function, ...]) -> None:
    add_functions(db, functions)
    first = documentation_queries(db, minilm, SAMPLE)
    np.testing.assert_allclose(first, minilm.embed_queries(documentation(db)), rtol=0, atol=1e-6)
    assert first.dtype == np.float32
    again = documentation_queries(db, unloaded(minilm), SAMPLE)
    np.testing.assert_array_equal(again, first)


def test_only_what_is_new_or_damaged_is_embedded(
    db: Database, minilm: Encoder, functions: tuple[Function, ...]
) -> None:
    add_functions(db, functions)
    documentation_queries(db, minilm, SAMPLE)
    first, second, *_ = documentation(db)
    with db.connect() as connection:
        connection.execute(
            "UPDATE contents SET documentation = 'Opens a door for the cat.' WHERE documentation = %s",
            [first],
        )
        connection.execute(
            "UPDATE recall_queries SET vector = substr(vector, 1, 8) WHERE query_hash = sha256(%s::bytea)",
            [second.encode()],
        )
    with pytest.raises(AssertionError, match="it was loaded"):
        documentation_queries(db, unloaded(minilm), SAMPLE)
    found = documentation_queries(db, minilm, SAMPLE)
    np.testing.assert_allclose(found, minilm.embed_queries(documentation(db)), rtol=0, atol=1e-6)
    assert stored(db) == len(documentation(db))  # those that are asked no longer are gone


def test_where_nothing_is_documented_there_are_none(db: Database, minilm: Encoder) -> None:
    assert documentation_queries(db, unloaded(minilm), SAMPLE).shape == (0, minilm.dims)
