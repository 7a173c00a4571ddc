"""Looking snippets up and counting them."""

from __future__ import annotations

from pathlib import Path

from assets_tests.corpus.conftest import Extract
from assets_tests.corpus.making import function, write_tree
from pipeline.corpus.repositories import add_repository
from pipeline.corpus.store import corpus_counts, find_snippet, find_snippets
from pipeline.store.connections import Database

A, B, C = function("a"), function("b"), function("c")


def test_finding_snippets_by_place_and_name(db: Database, tmp_path: Path, extract: Extract) -> None:
    long = (
        "def long(value):\n"
        + "".join(f"    value = compute_{n}(value, {n})\n" for n in range(120))
        + "    return value\n"
    )
    files = {"x.py": f"{A}\n\nclass Thing:\n    def method(self):\n        return 1\n\n\n{long}", "y.py": B}
    extract("code", write_tree(tmp_path / "code", files))
    extract("other", write_tree(tmp_path / "other", {"x.py": C}))
    with db.connect() as connection:
        rows = connection.execute("SELECT symbol, id, content_hash FROM snippets").fetchall()
        by_symbol = {symbol: (id_, bytes(content)) for symbol, id_, content in rows}
        assert find_snippet(connection, "code", "x.py", "Thing.method") == by_symbol["Thing.method"][0]
        assert find_snippet(connection, "other", "x.py", None) == by_symbol["c"][0]
        for missing in (
            ("code", "x\0.py", None),
            ("code", "x.py", "\ud800"),
            ("code", "x.py", "b"),
            ("code", "z.py", None),
            ("nope", "x.py", None),
            ("other", "x.py", "a"),
        ):
            assert find_snippet(connection, *missing) is None
            assert find_snippets(connection, *missing) == []
        assert find_snippets(connection, "code", "y.py", "b") == [by_symbol["b"]]
        parts = find_snippets(connection, "code", "x.py", "long")
        assert parts[:2] == [by_symbol["long"], by_symbol["long@2"]]
        assert len(parts) == sum(1 for symbol in by_symbol if symbol.partition("@")[0] == "long") >= 2
        whole = find_snippets(connection, "code", "x.py", None)
        assert set(parts) < set(whole)
        assert find_snippet(connection, "code", "x.py", None) == whole[0][0]


def test_vanished_snippets_are_not_found(db: Database, tmp_path: Path, extract: Extract) -> None:
    extract("code", write_tree(tmp_path / "code", {"a.py": A, "b.py": B}))
    (tmp_path / "code" / "a.py").unlink()
    extract("code")
    with db.connect() as connection:
        assert find_snippet(connection, "code", "a.py", "a") is None
        assert find_snippets(connection, "code", "a.py", None) == []


def test_counting_the_corpus(db: Database, tmp_path: Path, extract: Extract) -> None:
    with db.connect() as connection:
        nothing = corpus_counts(connection)
    assert (nothing.repositories, nothing.snippets, nothing.by_repository, nothing.by_kind) == (0, 0, {}, {})
    one_report = extract(
        "one", write_tree(tmp_path / "one", {"a.py": A, "b.js": "function b(x) {\n  return x\n}\n"})
    )
    two_report = extract("two", write_tree(tmp_path / "two", {"a.py": A}))
    add_repository(db, "unread", "click")
    with db.connect() as connection:
        counts = corpus_counts(connection)
    assert counts.by_repository == {
        "one": one_report.snippets_live,
        "two": two_report.snippets_live,
        "unread": 0,
    }
    assert counts.snippets == one_report.snippets_live + two_report.snippets_live
    assert counts.contents == counts.snippets - two_report.snippets_live
    assert (counts.repositories, counts.files, counts.vanished) == (3, 3, 0)
    assert sum(counts.by_language.values()) == sum(counts.by_kind.values()) == counts.snippets
    assert set(counts.by_language) == {"python", "javascript"}
