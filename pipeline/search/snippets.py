"""One snippet looked up by its number: its code, where else it stands, and where it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.corpus.definitions import Kind
from pipeline.search.links import Origin
from pipeline.store.connections import Connection

# Boilerplate may stand in thousands of files.
MAX_PLACES = 1000
MAX_ID = 2**63 - 1


@dataclass(frozen=True)
class SnippetPlace:
    """Another live snippet with the same text."""

    snippet_id: int
    repository: str
    path: str
    symbol: str
    start_line: int
    end_line: int
    origin: Origin


@dataclass(frozen=True)
class SnippetDetail:
    """A snippet, live or vanished.

    Attributes:
        origin: Where its lines were last read.
        vanished_at: When it was found gone from its file; None while it is there.
        places: How many live snippets have its text, itself included while it is live.
        also_at: The others of these, at most 1,000, by repository, path and line.
    """

    snippet_id: int
    repository: str
    path: str
    symbol: str
    kind: Kind
    language: str
    signature: str
    code: str
    start_line: int
    end_line: int
    vanished_at: datetime | None
    origin: Origin
    places: int
    also_at: tuple[SnippetPlace, ...]


class UnknownSnippetError(LookupError):
    """There is no snippet of this number."""

    def __init__(self, snippet_id: int) -> None:
        self.snippet_id = snippet_id
        super().__init__(f"There is no snippet {snippet_id}.")


# A live snippet that did not change keeps the commit it was first read at, but its lines are those of the
# last extraction.
_COMMIT = "CASE WHEN s.vanished_at IS NULL THEN coalesce(r.commit_id, s.commit_id) ELSE s.commit_id END"


def find_snippet(connection: Connection, snippet_id: int) -> SnippetDetail:
    """The snippet of this number. Raises UnknownSnippetError if there is none."""
    row = connection.execute(
        "SELECT s.id, r.name, s.path, s.symbol, s.kind, s.language, s.signature, s.code, s.start_line,"
        f" s.end_line, s.vanished_at, s.content_hash, r.kind, r.location, {_COMMIT}"
        " FROM snippets s JOIN repositories r ON r.id = s.repository_id WHERE s.id = %s",
        [snippet_id if 0 < snippet_id <= MAX_ID else 0],  # 0 is nobody's number
    ).fetchone()
    if row is None:
        raise UnknownSnippetError(snippet_id)
    *shown, start_line, end_line, vanished_at, content_hash, repository_kind, location, commit = row
    others = connection.execute(
        "SELECT s.id, r.name, s.path, s.symbol, s.start_line, s.end_line, r.kind, r.location,"
        f" {_COMMIT}, count(*) OVER ()"
        " FROM snippets s JOIN repositories r ON r.id = s.repository_id"
        " WHERE s.content_hash = %s AND s.vanished_at IS NULL AND s.id <> %s"
        " ORDER BY r.name, s.path, s.start_line, s.id LIMIT %s",
        [content_hash, snippet_id, MAX_PLACES],
    ).fetchall()
    return SnippetDetail(
        *shown,
        start_line=start_line,
        end_line=end_line,
        vanished_at=vanished_at,
        origin=Origin(repository_kind, location, commit, start_line, end_line),
        places=(others[0][9] if others else 0) + (vanished_at is None),
        also_at=tuple(SnippetPlace(*place[:6], origin=Origin(*place[6:9], *place[4:6])) for place in others),
    )


def find_origins(connection: Connection, snippet_ids: Sequence[int]) -> dict[int, Origin]:
    """Per snippet where it was read. Deleted ones are left out."""
    rows = connection.execute(
        f"SELECT s.id, r.kind, r.location, {_COMMIT}, s.start_line, s.end_line"
        " FROM snippets s JOIN repositories r ON r.id = s.repository_id WHERE s.id = ANY(%s)",
        [list(snippet_ids)],
    ).fetchall()
    return {number: Origin(*origin) for number, *origin in rows}
