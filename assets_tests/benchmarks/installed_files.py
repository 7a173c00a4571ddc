"""Whole files to measure extraction with: of every language that is on this machine.

The installed distributions hold Python, and little of the others; directories with more are named by whoever
runs the benchmarks.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from assets_tests.benchmarks.environment import ROOTS
from pipeline.corpus.decoding import decode
from pipeline.corpus.languages import language_of
from pipeline.corpus.skipping import reason_by_bytes, reason_by_path, reason_by_text

LARGEST_FILE = 1_000_000
LEAST_BYTES = 500_000  # of a language with less, which is cut within milliseconds, a ratio says nothing


def named_roots() -> list[Path]:
    """The directories that the environment names.

    Raises:
        NotADirectoryError: one is none.
    """
    roots = [Path(name).expanduser() for name in os.environ.get(ROOTS, "").split(os.pathsep) if name]
    for root in roots:
        if not root.is_dir():
            raise NotADirectoryError(f"{root}, which {ROOTS} or --root names, is no directory.")
    return roots


def files_by_language(
    most_bytes: int,
    root: Path | None = None,
    only: str | None = None,
    more: Sequence[Path] = (),
    largest: int = LARGEST_FILE,
) -> dict[str, list[Path]]:
    """Of each language up to so many bytes of files that extraction would cut; the same ones every time.

    They come in the order of a hash of their paths, so that a few are a fair sample.

    Args:
        most_bytes: Of a language; with the file that goes beyond it, no more are taken.
        root: Where distributions are installed.
        only: This language alone.
        more: Directories with repositories, of which tests count, too.
        largest: Bytes of the largest file taken.
    """
    installed = root or Path(sysconfig.get_paths()["purelib"])
    candidates = [(installed, path) for path in _code_in(installed, only, distribution=True)]
    for each in more:
        candidates += [(each, path) for path in _code_in(each, only, distribution=False)]
    found: dict[str, list[Path]] = {}
    taken: dict[str, int] = {}
    for directory, path in sorted(
        candidates, key=lambda each: hashlib.sha256(str(each[1]).encode()).digest()
    ):
        file = directory / path
        size = file.stat().st_size
        by_name = language_of(path.name, b"")
        assert by_name is not None
        if not 0 < size <= largest or _enough(taken, by_name.name, most_bytes, path):
            continue
        source = file.read_bytes()
        language = language_of(path.name, source)
        assert language is not None
        if only not in {None, language.name} or taken.get(language.name, 0) >= most_bytes:
            continue
        if reason_by_bytes(source) or reason_by_text(decode(source).text):
            continue
        found.setdefault(language.name, []).append(file)
        taken[language.name] = taken.get(language.name, 0) + size
    return {name: found[name] for name in sorted(found) if taken[name] >= min(LEAST_BYTES, most_bytes)}


def _enough(taken: dict[str, int], language: str, most_bytes: int, path: Path) -> bool:
    # What a header is written in is known only once it is read.
    return path.suffix.lower() != ".h" and taken.get(language, 0) >= most_bytes


def _code_in(root: Path, only: str | None, *, distribution: bool) -> Iterator[Path]:
    for directory, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != ".git"]
        for name in names:
            path = (Path(directory) / name).relative_to(root)
            language = language_of(name, b"")
            # A header is C by its name alone, and may be C++.
            written = {"c", "cpp"} if path.suffix.lower() == ".h" else {language and language.name}
            if language is None or (only is not None and only not in written):
                continue
            if (
                reason_by_path(path.as_posix(), distribution=distribution) is None
                and not (root / path).is_symlink()
            ):
                yield path
