"""Which files are not read, and why: code that nobody here wrote, and what is no code for people to read."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

NOT_CODE = "not code"
VENDORED = "vendored"
GENERATED = "generated"
MINIFIED = "minified"
BINARY = "binary"
TOO_LARGE = "too large"
LFS_POINTER = "stored in Git LFS"
PATH_TOO_LONG = "path too long"
BEYOND_LIMITS = "beyond the limits of parsing"
DISTRIBUTION_TESTS = "tests of a distribution"

# Other people's code, copied in or installed. Only names that mean nothing else: `lib`, `deps` and `external`
# are where many keep their own.
VENDOR_DIRECTORIES = frozenset(
    (
        *("node_modules", "bower_components", "jspm_packages", ".yarn"),
        *("vendor", "vendored", "_vendor", "_vendored", "third_party", "third-party", "thirdparty"),
        *("site-packages", "dist-packages", "__pypackages__", ".venv", "venv", ".tox", ".nox", ".eggs"),
        *("Pods", "Carthage", ".gradle", ".m2", ".cargo", ".terraform"),
    )
)

_GENERATED_NAME = re.compile(
    r"""_pb2(_grpc)?\.pyi?$ | \.pb(\.[a-z]+)?\.(go|cc|h|swift)$ | _pb\.(js|ts|rb)$ | _grpc\.pb\.\w+$
    | \.g\.(cs|dart|kt)$ | \.designer\.cs$ | \.generated\.\w+$ | _generated\.\w+$ | ^zz_generated\.
    | ^(moc|qrc)_\w+\.(cpp|py)$ | ^bindata\.go$""",
    re.VERBOSE | re.IGNORECASE,
)
_MINIFIED_NAME = re.compile(r"[.-]min\.[cm]?js$|\.bundle\.[cm]?js$", re.IGNORECASE)

# A line longer than anyone writes or reads.
_LONG_LINE = 1_000

_COMMENT = re.compile(
    r"""\s*(?:\#+!?|//+!?|/\*+!?|\*+/?|--+|;+|%+|<!--|[rRuU]?(?:\"{3}|'{3})|=begin|\(\*)[ \t]*""", re.VERBOSE
)
_PREAMBLE = re.compile(r"\s*(?:<\?php|package [\w.]+;?|['\"]use strict['\"];?)\s*$")
# Said by generators wherever it stands in the head.
_CERTAIN = re.compile(
    r"\bDO NOT (?:EDIT|MODIFY)\b|@generated\b"
    r"|(?i:\bdo not (?:edit|modify) (?:this file|by hand|manually|directly))"
)
# Said by generators in the comment that opens a file; further down, people say it of their data.
_BY = r"generated\s+(?:by|from|with|using|via|at|on|automatically|code|file|protocol)\b"
_OPENING = re.compile(
    rf"\b(?:file|code|script|module|is|was|been)\s+(?:automatically |machine[ -])?{_BY}"
    r"|\b(?:auto-?|automatically |machine[- ])generated\b",
    re.IGNORECASE,
)
_OPENING_START = re.compile(_BY, re.IGNORECASE)
_HEAD_CHARACTERS, _HEAD_LINES = 8_192, 40

# The control characters that text does not use: not tab, line feed, form feed, return, escape and their kin.
_CONTROLS = bytes([*range(0x07), *range(0x0E, 0x1B), *range(0x1C, 0x20), 0x7F])
_SAMPLE = 65_536
# A binary that happens to be UTF-8 is all but made of them; one that is not still has more than old texts do.
_MAX_CONTROL_SHARE_UTF8, _MAX_CONTROL_SHARE = 0.15, 0.05
UNICODE_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def reason_by_path(path: str, *, distribution: bool) -> str | None:
    """Why a file of this path is not read; None if nothing in the path speaks against it.

    Args:
        path: From the repository's root, with `/`.
        distribution: Of an installed distribution, whose tests are not what people search.
    """
    *directories, name = PurePosixPath(path).parts
    if not VENDOR_DIRECTORIES.isdisjoint(directories):
        return VENDORED
    if _MINIFIED_NAME.search(name):
        return MINIFIED
    if _GENERATED_NAME.search(name):
        return GENERATED
    if distribution and "tests" in directories:
        return DISTRIBUTION_TESTS
    return None


def reason_by_bytes(source: bytes) -> str | None:
    """Why these bytes are no source text; None if they may be.

    A text may hold a stray NUL or be written in an old encoding; a binary is full of control characters.
    """
    if source.startswith(b"version https://git-lfs.github.com/spec/"):
        return LFS_POINTER
    for mark, encoding in UNICODE_MARKS:
        if source.startswith(mark):
            try:
                source.decode(encoding)
            except UnicodeDecodeError:
                return BINARY
            return None
    sample = source[:_SAMPLE]
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    if controls == 0:
        return None
    if _is_utf8(source):
        return BINARY if controls > _MAX_CONTROL_SHARE_UTF8 * len(sample) else None
    return BINARY if b"\0" in source or controls > _MAX_CONTROL_SHARE * len(sample) else None


def reason_by_text(text: str) -> str | None:
    """Why this text is not worth searching: no person wrote it; None if nothing says so."""
    long = sum(len(line) for line in text.split("\n") if len(line) > _LONG_LINE)
    if long * 2 > len(text):
        return MINIFIED
    if _is_generated(text[:_HEAD_CHARACTERS]):
        return GENERATED
    return None


def _is_utf8(source: bytes) -> bool:
    try:
        source.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_generated(head: str) -> bool:
    opening, in_block, continued = True, False, False
    for line in head.split("\n")[:_HEAD_LINES]:
        if not line.strip() or _PREAMBLE.match(line):
            continued = False
            continue
        mark = _COMMENT.match(line)
        if mark is None and not in_block:
            opening = continued = False
            continue
        said = (line[mark.end() :] if mark else line).strip()
        if _CERTAIN.search(said):
            return True
        # A line that goes on with the sentence before it may well begin with these words.
        begins = said[:1].isupper() or not continued
        if opening and (_OPENING.search(said) or (begins and _OPENING_START.match(said))):
            return True
        continued = bool(said)
        in_block = (in_block or line.lstrip().startswith("/*")) and "*/" not in line
    return False
