"""Which queries are the same: the group that judgements are pooled over and that a split is drawn for."""

from __future__ import annotations

import hashlib
import unicodedata


def normalise_query(query: str) -> str:
    """`query` without differences that mean nothing: compatibility forms, case and white space.

    Compatibility forms are folded again after the case, because folding can undo them (Unicode §3.13, D146).
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", query).casefold())
    return " ".join(folded.split())


def group_key(query: str) -> bytes:
    """32 bytes that all spellings of one query share. Stable for ever: the splits are drawn from it."""
    return hashlib.sha256(normalise_query(query).encode()).digest()
