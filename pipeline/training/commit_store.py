"""What the histories of git repositories gave, in Postgres."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime

from pipeline.store.connections import Connection


@dataclass(frozen=True)
class ReadHistory:
    """How far a history was read: from `tip` at most `depth` commits, by `rules`."""

    tip: str
    depth: int
    rules: str


@dataclass(frozen=True)
class FoundFunction:
    """A function as a commit left it.

    Attributes:
        path: Where it stood.
        symbol: What it was called.
        code: What it was then, without documentation.
        change: The share of it that the commit changed, 1 if it is new.
        aside: Whether it is one of a test, an example or documentation.
    """

    path: str
    symbol: str
    code: str
    change: float
    aside: bool = False


@dataclass(frozen=True)
class FoundCommit:
    """A commit that was looked at: either its query and functions, or why it is left out."""

    commit_id: str
    committed_at: datetime
    query: str | None
    left_out: str | None
    functions: tuple[FoundFunction, ...]


@dataclass(frozen=True)
class CommitFunction:
    """One function of one commit that is not left out.

    Attributes:
        repository_id: Where.
        repository: Its name.
        commit_id: The commit.
        query: What the commit says.
        path: Where the function stood.
        symbol: What it was called.
        code: What it was then, without documentation.
        change: The share of it that the commit changed.
        aside: Whether it is one of a test, an example or documentation.
    """

    repository_id: int
    repository: str
    commit_id: str
    query: str
    path: str
    symbol: str
    code: str
    change: float
    aside: bool


@dataclass(frozen=True)
class LiveFunction:
    """A function or method that is there now, put together again if it was split.

    Attributes:
        repository_id: Where.
        path: Its file.
        symbol: Its name, without the number of a part.
        content_hash: Of its first part.
        language: What it is written in.
        code: Without its documentation.
    """

    repository_id: int
    path: str
    symbol: str
    content_hash: bytes
    language: str
    code: str


def read_history(connection: Connection, repository_id: int) -> ReadHistory | None:
    """How far a repository's history was read; None if it was not."""
    row = connection.execute(
        "SELECT tip, depth, rules FROM commit_histories WHERE repository_id = %s", [repository_id]
    ).fetchone()
    return None if row is None else ReadHistory(*row)


def known_commits(connection: Connection, repository_id: int) -> dict[str, str | None]:
    """The commits of a repository that were looked at, with why they are left out."""
    return dict(
        connection.execute(
            "SELECT commit_id, left_out FROM commits WHERE repository_id = %s", [repository_id]
        ).fetchall()
    )


def save_history(
    connection: Connection,
    repository_id: int,
    history: ReadHistory,
    *,
    new: Iterable[FoundCommit],
    gone: Sequence[str],
    anew: bool,
) -> None:
    """Stores what a reading found, in the caller's transaction.

    Args:
        connection: Where.
        repository_id: Whose history it is; if the repository was removed meanwhile, nothing is stored.
        history: How far it is read now.
        new: Commits that were looked at, replacing what was known of them.
        gone: Commits that are forgotten.
        anew: Whether all that was known is forgotten.
    """
    alive = connection.execute(
        "SELECT FROM repositories WHERE id = %s FOR KEY SHARE", [repository_id]
    ).fetchone()
    if alive is None:
        return
    connection.execute(
        "INSERT INTO commit_histories (repository_id, tip, depth, rules) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (repository_id) DO UPDATE"
        " SET tip = excluded.tip, depth = excluded.depth, rules = excluded.rules, read_at = now()",
        [repository_id, history.tip, history.depth, history.rules],
    )
    commits = list(new)
    connection.execute(
        "DELETE FROM commits WHERE repository_id = %s AND (%s OR commit_id = ANY(%s))",
        [repository_id, anew, [*gone, *(commit.commit_id for commit in commits)]],
    )
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY commits (repository_id, commit_id, committed_at, query, left_out) FROM STDIN"
        ) as copy,
    ):
        for commit in commits:
            copy.write_row(
                (repository_id, commit.commit_id, commit.committed_at, commit.query, commit.left_out)
            )
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY commit_functions (repository_id, commit_id, path, symbol, code, change, aside) FROM STDIN"
        ) as copy,
    ):
        for commit in commits:
            for each in commit.functions:
                copy.write_row((repository_id, commit.commit_id, *astuple(each)))


def commit_functions(connection: Connection) -> list[CommitFunction]:
    """The functions of all commits that are not left out, in a stable order."""
    return [
        CommitFunction(*row)
        for row in connection.execute(
            "SELECT f.repository_id, r.name, f.commit_id, c.query,"
            " f.path, f.symbol, f.code, f.change, f.aside"
            " FROM commit_functions f JOIN commits c USING (repository_id, commit_id)"
            " JOIN repositories r ON r.id = f.repository_id WHERE c.query IS NOT NULL"
            ' ORDER BY r.name, f.commit_id, f.path COLLATE "C", f.symbol COLLATE "C"'
        )
    ]


def live_functions(connection: Connection) -> list[LiveFunction]:
    """The live functions that have the symbol of a function that a commit of their repository changed."""
    rows = connection.execute(
        """
        SELECT s.repository_id, s.path, base.symbol,
            (array_agg(s.content_hash ORDER BY s.start_line, s.id))[1], min(s.language),
            string_agg(coalesce(c.undocumented_text, c.text), E'\\n' ORDER BY s.start_line, s.id)
        FROM snippets s
        CROSS JOIN LATERAL (SELECT regexp_replace(s.symbol, '@[0-9]+$', '') AS symbol) AS base
        JOIN contents c ON c.content_hash = s.content_hash
        JOIN (SELECT DISTINCT repository_id, symbol FROM commit_functions) AS asked
            ON asked.repository_id = s.repository_id AND asked.symbol = base.symbol
        WHERE s.vanished_at IS NULL AND s.kind IN ('function', 'method')
        GROUP BY s.repository_id, s.path, base.symbol
        """
    )
    return [LiveFunction(*row) for row in rows]


def commit_counts(connection: Connection) -> dict[str, dict[str, int]]:
    """How many commits were looked at, by repository: "used", and those left out by reason."""
    counts: dict[str, dict[str, int]] = {}
    for repository, reason, count in connection.execute(
        "SELECT r.name, coalesce(c.left_out, 'used'), count(*) FROM commits c"
        " JOIN repositories r ON r.id = c.repository_id GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2"
    ):
        counts.setdefault(repository, {})[reason] = count
    return counts


def left_out_commits(connection: Connection) -> dict[str, int]:
    """How many commits of all repositories are left out, by reason, the most frequent first."""
    return dict(
        connection.execute(
            "SELECT left_out, count(*) FROM commits WHERE left_out IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
        ).fetchall()
    )
