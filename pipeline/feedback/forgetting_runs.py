"""Queries in the records of past runs: Dagster keeps the tables its assets were described with.

Two of them have a column of queries: sample triplets, and the queries that moved most between two models.
Besides, a run of the whole loop keeps its account (`RunResult`, defs/results.py), whose examples are
searches. Only these cells are replaced; everything else of a run's record stays as it was. SQL alone: this
room knows nothing of Dagster.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from pipeline.config import Settings
from pipeline.feedback.forgetting_store import FORGOTTEN
from pipeline.store.connections import Connection
from pipeline.store.server import dagster_database, database_url

# Where a record of a materialization is kept, and under which column.
_PLACES = (("event_logs", "event"), ("asset_keys", "last_materialization"))
_HEADING = "| query |"
# What the account of a whole loop calls its examples: the query, the results before, and after, each.
_EXAMPLES = "examples"
_CELL = re.compile(r"(?<!\\)\|")
# What a heading is told by: a sample of code may have the heading in its documentation, and no table.
_DELIMITER = re.compile(r"\s*\|(\s*:?-+:?\s*\|)+\s*")


def redact_runs(connection: Connection, settings: Settings, is_theirs: Callable[[str], bool]) -> int:
    """Replaces queries in the records of past runs; all of them, or none if it fails.

    Args:
        connection: To Honeloop's own database, on the same server.
        settings: Say where Dagster's is; if there is none, no run was ever recorded.
        is_theirs: Whether a query, perhaps cut off with an ellipsis, is one to forget.

    Returns:
        How many records were changed.
    """
    name = dagster_database(settings)
    if connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
        return 0
    changed = 0
    with psycopg.connect(database_url(settings, name)) as runs:
        for table, column in _PLACES:
            if runs.execute("SELECT to_regclass(%s)", [table]).fetchone() != (None,):
                changed += _redact_column(runs, sql.Identifier(table), sql.Identifier(column), is_theirs)
    return changed


def _redact_column(
    connection: psycopg.Connection[Any],
    table: sql.Identifier,
    column: sql.Identifier,
    is_theirs: Callable[[str], bool],
) -> int:
    changed = 0
    rows = connection.execute(
        sql.SQL("SELECT id, {} FROM {} WHERE {} LIKE ANY(%s)").format(column, table, column),
        [[f"%{_HEADING}%", f'%"{_EXAMPLES}"%']],
    ).fetchall()
    for number, text in rows:
        redacted = json.dumps(_redacted(json.loads(text), is_theirs))
        if redacted != json.dumps(json.loads(text)):
            connection.execute(
                sql.SQL("UPDATE {} SET {} = %s WHERE id = %s").format(table, column), [redacted, number]
            )
            changed += 1
    return changed


def _redacted(value: Any, is_theirs: Callable[[str], bool]) -> Any:
    if isinstance(value, dict):
        return {
            key: _redacted(_redacted_examples(each, is_theirs) if key == _EXAMPLES else each, is_theirs)
            for key, each in value.items()  # pyright: ignore
        }
    if isinstance(value, list):
        return [_redacted(each, is_theirs) for each in value]  # pyright: ignore
    if isinstance(value, str) and _HEADING in value:
        return redacted_table(value, is_theirs)
    return value


def _redacted_examples(examples: Any, is_theirs: Callable[[str], bool]) -> Any:
    """With those queries replaced; what is of another form is something else, and left as it is."""
    if not isinstance(examples, list):
        return examples
    return [
        [FORGOTTEN, *each[1:]]  # pyright: ignore
        if isinstance(each, list) and each and isinstance(each[0], str) and is_theirs(each[0])
        else each
        for each in examples  # pyright: ignore
    ]


def redacted_table(markdown: str, is_theirs: Callable[[str], bool]) -> str:
    """Markdown with the cells of a table's column `query` replaced where they are to be forgotten.

    Whatever has no such table, a sample of code say, is left as it is.
    """
    lines = markdown.split("\n")
    place: int | None = None
    for number, line in enumerate(lines):
        cells = _CELL.split(line)
        names = [cell.strip() for cell in cells]
        if "query" in names and _DELIMITER.fullmatch("".join(lines[number + 1 : number + 2])):
            place = names.index("query")
        elif place is not None and place < len(cells):
            query = cells[place].strip().replace("\\|", "|").replace("<br>", "\n")
            if is_theirs(query):
                cells[place] = f" {FORGOTTEN} "
                lines[number] = "|".join(cells)
    return "\n".join(lines)
