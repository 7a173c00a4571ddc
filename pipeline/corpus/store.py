"""The corpus in Postgres: which files were read, their snippets, and looking snippets up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any, LiteralString

from psycopg import sql
from psycopg.types.json import Jsonb

from pipeline.corpus.cutting import CutSnippet
from pipeline.store.connections import Connection

# Any number does, if no other room locks with it.
_LOCK_CLASS = 0x486F6E65
# Rows held in memory before they are sent.
_FLUSH_ROWS = 2_000
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class KnownFile:
    """What the last extraction wrote down about a file."""

    blob_hash: str
    language: str
    extractor: str
    skipped: str | None
    problem: str | None


@dataclass(frozen=True)
class FileRow:
    """A file that was read now.

    Attributes:
        path: Where it lies.
        blob_hash: Names its content.
        language: What it is written in.
        extractor: What decided, beside the content, what is cut out of it.
        skipped: Why it gave no snippets; None if it was parsed.
        syntax_errors: How many places in it could not be parsed.
        problem: What its owner may want to know.
        secrets: How many secrets were left out of its text.
        keeps_snippets: Whether the snippets it had before stay.
    """

    path: str
    blob_hash: str
    language: str
    extractor: str
    skipped: str | None = None
    syntax_errors: int = 0
    problem: str | None = None
    secrets: int = 0
    keeps_snippets: bool = False


@dataclass(frozen=True)
class MergeCounts:
    """What a merge did to the live snippets of one repository."""

    added: int
    changed: int
    vanished: int


@dataclass(frozen=True)
class LiveCounts:
    """The live snippets, and the files they come from."""

    snippets: int
    files: int
    files_with_syntax_errors: int
    secrets: int
    by_language: dict[str, int]
    by_kind: dict[str, int]


@dataclass(frozen=True)
class CorpusCounts:
    """The whole corpus, for `honeloop status`. All but `vanished` count live snippets."""

    repositories: int
    files: int
    snippets: int
    contents: int
    vanished: int
    by_repository: dict[str, int]
    by_language: dict[str, int]
    by_kind: dict[str, int]


def lock_extraction(connection: Connection, repository_id: int) -> None:
    """Makes this the only extraction of a repository until the connection closes; others wait here."""
    connection.execute("SELECT pg_advisory_lock(%s, %s)", [_LOCK_CLASS, repository_id % 2**31])


def load_files(connection: Connection, repository_id: int) -> dict[str, KnownFile]:
    """What is known of each file of a repository, by path."""
    rows = connection.execute(
        "SELECT path, blob_hash, language, extractor, skipped, problem FROM files WHERE repository_id = %s",
        [repository_id],
    )
    return {path: KnownFile(*rest) for path, *rest in rows}


class Staging:
    """Collects what an extraction reads in temporary tables, and merges all of it in one transaction.

    Nothing anyone else can see changes before `merge`, so a run that is killed leaves the last state whole.
    Needs a connection in autocommit mode, and holds at most a few thousand rows in memory.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._files: list[tuple[Any, ...]] = []
        self._snippets: list[tuple[Any, ...]] = []
        self._contents: dict[bytes, tuple[Any, ...]] = {}
        connection.execute(
            "CREATE TEMP TABLE new_files (path text, blob_hash text, language text, extractor text,"
            " skipped text, syntax_errors int, problem text, secrets int, keeps_snippets boolean);"
            "CREATE TEMP TABLE new_contents (content_hash bytea, text text, documentation text,"
            " undocumented_text text);"
            "CREATE TEMP TABLE new_snippets (path text, symbol text, kind text, language text,"
            " signature text, code text, start_line int, end_line int, content_hash bytea);"
            "CREATE TEMP TABLE gone_files (path text)"
        )

    def add(self, file: FileRow, snippets: Iterable[CutSnippet] = ()) -> None:
        """Stages a file that was read, with all snippets it has now."""
        self._files.append(astuple(file))
        for s in snippets:
            self._snippets.append(
                (
                    *(file.path, s.symbol, s.kind, file.language, s.signature, s.code),
                    *(s.start_line, s.end_line, s.content_hash),
                )
            )
            self._contents[s.content_hash] = (s.content_hash, s.text, s.documentation, s.undocumented_text)
        if len(self._snippets) + len(self._files) >= _FLUSH_ROWS:
            self._flush()

    def _flush(self) -> None:
        self._copy("new_files", self._files)
        self._copy("new_contents", list(self._contents.values()))
        self._copy("new_snippets", self._snippets)
        self._contents.clear()

    def _copy(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
        rows.clear()

    def merge(self, repository_id: int, commit_id: str | None, gone: Sequence[str]) -> MergeCounts:
        """Writes what was staged: files, contents, snippets; snippets that are not there any more vanish.

        Must run in the caller's transaction, which should write the extraction's report too.

        Args:
            repository_id: Whose files these are.
            commit_id: Where new and changed snippets are said to come from.
            gone: Paths of known files that are not there any more, or are not read any more.
        """
        self._flush()
        self._copy("gone_files", [(path,) for path in gone])
        connection = self._connection
        for table in ("new_files", "new_contents", "new_snippets", "gone_files"):
            # Without statistics Postgres takes a temporary table for a tiny one.
            connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))
        values: dict[str, Any] = {"repository": repository_id, "commit": commit_id}
        for statement in _MERGE_CONTENTS:
            connection.execute(statement)
        added, changed = connection.execute(_COUNT_NEW, values).fetchone() or (0, 0)
        connection.execute(_MERGE_SNIPPETS, values)
        vanished = connection.execute(_VANISH, values).rowcount
        connection.execute(_FORGET_FILES, values)
        connection.execute(_MERGE_FILES, values)
        return MergeCounts(added, changed, vanished)


