"""Reads an installed Python distribution: the files it was installed with."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
from pathlib import PurePosixPath

from pipeline.corpus.sources.base import OUTSIDE, Listing, SourceError, SourceFile, printable
from pipeline.corpus.sources.reading import read_regular_file


def find_distribution(name: str) -> importlib.metadata.Distribution:
    """The installed distribution of that name, which has a RECORD of its files.

    Raises:
        SourceError: it is not installed here, or installed so that its files are not known.
    """
    candidates = list(importlib.metadata.distributions(name=name)) if name else []
    if not candidates:
        raise SourceError(
            f"the distribution {name!r} is not installed in this environment.",
            hint=f"Run `pip install {name}` where Honeloop runs." if name.isprintable() else "",
        )
    # A checkout's egg-info in the working directory comes before what is installed, and has no RECORD.
    found = next((candidate for candidate in candidates if candidate.read_text("RECORD")), None)
    if found is None:
        raise SourceError(
            f"the distribution {name!r} was installed without a list of its files.",
            hint="Reinstall it with pip, or register its directory.",
        )
    direct = json.loads(found.read_text("direct_url.json") or "{}")
    if direct.get("dir_info", {}).get("editable"):
        where = str(direct.get("url", "")).removeprefix("file://")
        raise SourceError(
            f"the distribution {name!r} is installed in editable mode, its code is in {where}.",
            hint="Register that directory instead.",
        )
    return found


class DistributionSource:
    """The files of an installed distribution, named as they are imported: `click/core.py`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def list_files(self) -> Listing:
        """Lists what was installed. Raises SourceError if that cannot be known."""
        distribution = find_distribution(self._name)
        listing = Listing(distribution.version)
        # Not `distribution.files`: some versions of it leave out what is missing, and say nothing.
        record = csv.reader((distribution.read_text("RECORD") or "").splitlines())
        for name in sorted({row[0] for row in record if row}):
            path = PurePosixPath(name)
            where = str(distribution.locate_file(name))
            if ".." in path.parts or path.is_absolute():
                listing.skipped[OUTSIDE] += 1  # scripts in bin/ and the like
            elif os.path.isfile(where):
                listing.add(os.fsencode(name), where)
            elif path.suffix != ".pyc":
                listing.problems.append(f"{printable(name)}: it was installed but is not there any more")
        return listing

    def read(self, file: SourceFile, max_bytes: int) -> bytes:
        """The file's bytes. Raises FileTooLargeError or FileUnreadableError."""
        # Some installers link files to their cache; the distribution's own list names them, so they are its.
        return read_regular_file(file.handle, max_bytes, follow_link=True)
