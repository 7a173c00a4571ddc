"""Pairs out of documentation: what its author says a piece of code does, and the code without those words."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from pipeline.config import Settings
from pipeline.feedback.grouping import group_key
from pipeline.store.connections import Connection
from pipeline.training import store
from pipeline.training.pairs import Candidate, Split
from pipeline.training.splits import documentation_caps, hash_order, split_of_group

MIN_WORDS = 3
MIN_LETTER_SHARE = 0.6
# The same words over this many different pieces of code ("See base class.") say nothing of any one of them.
BOILERPLATE = 4
# Texts are read for so many times as many pairs as the caps allow: dropping what leaks has to leave enough.
SHORTLIST = 3

_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class Documented:
    """One live content with its documentation."""

    content_hash: bytes
    documentation: str
    language: str


def documentation_candidates(
    connection: Connection, settings: Settings
) -> tuple[list[Candidate], Counter[str]]:
    """One candidate for each documented live content, and how many were left out, by reason."""
    dropped: Counter[str] = Counter()
    shortlist: dict[Split, list[tuple[bytes, bytes, Documented]]] = {
        "train": [],
        "validation": [],
        "test": [],
    }
    rows = [Documented(*row) for row in store.documented(connection)]
    keys = [group_key(row.documentation) for row in rows]
    sharing = Counter(keys)
    for row, key in zip(rows, keys, strict=True):
        reason = unusable(row.documentation)
        if reason is None and sharing[key] >= BOILERPLATE:
            reason = "boilerplate documentation"
        if reason is not None:
            dropped[reason] += 1
            continue
        side = shortlist[split_of_group(key, settings)]
        side.append((hash_order(key, row.content_hash), key, row))
    caps = documentation_caps(settings)
    chosen: list[tuple[Split, bytes, Documented]] = []
    for split, side in shortlist.items():
        side.sort(key=lambda entry: entry[0])
        limit = SHORTLIST * caps[split]
        dropped["over the cap"] += len(side[limit:])
        chosen.extend((split, key, row) for _, key, row in side[:limit])
    texts = store.contents(connection, [row.content_hash for _, _, row in chosen])
    candidates: list[Candidate] = []
    for split, key, row in chosen:
        code = texts[row.content_hash].code
        candidates.append(
            Candidate(
                origin="docstring",
                query=row.documentation,
                group_key=key,
                split=split,
                content_hash=row.content_hash,
                text=code,
                code=code,
                weight=settings.documentation_weight,
                language=row.language,
                because={"documentation": "its own"},
            )
        )
    return candidates, dropped


def unusable(documentation: str) -> str | None:
    """Why `documentation` is not like anything a person would ask for; None if it is."""
    if len(_WORD.findall(documentation)) < MIN_WORDS:
        return "documentation too short"
    letters = sum(character.isalpha() for character in documentation)
    visible = sum(not character.isspace() for character in documentation)
    return "documentation not prose" if letters < MIN_LETTER_SHARE * visible else None