# In one order, so that two extractions that bring the same contents wait for each other and never both.
_MERGE_CONTENTS = (
    """
    INSERT INTO contents (content_hash, text, documentation, undocumented_text)
    SELECT DISTINCT ON (content_hash) content_hash, text, documentation, undocumented_text
    FROM new_contents ORDER BY content_hash
    ON CONFLICT (content_hash) DO NOTHING
    """,
    # The same text can come out with other documentation once the rules for documentation have changed.
    """
    UPDATE contents SET documentation = new.documentation, undocumented_text = new.undocumented_text
    FROM new_contents new
    WHERE contents.content_hash = new.content_hash
      AND (contents.documentation, contents.undocumented_text)
          IS DISTINCT FROM (new.documentation, new.undocumented_text)
    """,
)
_COUNT_NEW = """
    SELECT count(*) FILTER (WHERE old.id IS NULL OR old.vanished_at IS NOT NULL),
           count(*) FILTER (WHERE old.vanished_at IS NULL
                              AND (old.code <> new.code OR old.content_hash <> new.content_hash))
    FROM new_snippets new
    LEFT JOIN snippets old
           ON old.repository_id = %(repository)s AND old.path = new.path AND old.symbol = new.symbol
"""
# A snippet that has only moved, or not even that, keeps its commit; an equal row is not written again.
_MERGE_SNIPPETS = """
    INSERT INTO snippets AS old (repository_id, path, symbol, kind, language, signature, code,
                                 start_line, end_line, commit_id, content_hash)
    SELECT %(repository)s, path, symbol, kind, language, signature, code,
           start_line, end_line, %(commit)s, content_hash
    FROM new_snippets
    ON CONFLICT (repository_id, path, symbol) DO UPDATE SET
        kind = excluded.kind, language = excluded.language, signature = excluded.signature,
        code = excluded.code, start_line = excluded.start_line, end_line = excluded.end_line,
        content_hash = excluded.content_hash, vanished_at = NULL,
        commit_id = CASE WHEN old.vanished_at IS NULL AND old.code = excluded.code
                          AND old.content_hash = excluded.content_hash
                         THEN old.commit_id ELSE excluded.commit_id END
    WHERE (old.kind, old.language, old.signature, old.code, old.start_line, old.end_line,
           old.content_hash, old.vanished_at)
          IS DISTINCT FROM
          (excluded.kind, excluded.language, excluded.signature, excluded.code, excluded.start_line,
           excluded.end_line, excluded.content_hash, NULL)
"""
_VANISH = """
    UPDATE snippets SET vanished_at = now()
    WHERE repository_id = %(repository)s AND vanished_at IS NULL
      AND (path IN (SELECT path FROM gone_files)
           OR (path IN (SELECT path FROM new_files WHERE NOT keeps_snippets)
               AND NOT EXISTS (SELECT FROM new_snippets new
                               WHERE new.path = snippets.path AND new.symbol = snippets.symbol)))
"""
_FORGET_FILES = """
    DELETE FROM files WHERE repository_id = %(repository)s AND path IN (SELECT path FROM gone_files)
"""
_MERGE_FILES = """
    INSERT INTO files (repository_id, path, blob_hash, language, extractor, skipped, syntax_errors, problem,
                       secrets)
    SELECT %(repository)s, path, blob_hash, language, extractor, skipped, syntax_errors, problem, secrets
    FROM new_files
    ON CONFLICT (repository_id, path) DO UPDATE SET
        blob_hash = excluded.blob_hash, language = excluded.language, extractor = excluded.extractor,
        skipped = excluded.skipped, syntax_errors = excluded.syntax_errors, problem = excluded.problem,
        secrets = excluded.secrets
"""


def refresh_statistics(connection: Connection) -> None:
    """Tells Postgres what the tables hold now, so that the next queries are planned for it."""
    connection.execute("ANALYZE files, contents, snippets")


def repository_exists(connection: Connection, repository_id: int) -> bool:
    """Whether the repository is still registered; if so, it stays so until this transaction ends."""
    query = "SELECT FROM repositories WHERE id = %s FOR UPDATE"
    return connection.execute(query, [repository_id]).fetchone() is not None


