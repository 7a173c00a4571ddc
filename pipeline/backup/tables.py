"""What of the database is kept: every table but those that are made again, and of code only what is
referred to.

A table that a later migration adds is kept whole, unless it is named here. What people were shown stays
with its code, so that what they said of it can be shown and learned from when the source has changed since;
so does what training sets and frozen test sets are made of. All other code is read again from its source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

from psycopg import sql

from pipeline.store.connections import Connection
from pipeline.store.migrations import tables_in

# Made again by `honeloop index`, or by a trigger as contents come in. (Tables of vectors no migration makes.)
MADE_AGAIN = ("embedding_tables", "recall_queries", "content_words", "word_documents", "word_corpus")

# A repository was not read in the new home, a file of it is not known by its bytes there, and no index is.
_VALUES: dict[tuple[str, str], LiteralString] = {
    ("repositories", "commit_id"): "NULL",
    ("repositories", "extracted_at"): "NULL",
    ("repositories", "report"): "'{}'",
    ("files", "blob_hash"): "''",
    ("index_versions", "table_name"): "NULL",
    ("index_versions", "state"): "CASE state WHEN 'failed' THEN state ELSE 'dropped' END",
}

_SNIPPETS = "SELECT id FROM snippets WHERE id IN (SELECT snippet_id FROM impressions) OR id = ANY({shown})"
# Those that a model learned from, the newest, and the one that Dagster knows as the last.
_SETS = (
    "SELECT id FROM training_sets WHERE id IN (SELECT training_set_id FROM model_versions)"
    " OR id = (SELECT max(id) FROM training_sets) OR id = ANY({sets})"
)
_PAIRS = f"SELECT id FROM training_pairs WHERE training_set_id IN ({_SETS})"
_ROWS: dict[str, LiteralString] = {
    "snippets": f"id IN ({_SNIPPETS})",
    "files": f"(repository_id, path) IN (SELECT repository_id, path FROM snippets WHERE id IN ({_SNIPPETS}))",
    "training_sets": f"id IN ({_SETS})",
    "training_pairs": f"id IN ({_PAIRS})",
    "training_negatives": f"pair_id IN ({_PAIRS})",
    "contents": f"content_hash IN (SELECT content_hash FROM snippets WHERE id IN ({_SNIPPETS})"
    f" UNION SELECT positive_hash FROM training_pairs WHERE training_set_id IN ({_SETS})"
    f" UNION SELECT negative_hash FROM training_negatives WHERE pair_id IN ({_PAIRS})"
    " UNION SELECT substr(hashes, 32 * place + 1, 32)"
    "  FROM measured_corpora, generate_series(0, contents - 1) AS place"
    " UNION SELECT unnest(relevant || ranked_by || triplets) FROM test_set_queries)",
}

_TABLES = """
SELECT c.relname, array_agg(a.attname ORDER BY a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relname = ANY(%s)
    AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
GROUP BY c.relname ORDER BY c.relname
"""

_IDENTITIES = """
SELECT c.relname, a.attname, pg_get_serial_sequence(quote_ident(c.relname), a.attname)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relname = ANY(%s)
    AND a.attidentity <> '' ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Identity:
    """A column that numbers itself, and its sequence."""

    table: str
    column: str
    sequence: str

    @property
    def name(self) -> str:
        """As a manifest has it."""
        return f"{self.table}.{self.column}"


@dataclass(frozen=True)
class Referred:
    """What is referred to from outside the tables: snippets shown in searches that wait, training sets."""

    snippets: Sequence[int] = ()
    training_sets: Sequence[int] = ()


def kept_tables(connection: Connection, sql_path: Path) -> dict[str, tuple[str, ...]]:
    """The columns of each table that is kept and there, by its name; `sql_path` holds the migrations."""
    kept = [name for name in tables_in(sql_path) if name not in MADE_AGAIN]
    return {name: tuple(columns) for name, columns in connection.execute(_TABLES, [kept])}


def identities(connection: Connection, tables: Sequence[str]) -> list[Identity]:
    """The columns of these tables that number their rows."""
    return [Identity(*row) for row in connection.execute(_IDENTITIES, [list(tables)])]


def rows_of(table: str, columns: Sequence[str], referred: Referred) -> sql.Composed:
    """The query for what is kept of a table, in the newest schema."""
    values = [
        sql.SQL(_VALUES[table, column]) if (table, column) in _VALUES else sql.Identifier(column)
        for column in columns
    ]
    names: Mapping[str, sql.Composable] = {
        "shown": _numbers(referred.snippets),
        "sets": _numbers(referred.training_sets),
    }
    condition = sql.SQL(_ROWS.get(table, "true")).format(**names)
    return sql.SQL("SELECT {} FROM {} WHERE {}").format(
        sql.SQL(", ").join(values), sql.Identifier(table), condition
    )


def _numbers(ids: Sequence[int]) -> sql.Composed:
    return sql.SQL("{}::bigint[]").format(sql.Literal(f"{{{','.join(map(str, ids))}}}"))


def as_written_everywhere(connection: Connection) -> None:
    """Makes COPY's text the same on every server, for the connection's transaction."""
    connection.execute(
        "SELECT set_config('client_encoding', 'UTF8', true), set_config('datestyle', 'ISO', true),"
        " set_config('timezone', 'UTC', true), set_config('intervalstyle', 'postgres', true),"
        " set_config('bytea_output', 'hex', true), set_config('extra_float_digits', '1', true)"
    )
