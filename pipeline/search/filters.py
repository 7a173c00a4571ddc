"""Which snippets come into question: a request's filters, as a condition on the table of snippets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg import sql

from pipeline.corpus.skipping import BEYOND_LIMITS
from pipeline.errors import BadInputError
from pipeline.search.globs import glob_to_regex
from pipeline.search.request import SearchRequest
from pipeline.store.connections import Connection

FEW_PATHS = 500


@dataclass(frozen=True)
class Filters:
    """Live snippets only, and of these what the request names. Empty or None: any."""

    languages: tuple[str, ...] = ()
    repository_ids: tuple[int, ...] = ()
    kinds: tuple[str, ...] = ()
    path_regex: str | None = None
    paths: tuple[str, ...] | None = None  # all that match the regular expression, where they are few

    @property
    def condition(self) -> sql.Composable:
        """For a WHERE clause over `snippets s`; its values are in `values`."""
        parts = [sql.SQL("s.vanished_at IS NULL")]
        if self.languages:
            parts.append(sql.SQL("s.language = ANY(%(languages)s)"))
        if self.repository_ids:
            parts.append(sql.SQL("s.repository_id = ANY(%(repository_ids)s)"))
        if self.kinds:
            parts.append(sql.SQL("s.kind = ANY(%(kinds)s)"))
        if self.paths is not None:
            parts.append(sql.SQL("s.path = ANY(%(paths)s)"))
        elif self.path_regex is not None:
            parts.append(sql.SQL("s.path ~ %(path_regex)s"))
        return sql.SQL(" AND ").join(parts)

    @property
    def values(self) -> dict[str, Any]:
        """The parameters that `condition` names."""
        return {
            "languages": list(self.languages),
            "repository_ids": list(self.repository_ids),
            "kinds": list(self.kinds),
            "path_regex": self.path_regex,
            "paths": list(self.paths or ()),
        }

    @property
    def any(self) -> bool:
        """Whether anything is filtered at all."""
        return bool(self.languages or self.repository_ids or self.kinds or self.path_regex)

    def expected(self, connection: Connection) -> float:
        """How many snippets pass, as Postgres guesses from its statistics, without looking at any."""
        row = connection.execute(
            sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM snippets s WHERE {}").format(self.condition),
            self.values,
            prepare=False,
        ).fetchone()
        assert row is not None  # EXPLAIN always answers
        return row[0][0]["Plan"]["Plan Rows"]

    def with_paths(self, connection: Connection) -> Filters:
        """The same, with the paths that match, if they are few.

        A file has many snippets: matching its path once, and then looking up the snippets of those that do,
        is much faster than matching each snippet's where few pass. Every live snippet's file is in `files`.
        """
        if self.path_regex is None:
            return self
        rows = connection.execute(
            "SELECT DISTINCT path FROM (SELECT path FROM files"
            " WHERE (skipped IS NULL OR skipped = %(kept)s) AND path ~ %(regex)s"
            " AND (%(every)s OR repository_id = ANY(%(repositories)s))) AS matching LIMIT %(limit)s",
            {
                "kept": BEYOND_LIMITS,  # such a file keeps the snippets it had
                "regex": self.path_regex,
                "every": not self.repository_ids,
                "repositories": list(self.repository_ids),
                "limit": FEW_PATHS + 1,
            },
        ).fetchall()
        return replace(self, paths=tuple(path for (path,) in rows)) if len(rows) <= FEW_PATHS else self


def resolve_filters(connection: Connection, request: SearchRequest) -> Filters:
    """The filters of a request, its names looked up.

    Raises:
        BadInputError: there is no such source, or nothing is in such a language; what there is, is listed.
    """
    return Filters(
        _languages(connection, request.languages),
        _repository_ids(connection, request.sources),
        request.kinds,
        None if request.path is None else glob_to_regex(request.path),
    )


def _repository_ids(connection: Connection, sources: Sequence[str]) -> tuple[int, ...]:
    if not sources:
        return ()
    known = dict(connection.execute("SELECT name, id FROM repositories ORDER BY name").fetchall())
    for source in sources:
        if source not in known:
            raise BadInputError(
                f"There is no source {source!r}.", hint=f"Known: {', '.join(known)}.", field="source"
            )
    return tuple(known[source] for source in sources)


def _languages(connection: Connection, languages: Sequence[str]) -> tuple[str, ...]:
    wanted = tuple(language.strip().lower() for language in languages)
    for language in wanted:
        found = connection.execute(
            "SELECT EXISTS (SELECT FROM snippets WHERE language = %s AND vanished_at IS NULL)", [language]
        ).fetchone()
        if found is None or not found[0]:
            names = connection.execute(
                "SELECT DISTINCT language FROM snippets WHERE vanished_at IS NULL ORDER BY language"
            ).fetchall()
            raise BadInputError(
                f"No snippet is in the language {language!r}.",
                hint=f"There are: {', '.join(name for (name,) in names)}.",
                field="language",
            )
    return wanted
