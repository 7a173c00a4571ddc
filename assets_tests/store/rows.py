"""Rows for every table, as a team's database has them, by the schema of each migration in turn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from pipeline.index.tables import VectorTable, create_table, state_model
from pipeline.store.migrations import tables_in

Connection = psycopg.Connection[Any]
Everything = dict[str, list[str]]

BASE, TUNED = "a" * 64, "b" * 64
READ = 'def read(path):\n    """Reads a file\'s lines."""\n    return open(path).readlines()\n'
CLOSE = "def close(file):\n\tfile.close()  # \\N is no NULL; ünïcödé 🐍\n"
GONE = "def gone(): pass"
SEARCH, IMPORTED = "6b3f0c1e-0000-4000-8000-000000000001", "6b3f0c1e-0000-4000-8000-000000000002"
LATER = "2026-03-01 03:04:05.678901+00"


def hashed(text: str) -> str:
    """SHA-256 as a literal of Postgres."""
    return f"\\x{hashlib.sha256(text.encode()).hexdigest()}"


def _code(c: Connection) -> None:
    c.execute(
        "INSERT INTO repositories (name, kind, location, ref, commit_id, extracted_at, report) VALUES"
        " ('mine', 'git', '/code/mïne ''own''', 'main', 'c0ffee', now(), '{\"snippets_live\": 2}'),"
        " ('other', 'directory', '/code/other', NULL, NULL, NULL, '{}')"
    )
    c.execute(
        "INSERT INTO files VALUES (1, 'a/rêad.py', 'b10b', 'python', 'x 1', NULL, 1, 'a place'),"
        " (1, 'gone.py', 'b10c', 'python', 'x 1', NULL, 0, NULL),"
        " (1, 'big.py', 'b10d', NULL, 'x', 'too large', 0, NULL)"
    )
    for number, text in enumerate((READ, CLOSE, GONE)):
        c.execute(
            "INSERT INTO contents VALUES (%s, %s, %s, %s)",
            [
                hashed(text),
                text,
                "Reads a file's lines." if number == 0 else None,
                None if number else "def read…",
            ],
        )
        c.execute(
            "INSERT INTO snippets (repository_id, path, symbol, kind, language, signature, code, start_line,"
            " end_line, commit_id, content_hash, vanished_at)"
            " VALUES (1, %s, %s, 'function', 'python', 'def', %s, 1, 3, 'c0ffee', %s, %s)",
            [
                "gone.py" if text == GONE else "a/rêad.py",
                f"f{number}",
                text,
                hashed(text),
                LATER if text == GONE else None,
            ],
        )


def _models(c: Connection) -> None:
    c.execute(
        "INSERT INTO model_versions (version, name, spec, dims, location, state, base_version, lineage,"
        " metrics)"
        " VALUES (%s, 'minilm', '{}', 3, 'minilm', 'retired', NULL, '{}', '{}'),"
        " (%s, 'minilm-bbbb', '{\"name\": \"minilm\"}', 3, '/home/checkpoints/' || repeat('b', 64),"
        " 'serving', %s,"
        ' \'{"seed": 17, "history": [{"step": 1, "loss": 0.25}]}\', \'{"evaluation": {"ndcg@10": 0.5}}\')',
        [BASE, TUNED, BASE],
    )
    c.execute(
        "INSERT INTO model_events (version, from_state, to_state, actor, reasons) VALUES"
        " (%s, NULL, 'base', 'registry', '[]'), (%s, 'candidate', 'serving', 'gate', '[\"better\"]')",
        [BASE, TUNED],
    )
    for number, (version, state) in enumerate(
        ((BASE, "retired"), (TUNED, "serving"), (TUNED, "failed")), start=1
    ):
        name = None if state == "failed" else f"index_{number}"
        c.execute(
            "INSERT INTO index_versions (model_version, table_name, state, dims, row_count, recall_at_10,"
            " recall_sample, parameters, previous_id) VALUES (%s, %s, %s, 3, 1, 0.99, 50, '{\"m\": 16}', %s)",
            [version, name, state, 1 if number == 2 else None],
        )
        if name is not None:
            _vectors(c, VectorTable(name, version, 3))
    for version in (BASE, TUNED):
        table = VectorTable(f"embeddings_{version[:1]}", version, 3)
        c.execute("INSERT INTO embedding_tables VALUES (%s, %s, 3)", [version, table.name])
        _vectors(c, table)


def _vectors(c: Connection, table: VectorTable) -> None:
    create_table(c, table)
    state_model(c, table.model_version)
    c.execute(sql.SQL("INSERT INTO {} VALUES (%s, '[1,0,0]')").format(table.identifier), [hashed(READ)])


