"""Clones of git repositories: half-made ones, and those of URLs that nobody reads any more."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from pipeline.config import Settings
from pipeline.corpus.repositories import list_repositories
from pipeline.corpus.sources.clones import HALF_MADE, clone_path, is_url, lock_of
from pipeline.doctor.findings import Examination, Finding
from pipeline.errors import HoneloopError
from pipeline.locking import locked_if_free
from pipeline.store.connections import Database


def examine_clones(db: Database, settings: Settings, found: Examination) -> None:
    """Looks through the clones; one that is being fetched is left out."""
    directory = settings.home_path / "clones"
    if not directory.is_dir():
        return
    found.add(
        Finding("half-made clone", f"{path} was not finished.", partial(_delete, path))
        for path in sorted(directory.glob(f"*{HALF_MADE}"))
        if _free(path)
    )
    found.add(
        Finding(
            "clone without a source",
            f"{path} is of a repository that is not registered.",
            partial(_delete_unless_read, db, settings, path),
        )
        for path in sorted(directory.glob("*.git"))
        if path not in _read(db, settings) and _free(path)
    )


def _read(db: Database, settings: Settings) -> set[Path]:
    """The clones of the registered URLs."""
    locations = {repository.location for repository in list_repositories(db)}
    return {clone_path(location, settings) for location in locations if is_url(location)}


def _free(path: Path) -> bool:
    with locked_if_free(lock_of(path)) as free:
        return free


def _delete(path: Path) -> None:
    with locked_if_free(lock_of(path)) as free:
        if not free:
            raise HoneloopError(f"{path} is being fetched.", hint="Wait until that ends.")
        shutil.rmtree(path)


def _delete_unless_read(db: Database, settings: Settings, path: Path) -> None:
    if path not in _read(db, settings):
        _delete(path)
