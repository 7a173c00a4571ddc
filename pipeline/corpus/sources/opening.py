"""Opens the source a registered repository is read from."""

from __future__ import annotations

from pathlib import Path

import pygit2

from pipeline.config import Settings
from pipeline.corpus.repositories import Repository
from pipeline.corpus.sources.base import Source
from pipeline.corpus.sources.clones import clone_path, fetched_clone, is_url, remote_commit
from pipeline.corpus.sources.directory import DirectorySource
from pipeline.corpus.sources.distribution import DistributionSource, find_distribution
from pipeline.corpus.sources.git import GitSource, open_repository, resolve_commit


def open_source(repository: Repository, settings: Settings) -> Source:
    """The source of a registered repository. Raises SourceError if it cannot be read at all."""
    if repository.kind == "git":
        return GitSource(open_git(repository, settings), repository.ref)
    if repository.kind == "directory":
        return DirectorySource(Path(repository.location), [settings.home_path])
    return DistributionSource(repository.location)


def current_commit(repository: Repository, settings: Settings) -> str | None:
    """What an extraction would read now, found without reading or fetching it: a commit, or a version.

    None: only an extraction can tell (a directory, or a revision such as `main~3` at a URL).

    Raises:
        SourceError: the source cannot be read at all.
    """
    if repository.kind == "directory":
        return None
    if repository.kind == "distribution":
        return find_distribution(repository.location).version
    if is_url(repository.location):
        return remote_commit(repository.location, repository.ref, settings)
    return str(resolve_commit(open_repository(Path(repository.location)), repository.ref).id)


def open_git(repository: Repository, settings: Settings) -> pygit2.Repository:
    """The git repository itself: where it stands, or its clone, fetched now. Raises SourceError."""
    if is_url(repository.location):
        return fetched_clone(repository.location, repository.ref, settings)
    return open_repository(Path(repository.location))


def open_git_as_read(repository: Repository, settings: Settings) -> pygit2.Repository:
    """The git repository as it was last read: of a URL the clone, without fetching. Raises SourceError."""
    if is_url(repository.location):
        return open_repository(clone_path(repository.location, settings))
    return open_repository(Path(repository.location))
