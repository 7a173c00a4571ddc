"""Turns a file's bytes into text that Postgres can hold and a parser can read."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from pipeline.corpus.skipping import UNICODE_MARKS

# PEP 263, also understood by Ruby and editors: in one of the first two lines.
_DECLARED = re.compile(rb"\A(?:[^\n]*\n)?[ \t\f]*(?:#|//|--|;|/\*)[^\n]*?coding[:=][ \t]*([-\w.]+)")

# Python's codecs that are character sets; others, such as unicode_escape, would make text of another kind.
_CHARACTER_SET = re.compile(r"iso8859|cp\d|koi8|mac[-_]|euc_|shift_jis|gb|big5|johab|tis|ptcp|iso2022")


@dataclass(frozen=True)
class Decoded:
    """A file's text, and what had to be done to it that its owner may want to know (`""`: nothing)."""

    text: str
    note: str


def decode(source: bytes) -> Decoded:
    """The text of a source file: lines end in `\\n`, and there is no byte order mark and no NUL.

    Read as UTF-8, else as the encoding its mark or its first lines declare; else what is not UTF-8 becomes
    U+FFFD. Line endings are made the same so that a file checked out on Windows is the same code.
    """
    text, note = _decoded(source)
    if "\r" in text:
        text = text.replace("\r\n", "\n") if "\n" in text else text.replace("\r", "\n")
    if "\0" in text:
        # Postgres has no NUL in a text, and grammars take it for the end of the file.
        text = text.replace("\0", "\ufffd")
        note = note or "NUL characters were replaced"
    return Decoded(text, note)


def _decoded(source: bytes) -> tuple[str, str]:
    for mark, encoding in UNICODE_MARKS:
        if source.startswith(mark):
            return source.decode(encoding, "replace"), f"read as {encoding.upper()}"
    try:
        return source.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        declared = _DECLARED.match(source)
    if declared is not None:
        codec = character_set(declared.group(1).decode("latin-1"))
        try:
            if codec is not None:
                return source.decode(codec), f"read as {codec}, as it declares"
        except UnicodeError:
            pass  # a wrong one
    return source.decode("utf-8-sig", "replace"), "not UTF-8: the bytes that are not were replaced"


def character_set(name: str) -> str | None:
    """Python's name for a character set; None if it knows none, or means another kind of codec."""
    try:
        codec = codecs.lookup(name).name
    except (LookupError, ValueError):  # no name at all
        return None
    return codec if _CHARACTER_SET.match(codec) else None