def _judged(c: Connection) -> None:
    c.execute(
        "INSERT INTO searches (id, query, source, user_name, filters, model_version, index_version_id,"
        " latency_ms, import_key) VALUES"
        " (%s, E'read \"lines\" \\\\ of\\na file', 'search', 'ann', '{\"k\": 10}', %s, 2, 12.5, NULL),"
        " (%s, 'close it', 'import', 'bob', '{}', NULL, NULL, NULL, '\\x01')",
        [SEARCH, TUNED, IMPORTED],
    )
    c.execute(
        "INSERT INTO impressions (search_id, snippet_id, rank, score) VALUES"
        " (%(s)s, 1, 1, 0.75), (%(s)s, 3, 2, 0.5), (%(i)s, 2, NULL, NULL)",
        {"s": SEARCH, "i": IMPORTED},
    )
    c.execute(
        "INSERT INTO feedback (search_id, snippet_id, judgement, dwell_ms, user_name, at, import_key) VALUES"
        " (%(s)s, 3, 'reject', 11000, NULL, '2026-01-02 03:04:05+02', NULL), (%(s)s, 1, 'accept', NULL,"
        " 'ann', now(), NULL),"
        " (%(i)s, 2, 'click', NULL, NULL, now(), '\\x02'), (%(i)s, 2, 'reject', NULL, NULL, now(), '\\x03')",
        {"s": SEARCH, "i": IMPORTED},
    )
    c.execute("DELETE FROM feedback WHERE import_key = '\\x03'")  # its number must not be given again


def _learned(c: Connection) -> None:
    for number in (1, 2):  # no model learned from the first, and it is not the newest
        c.execute(
            "INSERT INTO training_sets (fingerprint, pairs_fingerprint, model_version, counts, settings)"
            " VALUES (%s, %s, %s, '{\"train\": 1}', '{\"seed\": 17}')",
            [f"set {number}", f"pairs {number}", BASE],
        )
        c.execute(
            "INSERT INTO training_pairs (training_set_id, split, origin, query, positive_hash, positive_text,"
            " weight, language, group_key) VALUES (%s, 'train', 'feedback', 'read lines', %s, %s, 0.95,"
            " 'python', '\\x07')",
            [number, hashed(READ), READ],
        )
        c.execute(
            "INSERT INTO training_negatives (pair_id, negative_hash, negative_text, reason, positive_score,"
            " negative_score) VALUES (%s, %s, %s, 'rejected', NULL, 0.3)",
            [number, hashed(GONE), GONE],
        )
    c.execute("UPDATE model_versions SET training_set_id = 2 WHERE version = %s", [TUNED])
    c.execute(
        "INSERT INTO evaluations (model_version, test_set, queries, corpus, metrics)"
        " VALUES (%s, 'test set', 1, 3, '{\"ndcg@10\": {\"mean\": 0.5}}')",
        [TUNED],
    )
    c.execute(
        "INSERT INTO evaluation_queries (evaluation_id, query_key, query, origin, language, rank, metrics)"
        " VALUES (1, '\\x0b', 'read lines', 'feedback', 'python', 2, '{\"mrr@10\": 0.5}')"
    )


def _clients(c: Connection) -> None:
    c.execute("UPDATE searches SET client = 'web' WHERE source = 'search'")


def _words(c: Connection) -> None:
    c.execute("INSERT INTO word_documents VALUES ('read', 2)")
    c.execute("INSERT INTO word_corpus (documents, mean_length) VALUES (3, 4.5)")
    c.execute(
        "INSERT INTO ranking_weights (model_version, weight, evidence) VALUES (%s, 0.15, '{\"queries\": 9}')",
        [TUNED],
    )


def _quality(c: Connection) -> None:
    c.execute("UPDATE training_negatives SET weight = 0.3125 WHERE pair_id = 2")
    c.execute("UPDATE searches SET expired_at = %s, user_name = NULL WHERE id = %s", [LATER, IMPORTED])
    c.execute("INSERT INTO search_days VALUES ('2026-01-01', 'web', 7, 2, 3, 1, 1, 1)")
    c.execute("INSERT INTO search_day_ranks VALUES ('2026-01-01', 'web', 1, 7, 3)")
    c.execute(
        "INSERT INTO forgotten (salt, name_hash) VALUES ('\\x00112233445566778899aabbccddeeff', sha256('x'))"
    )


def _commits(c: Connection) -> None:
    c.execute("INSERT INTO commit_histories (repository_id, tip, depth, rules) VALUES (1, 'c0ffee', 2, 'r1')")
    c.execute(
        "INSERT INTO commits VALUES (1, 'c0ffee', now(), 'Read lines', NULL), (1, 'c0fff0', now(), NULL,"
        " 'a merge')"
    )
    c.execute("INSERT INTO commit_functions VALUES (1, 'c0ffee', 'a/rêad.py', 'f0', 'def read…', 0.5, false)")
    c.execute(
        "UPDATE training_pairs SET because = '{\"people\": 2}', copy_group = sha256('g'), spared ="
        " ARRAY[sha256('s')]"
        " WHERE id = 2"
    )
    c.execute("UPDATE training_negatives SET copy_group = sha256('n') WHERE pair_id = 2")


