"""Which sources of code are registered: adding, listing and removing them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from psycopg.rows import class_row

from pipeline.config import PROJECT_ROOT, Settings
from pipeline.corpus.sources.base import SourceError, printable
from pipeline.corpus.sources.clones import check_url, is_url, remove_clone
from pipeline.corpus.sources.distribution import find_distribution
from pipeline.corpus.sources.git import is_git_directory, open_repository
from pipeline.corpus.store import can_be_stored
from pipeline.errors import BadInputError
from pipeline.store.connections import Connection, Database

Kind = Literal["git", "directory", "distribution"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# A name is a partition key, part of file names, and typed on command lines.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

# user:password@, in what is meant as a URL: not to be repeated in a message.
_CREDENTIALS = re.compile(r":[^@\s]*[^@\s/][^@\s]*@")

DEFAULT_DISTRIBUTIONS = ("networkx", "rich", "click")


@dataclass(frozen=True)
class Repository:
    """A registered source of code.

    Attributes:
        id: Its row.
        name: Unique; what people and partitions call it.
        kind: git, directory or distribution.
        location: An absolute path, a URL, or a distribution's name.
        ref: git only: branch, tag or commit; None is HEAD.
        commit_id: What the last successful extraction read: a commit, a distribution's version, or None.
        extracted_at: When that was.
        report: The last extraction's report (`ExtractionReport` as JSON); empty before the first.
    """

    id: int
    name: str
    kind: Kind
    location: str
    ref: str | None
    commit_id: str | None
    extracted_at: datetime | None
    report: dict[str, Any]


_COLUMNS = "id, name, kind, location, ref, commit_id, extracted_at, report"


def add_repository(
    db: Database, name: str, location: str, kind: str | None = None, ref: str | None = None
) -> Repository:
    """Registers a source of code. Registering the same again changes nothing.

    Args:
        db: Where.
        name: Letters, digits, `.`, `_` and `-`, beginning with a letter or digit.
        location: A path, a URL, or an installed distribution's name. Paths are stored absolute.
        kind: git, directory or distribution; None: a URL or a path with a git repository is git, another
            directory is a directory, and anything else an installed distribution.
        ref: git only: what is read; None is HEAD. Looked up at each extraction: it may not exist yet.

    Raises:
        BadInputError: the name is taken or malformed, there is nothing of that kind at the location, or the
            URL is malformed or carries credentials.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise BadInputError(
            f"{printable(name)!r} cannot be a repository's name.",
            hint="Use up to 100 letters, digits, `.`, `_` and `-`, a letter or digit first; no `..`.",
        )
    if kind is not None and kind not in KINDS:
        raise BadInputError(f"There is no kind {printable(kind)!r}.", hint=f"Use one of: {', '.join(KINDS)}.")
    known_kind, checked_location = _checked(location, kind)
    if ref is not None and known_kind != "git":
        raise BadInputError(f"A {known_kind} has no refs.", hint="Leave --ref out.")
    if ref is not None and (not ref.strip() or not ref.isprintable()):
        raise BadInputError("The ref is empty or not printable.", hint="Give a branch, tag or commit.")
    with db.connect() as connection:
        connection.execute(
            "INSERT INTO repositories (name, kind, location, ref) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (name) DO NOTHING",
            [name, known_kind, checked_location, ref],
        )
        found = _find(connection, name)
    assert found is not None
    if (found.kind, found.location, found.ref) != (known_kind, checked_location, ref):
        at = f" at {found.ref}" if found.ref else ""
        raise BadInputError(
            f"The name {name!r} is taken by the {found.kind} {found.location}{at}.",
            hint=f"Choose another name, or run `honeloop source remove {name}` first.",
        )
    return found


def list_repositories(db: Database) -> list[Repository]:
    """All registered repositories, by name."""
    with db.connect() as connection, connection.cursor(row_factory=class_row(Repository)) as cursor:
        return cursor.execute(f"SELECT {_COLUMNS} FROM repositories ORDER BY name").fetchall()


