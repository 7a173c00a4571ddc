"""Small files in each language, and what is to be cut out of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.corpus.cutting import CutFile, CutSnippet, cut_file
from pipeline.corpus.languages import get_language
from pipeline.corpus.tokens import TokenBudget

_WORD = re.compile(r"\w+|[^\w\s]")


def count_words(texts: Sequence[str]) -> list[int]:
    """A tokenizer anyone can check by hand: each word and each sign is one, and two stand around a text."""
    return [2 + len(_WORD.findall(text)) for text in texts]


def words(limit: int) -> TokenBudget:
    return TokenBudget(f"words/{limit}", limit, count_words)


def cut(language: str, source: str | bytes, limit: int = 256) -> CutFile:
    source = source.encode() if isinstance(source, str) else source
    return cut_file("file", source, get_language(language), words(limit))


def by_symbol(language: str, source: str | bytes, limit: int = 256) -> dict[str, CutSnippet]:
    return {snippet.symbol: snippet for snippet in cut(language, source, limit).snippets}


@dataclass(frozen=True)
class Sample:
    """A file, and a line for each of its snippets: `first-last kind symbol | documentation`."""

    language: str
    source: str
    expected: str


def cut_sample(sample: Sample) -> str:
    """What is cut out of a sample, written like `expected`."""
    found = cut(sample.language, sample.source)
    assert found.syntax_errors == 0
    lines = [
        f"{snippet.start_line}-{snippet.end_line} {snippet.kind} {snippet.symbol}"
        + (f" | {snippet.documentation}" if snippet.documentation else "")
        for snippet in found.snippets
    ]
    return "\n".join(lines) + "\n"