def _evidence(c: Connection) -> None:
    hashes = b"".join(sorted(hashlib.sha256(text.encode()).digest() for text in (READ, CLOSE, GONE)))
    corpus = hashlib.sha256(hashes).digest()
    c.execute("INSERT INTO measured_corpora VALUES (%s, 3, %s)", [corpus, hashes])
    c.execute("INSERT INTO measured_texts VALUES (%s, 'no content')", [hashed("no content")])
    c.execute(
        "INSERT INTO test_sets (name, rules, queries, corpus) VALUES ('test set', '2', 1, %s)", [corpus]
    )
    c.execute(
        "INSERT INTO test_set_queries VALUES ('test set', '\\x0b', 'read lines', 'feedback', 'python',"
        " 'mine',"
        " ARRAY[%(read)s::bytea], ARRAY[%(text)s::bytea], ARRAY[%(read)s::bytea, %(gone)s::bytea])",
        {"read": hashed(READ), "text": hashed("no content"), "gone": hashed(GONE)},
    )
    c.execute("INSERT INTO general_test_sets (test_set, reason) VALUES ('test set', 'the first')")
    c.execute(
        "UPDATE evaluation_queries SET repository = 'mine', words = 2, answer = %(read)s, top ="
        " ARRAY[%(read)s::bytea]",
        {"read": hashed(READ)},
    )
    c.execute(
        "INSERT INTO verdicts (model_version, serving_version, test_set, decision, content)"
        " VALUES (%s, %s, 'test set', 'approved', %s)",
        [TUNED, BASE, json.dumps({"decision": "approved", "serving_version": BASE, "test_set": "test set"})],
    )
    c.execute(
        "UPDATE model_versions SET metrics = metrics || jsonb_build_object('verdict',"
        " (SELECT content FROM verdicts)) WHERE version = %s",
        [TUNED],
    )
    c.execute("INSERT INTO interleavings VALUES (%s, %s, %s)", [SEARCH, TUNED, BASE])
    c.execute("UPDATE impressions SET team = 'candidate' WHERE search_id = %s AND rank = 2", [SEARCH])


def _challengers(c: Connection) -> None:
    c.execute(
        "INSERT INTO challengers (model_version, since, until) VALUES (%(v)s, '2026-01-01', '2026-01-09'),"
        " (%(v)s, '2026-02-01', NULL)",
        {"v": BASE},
    )


def _crowding(c: Connection) -> None:
    c.execute(
        "INSERT INTO ranking_weights (model_version, weight, crowding, evidence)"
        " VALUES (%s, 0.125, 0.25, '{\"queries\": 10}')",
        [TUNED],
    )


def _ranked(c: Connection) -> None:
    c.execute("UPDATE test_sets SET words = 0.125, crowding = 0.25")


def _frozen_words(c: Connection) -> None:
    c.execute(
        "UPDATE test_set_queries SET words = '{read,lines}', word_documents = '{1,2}',"
        " word_weights = '{1.5,0.5}', mean_length = 12.25"
    )


def _expired_names(c: Connection) -> None:
    c.execute("INSERT INTO expired_names VALUES ('ann', 'expired-0123456789abcdef')")


def _recall_queries(c: Connection) -> None:
    c.execute("INSERT INTO recall_queries VALUES (%s, sha256('read lines'), '\\x0000803f')", [BASE])


FILL: dict[str, Callable[[Connection], None]] = {
    "0001.corpus": _code,
    "0002.models-and-indexes": _models,
    "0003.searches-and-feedback": _judged,
    "0004.training-and-evaluation": _learned,
    "0005.clients": _clients,
    "0006.words": _words,
    "0007.feedback-quality": _quality,
    "0008.training-data": _commits,
    "0009.evaluation-evidence": _evidence,
    "0011.challengers": _challengers,
    "0013.crowding": _crowding,
    "0014.ranked-as-searches": _ranked,
    "0015.frozen-words": _frozen_words,
    "0016.expired-names": _expired_names,
    "0017.recall-queries": _recall_queries,
}


def fill(connection: Connection, migrations: tuple[str, ...] | list[str]) -> None:
    """Rows in every table that these migrations make."""
    for name in migrations:
        FILL.get(name, lambda _: None)(connection)


def everything(connection: Connection, sql_path: Any) -> Everything:
    """Every row of every table that migrations make, as JSON, in a stable order."""
    connection.execute("SET LOCAL timezone = 'UTC'")
    found: Everything = {}
    for name in tables_in(sql_path):
        if connection.execute("SELECT to_regclass(%s)", [name]).fetchone() == (None,):
            continue
        rows = connection.execute(sql.SQL("SELECT to_jsonb(t)::text FROM {} t").format(sql.Identifier(name)))
        found[name] = sorted(row[0] for row in rows.fetchall())
    return found
