"""Whether the snippets of a repository are as they must be, read from the tables themselves."""

from __future__ import annotations

from typing import LiteralString

from pipeline.checking import NothingToCheckError, Outcome
from pipeline.config import Settings
from pipeline.corpus.repositories import Repository
from pipeline.store.connections import Connection, Database

# With fewer snippets than this, losing half of them is an ordinary commit.
FEW_SNIPPETS = 20


def parse_errors(db: Database, settings: Settings, repository: Repository) -> Outcome:
    """At most `max_parse_error_share` of the parsed files have a place their grammar does not know."""
    _require_extracted(repository)
    with db.connect() as connection:
        parsed, wrong = _row(
            connection,
            "SELECT count(*), count(*) FILTER (WHERE syntax_errors > 0) FROM files"
            " WHERE repository_id = %s AND skipped IS NULL",
            repository,
        )
    share = wrong / parsed if parsed else 0.0
    return Outcome(
        share <= settings.max_parse_error_share,
        f"{wrong} of {parsed} parsed files have syntax errors ({share:.1%}); at most "
        f"{settings.max_parse_error_share:.0%} may.",
        {"parsed": parsed, "with_syntax_errors": wrong, "share": round(share, 4)},
        hint="See which with `honeloop source list --json`; HONELOOP_MAX_PARSE_ERROR_SHARE is the limit.",
    )


def no_empty_snippet(db: Database, settings: Settings, repository: Repository) -> Outcome:
    """Every live snippet has code and a text to embed that are more than white space."""
    del settings
    _require_extracted(repository)
    with db.connect() as connection:
        live, empty = _row(
            connection,
            "SELECT count(*), count(*) FILTER (WHERE s.code !~ '\\S' OR c.text !~ '\\S')"
            " FROM snippets s JOIN contents c USING (content_hash)"
            " WHERE s.repository_id = %s AND s.vanished_at IS NULL",
            repository,
        )
    return Outcome(empty == 0, f"{empty} of {live} live snippets are empty.", {"live": live, "empty": empty})


def counts_do_not_collapse(db: Database, settings: Settings, repository: Repository) -> Outcome:
    """The last extraction did not lose more than `max_snippet_drop_share` of the snippets before it."""
    _require_extracted(repository)
    with db.connect() as connection:
        (live,) = _row(
            connection,
            "SELECT count(*) FROM snippets WHERE repository_id = %s AND vanished_at IS NULL",
            repository,
        )
    added = int(repository.report.get("snippets_added", 0))
    vanished = int(repository.report.get("snippets_vanished", 0))
    before = live - added + vanished
    share = max(0, before - live) / before if before else 0.0
    return Outcome(
        before < FEW_SNIPPETS or share <= settings.max_snippet_drop_share,
        f"{live} snippets now, {before} before the last extraction: {share:.0%} fewer; at most "
        f"{settings.max_snippet_drop_share:.0%} may be lost in one go.",
        {"live": live, "before": before, "vanished": vanished, "share": round(share, 4)},
        hint="If the code really went, raise HONELOOP_MAX_SNIPPET_DROP_SHARE for one run.",
    )


def _require_extracted(repository: Repository) -> None:
    if repository.extracted_at is None:
        raise NothingToCheckError(f"{repository.name} was not read yet: `honeloop index` does.")


def _row(connection: Connection, statement: LiteralString, repository: Repository) -> tuple[int, ...]:
    row = connection.execute(statement, [repository.id]).fetchone()
    assert row is not None  # an aggregate always returns one row
    return tuple(row)
