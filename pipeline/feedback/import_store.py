"""The statements of an import: receive the lines, look up what they name, add what is new."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from pipeline.store.connections import Connection
from pipeline.store.cursors import server_cursor

_RECEIVING_TABLE = """
CREATE TEMPORARY TABLE incoming (
    line bigint, original bytea, reason text,
    query text, user_name text, repository text, path text, symbol text, judgement text, at timestamptz,
    search_key bytea, repository_id bigint, snippet_id bigint, import_key bytea
) ON COMMIT DROP
"""
_RECEIVE = """
COPY incoming (line, original, reason, query, user_name, repository, path, symbol, judgement, at, search_key)
FROM STDIN
"""

_LOOK_UP = (
    # No index: a path may be longer than an index takes, and hash joins do without.
    "ANALYZE incoming",
    """
    UPDATE incoming SET repository_id = repositories.id
    FROM repositories WHERE repositories.name = incoming.repository
    """,
    """
    UPDATE incoming SET snippet_id = snippets.id
    FROM snippets
    WHERE incoming.symbol = snippets.symbol AND incoming.path = snippets.path
        AND incoming.repository_id = snippets.repository_id AND snippets.vanished_at IS NULL
    """,
    # The first snippet of a file; of two that begin on one line, the outer one.
    """
    UPDATE incoming SET snippet_id = first.id
    FROM (
        SELECT DISTINCT ON (repository_id, path) repository_id, path, snippets.id
        FROM snippets
        JOIN (SELECT DISTINCT repository_id, path FROM incoming WHERE symbol IS NULL) AS named
            USING (repository_id, path)
        WHERE vanished_at IS NULL
        ORDER BY repository_id, path, start_line, end_line DESC, snippets.id
    ) AS first
    WHERE incoming.symbol IS NULL
        AND incoming.repository_id = first.repository_id AND incoming.path = first.path
    """,
    """
    UPDATE incoming SET reason = CASE
        WHEN repository_id IS NULL THEN format('unknown repository: %s is not registered', repository)
        WHEN NOT EXISTS (SELECT FROM snippets s
                WHERE s.repository_id = incoming.repository_id AND s.path = incoming.path)
            THEN format('unknown path: %s has no file %s with snippets', repository, path)
        WHEN NOT EXISTS (SELECT FROM snippets s
                WHERE s.repository_id = incoming.repository_id AND s.path = incoming.path
                    AND s.vanished_at IS NULL)
            THEN format('unknown path: %s is no longer in %s', path, repository)
        WHEN EXISTS (SELECT FROM snippets s
                WHERE s.repository_id = incoming.repository_id AND s.path = incoming.path
                    AND s.symbol = incoming.symbol)
            THEN format('unknown symbol: %s is no longer in %s of %s', symbol, path, repository)
        ELSE format('unknown symbol: %s of %s has no %s', path, repository, symbol)
    END
    WHERE reason IS NULL AND snippet_id IS NULL
    """,
)

# `turn` tells apart what importing.py's docstring says is to be told apart.
_NAME_EACH_LINE = """
WITH turned AS (
    SELECT *, lag(judgement) OVER (
        PARTITION BY search_key, snippet_id, at IS NULL, judgement = 'click' ORDER BY line
    ) IS DISTINCT FROM judgement AS turns
    FROM incoming WHERE reason IS NULL
), numbered AS (
    SELECT line, CASE
        WHEN user_name IS NULL THEN row_number() OVER same
        WHEN at IS NULL THEN sum(turns::int) OVER same
        ELSE 1
    END AS turn
    FROM turned
    WINDOW same AS (PARTITION BY search_key, snippet_id, judgement, at ORDER BY line)
)
UPDATE incoming SET import_key = sha256(search_key || convert_to(
    format('%s %s %s %s', snippet_id, judgement, extract(epoch FROM at), turn), 'UTF8'))
FROM numbered WHERE numbered.line = incoming.line
"""

_ADD_SEARCHES = """
INSERT INTO searches (query, source, user_name, import_key, at)
SELECT query, 'import', user_name, search_key, coalesce(min(at), now())
FROM incoming WHERE reason IS NULL
GROUP BY query, user_name, search_key ORDER BY min(line)
ON CONFLICT (import_key) DO NOTHING
"""
_ADD_IMPRESSIONS = """
INSERT INTO impressions (search_id, snippet_id)
SELECT DISTINCT searches.id, incoming.snippet_id
FROM incoming JOIN searches ON searches.import_key = incoming.search_key
WHERE reason IS NULL
ON CONFLICT DO NOTHING
"""
_ADD_FEEDBACK = """
INSERT INTO feedback (search_id, snippet_id, judgement, user_name, at, import_key)
SELECT searches.id, incoming.snippet_id, incoming.judgement, incoming.user_name,
    coalesce(incoming.at, now()), incoming.import_key
FROM incoming JOIN searches ON searches.import_key = incoming.search_key
WHERE reason IS NULL
ORDER BY line
ON CONFLICT (import_key) DO NOTHING
"""


@dataclass(frozen=True)
class Row:
    """One line of the file: with a reason, or else with what it says."""

    line: int
    original: bytes
    reason: str | None = None
    query: str | None = None
    user_name: str | None = None
    repository: str | None = None
    path: str | None = None
    symbol: str | None = None
    judgement: str | None = None
    at: datetime | None = None
    search_key: bytes | None = None


@dataclass(frozen=True)
class Added:
    """How many lines could be used, and how many of them said something new."""

    usable: int
    added: int


def receive(connection: Connection, rows: Iterable[Row]) -> None:
    """Takes the lines into a temporary table of this transaction, streaming."""
    connection.execute(_RECEIVING_TABLE)
    with connection.cursor() as cursor, cursor.copy(_RECEIVE) as copy:
        for row in rows:
            copy.write_row(
                (
                    row.line,
                    row.original,
                    row.reason,
                    row.query,
                    row.user_name,
                    row.repository,
                    row.path,
                    row.symbol,
                    row.judgement,
                    row.at,
                    row.search_key,
                )
            )


def look_up(connection: Connection) -> None:
    """Finds each line's snippet, or says why there is none."""
    for statement in _LOOK_UP:
        connection.execute(statement)  # pyright: ignore[reportArgumentType, reportCallIssue]


def add(connection: Connection) -> Added:
    """Adds the searches, impressions and feedback that are new."""
    usable = connection.execute(_NAME_EACH_LINE).rowcount
    connection.execute(_ADD_SEARCHES)
    connection.execute(_ADD_IMPRESSIONS)
    return Added(usable=usable, added=connection.execute(_ADD_FEEDBACK).rowcount)


def rejection_counts(connection: Connection) -> dict[str, int]:
    """How many lines were set aside for each kind of reason, the most frequent first."""
    rows = connection.execute(
        "SELECT split_part(reason, ':', 1), count(*) FROM incoming WHERE reason IS NOT NULL "
        "GROUP BY 1 ORDER BY 2 DESC, 1"
    ).fetchall()
    return dict(rows)


def rejections(connection: Connection) -> Iterator[tuple[int, str, bytes]]:
    """Line number, reason and original of each line set aside, in the file's order, streaming."""
    with server_cursor(connection, "rejections") as cursor:
        cursor.execute("SELECT line, reason, original FROM incoming WHERE reason IS NOT NULL ORDER BY line")
        yield from cursor