def get_repository(db: Database, name: str) -> Repository:
    """The repository of that name. Raises BadInputError, listing those there are, if there is none."""
    with db.connect() as connection:
        found = _find(connection, name)
    if found is None:
        names = [repository.name for repository in list_repositories(db)]
        known = f"Registered are: {', '.join(names)}." if names else "Nothing is registered yet."
        raise BadInputError(
            f"No repository {printable(name)!r} is registered.",
            hint=f"{known} Add one with `honeloop source add NAME LOCATION`.",
        )
    return found


def count_judgements(db: Database, name: str) -> int:
    """How many judgements go with a repository: all that were made of its snippets, vanished ones too."""
    repository = get_repository(db, name)
    with db.connect() as connection:
        row = connection.execute(
            "SELECT count(*) FROM feedback f JOIN snippets s ON s.id = f.snippet_id"
            " WHERE s.repository_id = %s",
            [repository.id],
        ).fetchone()
    assert row is not None  # an aggregate without GROUP BY has one row
    return row[0]


def remove_repository(db: Database, name: str, settings: Settings | None = None) -> None:
    """Removes a repository with its files, snippets, and the feedback given on those.

    Args:
        db: Where.
        name: Which.
        settings: If given, the clone of its URL is deleted too, unless another repository uses it.

    Raises:
        BadInputError: there is no such repository.
    """
    repository = get_repository(db, name)
    with db.connect() as connection:
        connection.execute("DELETE FROM repositories WHERE id = %s", [repository.id])
        used = connection.execute(
            "SELECT FROM repositories WHERE location = %s", [repository.location]
        ).fetchone()
    if settings is not None and used is None and is_url(repository.location):
        remove_clone(repository.location, settings)


def add_default_repositories(db: Database, settings: Settings) -> list[Repository]:
    """Registers what is on every machine that runs this: the project's own code and three distributions."""
    del settings  # nothing about them can be set
    kind = "git" if is_git_directory(PROJECT_ROOT) else "directory"
    return [
        add_repository(db, "honeloop", str(PROJECT_ROOT), kind),
        *(add_repository(db, name, name, "distribution") for name in DEFAULT_DISTRIBUTIONS),
    ]


def _find(connection: Connection, name: str) -> Repository | None:
    with connection.cursor(row_factory=class_row(Repository)) as cursor:
        if not can_be_stored(name):
            return None
        return cursor.execute(f"SELECT {_COLUMNS} FROM repositories WHERE name = %s", [name]).fetchone()


def _checked(location: str, kind: Kind | None) -> tuple[Kind, str]:
    """Kind and location as they are stored. Raises BadInputError if there is nothing like it there."""
    if not location or "\0" in location or len(location) > 4096:
        raise BadInputError("The location is empty or malformed.", hint="Give a path, a URL or a name.")
    if is_url(location):
        if kind not in (None, "git"):
            raise BadInputError(f"A URL cannot be a {kind}.", hint="Leave --kind out, or use git.")
        return "git", check_url(location)
    if _CREDENTIALS.search(location) and not os.path.lexists(os.path.expanduser(location)):
        raise BadInputError(
            "The location is no URL and no path that exists, and looks as if it carried credentials.",
            hint="Its form is https://host/path, or git@host:path with your ssh agent's key.",
        )
    path = Path(os.path.abspath(os.path.expanduser(location)))
    if not can_be_stored(str(path)):
        raise BadInputError("The path is not UTF-8.", hint="Rename it, or register a link to it.")
    try:
        if kind is None and path.exists():
            kind = "git" if path.is_dir() and is_git_directory(path) else "directory"
        if kind == "git":
            open_repository(path)
            return "git", str(path)
        if kind == "directory":
            if not path.is_dir():
                what = "is not a directory" if path.exists() else "does not exist"
                raise BadInputError(f"{printable(str(path))} {what}.", hint="Check the path.")
            return "directory", str(path)
        return "distribution", find_distribution(location).name
    except OSError as error:
        raise BadInputError(f"{printable(location)}: {error.strerror}.", hint="Check the path.") from error
    except SourceError as error:
        message = error.message[0].upper() + error.message[1:]
        if kind is None:
            message = f"{printable(location)!r} is no URL, no path that exists and no installed distribution."
        raise BadInputError(message, hint=error.hint) from error
