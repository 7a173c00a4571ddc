"""Whole files to measure extraction with: of every language that the installed distributions hold."""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from pipeline.corpus.decoding import decode
from pipeline.corpus.languages import language_of
from pipeline.corpus.skipping import reason_by_bytes, reason_by_path, reason_by_text

LARGEST_FILE = 1_000_000
LEAST_BYTES = 50_000  # of a language with less, a ratio says nothing


def files_by_language(
    most_bytes: int, root: Path | None = None, only: str | None = None
) -> dict[str, list[Path]]:
    """Of each language up to so many bytes of files that extraction would cut; the same ones every time.

    They come in the order of a hash of their paths, so that a few are a fair sample.
    """
    root = root or Path(sysconfig.get_paths()["purelib"])
    found: dict[str, list[Path]] = {}
    taken: dict[str, int] = {}
    for path in sorted(_code_in(root, only), key=lambda each: hashlib.sha256(str(each).encode()).digest()):
        language = language_of(path.name, b"")
        assert language is not None
        size = (root / path).stat().st_size
        if taken.get(language.name, 0) >= most_bytes or not 0 < size <= LARGEST_FILE:
            continue
        source = (root / path).read_bytes()
        if reason_by_bytes(source) or reason_by_text(decode(source).text):
            continue
        found.setdefault(language.name, []).append(root / path)
        taken[language.name] = taken.get(language.name, 0) + size
    return {name: found[name] for name in sorted(found) if taken[name] >= min(LEAST_BYTES, most_bytes)}


def _code_in(root: Path, only: str | None) -> Iterator[Path]:
    for directory, _, names in os.walk(root):
        for name in names:
            path = (Path(directory) / name).relative_to(root)
            language = language_of(name, b"")
            if language is None or only not in {None, language.name}:
                continue
            if reason_by_path(str(path), distribution=True) is None:
                yield path