def save_report(connection: Connection, repository_id: int, report: dict[str, Any]) -> None:
    """Stores an extraction's report, and nothing else: for an extraction that could not read its source."""
    connection.execute("UPDATE repositories SET report = %s WHERE id = %s", [Jsonb(report), repository_id])


def save_extraction(
    connection: Connection, repository_id: int, commit_id: str | None, report: dict[str, Any]
) -> None:
    """Stores what an extraction read, and its report."""
    connection.execute(
        "UPDATE repositories SET commit_id = %s, extracted_at = now(), report = %s WHERE id = %s",
        [commit_id, Jsonb(report), repository_id],
    )


def live_counts(connection: Connection, repository_id: int) -> LiveCounts:
    """Counts the live snippets of one repository."""
    row = connection.execute(
        "SELECT count(*) FILTER (WHERE skipped IS NULL), count(*) FILTER (WHERE syntax_errors > 0),"
        " coalesce(sum(secrets), 0) FROM files WHERE repository_id = %s",
        [repository_id],
    ).fetchone()
    assert row is not None
    by_language, by_kind = _grouped(connection, "AND repository_id = %s", [repository_id])
    return LiveCounts(sum(by_kind.values()), row[0], row[1], row[2], by_language, by_kind)


def corpus_counts(connection: Connection) -> CorpusCounts:
    """Counts the whole corpus."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM repositories), (SELECT count(*) FROM files WHERE skipped IS NULL),"
        " (SELECT count(DISTINCT content_hash) FROM snippets WHERE vanished_at IS NULL),"
        " (SELECT count(*) FROM snippets WHERE vanished_at IS NOT NULL)"
    ).fetchone()
    assert row is not None
    by_repository: dict[str, int] = dict(
        connection.execute(
            "SELECT name, count(snippets.id) FROM repositories LEFT JOIN snippets"
            " ON repository_id = repositories.id AND vanished_at IS NULL GROUP BY name ORDER BY name"
        ).fetchall()
    )
    by_language, by_kind = _grouped(connection, "", [])
    return CorpusCounts(
        row[0], row[1], sum(by_kind.values()), row[2], row[3], by_repository, by_language, by_kind
    )


def _grouped(
    connection: Connection, condition: LiteralString, values: Sequence[Any]
) -> tuple[dict[str, int], dict[str, int]]:
    by_language: dict[str, int] = {}
    by_kind: dict[str, int] = {}
    rows = connection.execute(
        "SELECT language, kind, count(*) FROM snippets WHERE vanished_at IS NULL "
        f"{condition} GROUP BY language, kind ORDER BY language, kind",
        values,
    )
    for language, kind, count in rows:
        by_language[language] = by_language.get(language, 0) + count
        by_kind[kind] = by_kind.get(kind, 0) + count
    return by_language, by_kind


def can_be_stored(*texts: str | None) -> bool:
    """Whether Postgres can hold these: it knows neither NUL nor half a surrogate pair in a text."""
    return not any(_UNSTORABLE.search(text) for text in texts if text is not None)


def find_snippet(connection: Connection, repository: str, path: str, symbol: str | None) -> int | None:
    """The id of a live snippet; without `symbol`, of the file's first one. None if there is none."""
    if not can_be_stored(repository, path, symbol):
        return None
    row = connection.execute(
        "SELECT snippets.id FROM snippets JOIN repositories ON repositories.id = repository_id"
        " WHERE repositories.name = %(repository)s AND path = %(path)s AND vanished_at IS NULL"
        " AND (%(symbol)s::text IS NULL OR symbol = %(symbol)s)"
        " ORDER BY start_line, snippets.id LIMIT 1",
        {"repository": repository, "path": path, "symbol": symbol},
    ).fetchone()
    return None if row is None else row[0]


def find_snippets(
    connection: Connection, repository: str, path: str, symbol: str | None
) -> list[tuple[int, bytes]]:
    """Ids and content hashes of live snippets, in file order.

    Args:
        connection: Where to look.
        repository: Its name.
        path: The file's path in it.
        symbol: This snippet and, if it was split, its further parts (`symbol@2`…); None: all of the file.
    """
    if not can_be_stored(repository, path, symbol):
        return []
    rows = connection.execute(
        "SELECT snippets.id, content_hash FROM snippets JOIN repositories ON repositories.id = repository_id"
        " WHERE repositories.name = %(repository)s AND path = %(path)s AND vanished_at IS NULL"
        " AND (%(symbol)s::text IS NULL OR symbol = %(symbol)s"
        "      OR (starts_with(symbol, %(symbol)s || '@')"
        "          AND substr(symbol, length(%(symbol)s) + 2) ~ '^[0-9]+$'))"
        " ORDER BY start_line, snippets.id",
        {"repository": repository, "path": path, "symbol": symbol},
    ).fetchall()
    return [(row[0], bytes(row[1])) for row in rows]
