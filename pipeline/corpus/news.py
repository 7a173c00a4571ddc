"""Whether a source holds something that was not read yet, found out without reading it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pipeline.config import Settings
from pipeline.corpus.repositories import Repository
from pipeline.corpus.sources.directory import DirectorySource
from pipeline.corpus.sources.distribution import find_distribution
from pipeline.corpus.sources.opening import current_commit


def state_of_source(repository: Repository, settings: Settings) -> str | None:
    """What names the present content of a source: two that are equal mean that nothing has changed.

    A git repository's is the commit: of a path looked up in the repository, of a URL asked of its server. A
    distribution's is its version with a hash of its list of files, which a reinstallation changes. A
    directory's is a hash of the names, sizes and times of its files; so are they compared by make and rsync,
    and what they miss (a file changed with its time put back) the daily reading finds.

    None: only an extraction can tell, as for a revision such as `main~3` at a URL.

    Raises:
        SourceError: the source cannot be read at all.
    """
    if repository.kind == "directory":
        return _state_of_directory(Path(repository.location), settings)
    if repository.kind == "distribution":
        found = find_distribution(repository.location)
        record = (found.read_text("RECORD") or "").encode()
        return f"{found.version} {hashlib.sha256(record).hexdigest()[:16]}"
    return current_commit(repository, settings)


def _state_of_directory(root: Path, settings: Settings) -> str:
    listing = DirectorySource(root, [settings.home_path]).list_files()
    digest = hashlib.sha256()
    for file in listing.files:
        try:
            found = os.stat(file.handle, follow_symlinks=False)
        except OSError:  # gone since it was listed: the next look finds that
            continue
        digest.update(f"{file.path}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    return digest.hexdigest()
