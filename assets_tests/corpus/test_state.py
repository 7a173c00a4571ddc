"""The fingerprint of what is live: the same for the same, another for anything else."""

from __future__ import annotations

from typing import LiteralString

import pytest

from assets_tests.index.click_corpus import add_functions, some_functions, vanish
from pipeline.corpus.state import live_fingerprint
from pipeline.store.connections import Database

FUNCTIONS = some_functions()[:6]


@pytest.fixture
def code(db: Database) -> Database:
    add_functions(db, FUNCTIONS)
    return db


def test_nothing_is_a_state_too(code: Database) -> None:
    found = live_fingerprint(code)
    vanish(code, FUNCTIONS)
    nothing = live_fingerprint(code)
    assert len(found) == len(nothing) == 64
    assert found != nothing
    vanish(code, FUNCTIONS[::-1], back=True)
    assert live_fingerprint(code) == found  # whatever order the rows are in now


@pytest.mark.parametrize(
    "change",
    [
        "path = path || 'x'",
        "symbol = symbol || 'x'",
        "content_hash = (SELECT max(content_hash) FROM contents)",
        "repository_id = (SELECT max(id) FROM repositories)",
        "vanished_at = now()",
    ],
)
def test_whatever_changes_shows(code: Database, change: LiteralString) -> None:
    add_functions(code, some_functions()[6:7], repository="other")
    before = live_fingerprint(code)
    with code.connect() as connection:
        connection.execute(
            f"UPDATE snippets SET {change} WHERE id = (SELECT min(id) FROM snippets"
            " WHERE content_hash <> (SELECT max(content_hash) FROM contents))"
        )
    assert live_fingerprint(code) != before


def test_of_one_repository_the_others_do_not_count(code: Database) -> None:
    add_functions(code, some_functions()[6:9], repository="other")
    with code.connect() as connection:
        ids = dict(connection.execute("SELECT name, id FROM repositories").fetchall())
    before = [live_fingerprint(code, ids[name]) for name in ("click", "other")]
    vanish(code, some_functions()[6:7])
    after = [live_fingerprint(code, ids[name]) for name in ("click", "other")]
    assert before[0] == after[0]
    assert len({*before, *after}) == 3


def test_where_a_name_ends_counts(code: Database) -> None:
    """Nothing can be moved from a path to a symbol unseen."""
    with code.connect() as connection:
        connection.execute("UPDATE snippets SET path = 'ab', symbol = 'c' || symbol")
    before = live_fingerprint(code)
    with code.connect() as connection:
        connection.execute("UPDATE snippets SET path = 'abc', symbol = substr(symbol, 2)")
    assert live_fingerprint(code) != before
