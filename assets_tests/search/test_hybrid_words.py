"""Words of code: split, stemmed, whole; kept in step with the texts; counted over what is live."""

from __future__ import annotations

import math

import psycopg
import pytest

from assets_tests.index.click_corpus import Function, add_functions, vanish
from pipeline.config import Settings
from pipeline.search.hybrid.words import LOOKED_UP, QueryWords, Word, count_words, idf, query_words
from pipeline.store import migrations
from pipeline.store.connections import Database

Functions = tuple[Function, ...]


def words(db: Database, text: str) -> dict[str, int]:
    """Each word with how often it stands there."""
    with db.connect() as connection:
        return dict(
            connection.execute(
                "SELECT lexeme, cardinality(positions) FROM unnest(code_words(%s))", [text]
            ).fetchall()
        )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("getHTTPResponse", {"get", "http", "respons", "gethttpresponse"}),
        ("get_http_response", {"get", "http", "respons", "gethttpresponse"}),
        ("GET_HTTP_RESPONSE", {"get", "http", "respons", "gethttpresponse"}),
        ("sha256", {"sha", "256", "sha256"}),
        ("utf8Decode", {"utf", "8", "decod", "utf8decode"}),
        ("HTTPServer", {"http", "server", "httpserver"}),
        ("parsing parsed parses", {"pars"}),
        ("__init__ _private a_", {"init", "privat"}),  # one word each; "a" is a stop word
        ("path/to/file.py", {"path", "file", "py"}),
        ("x->y::z(a&amp;b)", {"x", "y", "z", "amp", "b"}),
        ("user@host.com http://foo/bar?q=1", {"user", "host", "com", "http", "foo", "bar", "q", "1"}),
        ("the of and", set()),
        ("", set()),
        ("___", set()),
        ("größe 数据 naïve", {"größe", "数据", "naïv"}),
        ("Größe", {"größe"}),
    ],
)
def test_words_of(db: Database, text: str, expected: set[str]) -> None:
    assert set(words(db, text)) == expected


def test_repetition_is_counted_and_a_whole_identifier_is_no_repetition(db: Database) -> None:
    assert words(db, "readFile(read, READ, open_file)") == {
        "read": 3,
        "file": 2,
        "open": 1,
        "readfile": 1,
        "openfile": 1,
    }


@pytest.mark.parametrize(
    "text",
    [
        "word " * 100_000,
        "x" * 200_000,
        "".join(f"word{number:06d}Of " for number in range(40_000)),  # 40,000 different ones
        "_a" * 50_000,
        "aB" * 50_000,
        "\u20ac" * 60_000,
        "\U0001f642 " * 30_000,
        "'; DROP TABLE contents; --\\",
        "\x01\x02\x7f",
    ],
)
def test_any_text_has_words(db: Database, text: str) -> None:
    """None is too long, too varied or too strange; and so for the trigger that keeps them."""
    with db.connect() as connection:
        connection.execute("SET LOCAL statement_timeout = '20s'")
        connection.execute(
            "INSERT INTO contents (content_hash, text) VALUES (sha256(convert_to(%s, 'UTF8')), %s)",
            [text, text],
        )
        assert connection.execute("SELECT count(*) FROM content_words").fetchone() == (1,)


def test_words_follow_the_texts(db: Database, functions: Functions) -> None:
    add_functions(db, functions[:30])
    add_functions(db, functions[20:50], repository="again")  # some of them are known already
    with db.connect() as connection:
        rows = connection.execute(
            "SELECT words = code_words(text), length FROM contents"
            " LEFT JOIN content_words USING (content_hash)"
        ).fetchall()
        assert len(rows) == 50
        assert all(same and length > 0 for same, length in rows)
        lengths = connection.execute(
            "SELECT count(*) FROM content_words w WHERE length <>"
            " (SELECT sum(cardinality(positions)) FROM unnest(w.words))"
        ).fetchone()
        assert lengths == (0,)
        connection.execute("DELETE FROM snippets")
        connection.execute("DELETE FROM contents")
        assert connection.execute("SELECT count(*) FROM content_words").fetchone() == (0,)


def test_texts_from_before_the_migration_get_their_words(
    db: Database, settings: Settings, functions: Functions
) -> None:
    applied = migrations.apply(db.url, settings.sql_path).applied
    back = len([each for each in applied if each >= "0006"])
    migrations.revert(db.url, settings.sql_path, back)
    add_functions(db, functions[:20])
    migrations.apply(db.url, settings.sql_path)
    with db.connect() as connection:
        rows = connection.execute(
            "SELECT words = code_words(text) FROM contents JOIN content_words USING (content_hash)"
        ).fetchall()
    assert rows == [(True,)] * 20


def test_only_live_texts_are_counted(db: Database, functions: Functions) -> None:
    add_functions(db, functions)
    vanish(db, functions[100:])
    with db.connect() as connection:
        assert query_words(connection, "file").words == ()  # nothing was counted yet
        count_words(connection)
        having = {
            word: sum(word in words(db, f.code) for f in functions[:100])
            for word in ("file", "return", "path")
        }
        found = {each.word: each for each in query_words(connection, "return file path").words}
        assert {word: each.documents for word, each in found.items()} == having
        assert found["file"].weight == pytest.approx(
            math.log(1 + (100 - having["file"] + 0.5) / (having["file"] + 0.5))
        )
        mean = connection.execute(
            "SELECT avg(length) FROM content_words JOIN snippets USING (content_hash)"
            " WHERE vanished_at IS NULL"
        ).fetchone()
        assert mean is not None
        assert query_words(connection, "file").mean_length == pytest.approx(float(mean[0]))
        vanish(db, functions)
    with db.connect() as connection:
        count_words(connection)
        assert query_words(connection, "file").words == ()


def test_a_count_that_fails_leaves_the_old_one(db: Database, functions: Functions) -> None:
    add_functions(db, functions[:50])
    with db.connect() as connection:
        count_words(connection)
        before = query_words(connection, "file open path")
        connection.execute("ALTER TABLE word_corpus ADD CHECK (documents = 50)")
    add_functions(db, functions[50:60])
    with pytest.raises(psycopg.errors.CheckViolation), db.connect() as connection:
        count_words(connection)
    with db.connect() as connection:
        assert query_words(connection, "file open path") == before


def test_a_rarer_word_weighs_more_and_none_weighs_nothing() -> None:
    weights = [idf(documents, 1000) for documents in (1, 10, 100, 500, 999, 1000, 2000)]
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] > 0


def test_the_words_looked_up_are_rare_together() -> None:
    some = tuple(Word(f"w{n}", n, 1.0) for n in (1, 50, 100, LOOKED_UP))
    assert QueryWords(some, 1.0).looked_up == ("w1", "w50", "w100")
    assert QueryWords((Word("often", LOOKED_UP + 1, 1.0),), 1.0).looked_up == ()
