"""Cuts one file into snippets: parses it, renders each definition's text, splits what is too long."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from operator import and_
from typing import NamedTuple

from pipeline.corpus.definitions import Definition, unique_symbols
from pipeline.corpus.documentation import says_enough
from pipeline.corpus.languages import Language
from pipeline.corpus.leading import trimmed
from pipeline.corpus.parsing import ParsedFile, parse_file
from pipeline.corpus.rendering import (
    Pieces,
    class_pieces,
    has_members,
    render_pieces,
    render_undocumented,
)
from pipeline.corpus.splitting import function_pieces, pack, whole_function
from pipeline.corpus.tokens import TokenBudget

# If this much or less stands beside a snippet on its first and last line, its code is the whole lines.
MAX_BYTES_BESIDE = 200
# A token is a byte at least, so a text has fewer than bytes, but for those that begin and end it.
_SPECIAL_TOKENS = 8


class CutSnippet(NamedTuple):
    """One snippet, ready to be stored.

    Attributes:
        symbol: Qualified name, unique in its file: `Foo.bar`; the second of the same name is `Foo.bar#2`;
            the further parts of a long one are `Foo.bar@2`, `Foo.bar@3`.
        kind: function, method, class or module.
        signature: The head on one line, without decorators and body.
        code: The source as it stands in the file, from `start_line` to `end_line`.
        text: What is embedded.
        documentation: Lead of its docstring or leading comment, as prose; None if it has none to speak of.
        undocumented_text: `text` without any documentation; None if undocumented, or if nothing but the
            signature would be left.
        content_hash: SHA-256 of `text`.
        start_line: First line, from 1, leading comments and decorators included.
        end_line: Last line, itself included.
    """

    symbol: str
    kind: str
    signature: str
    code: str
    text: str
    documentation: str | None
    undocumented_text: str | None
    content_hash: bytes
    start_line: int
    end_line: int


@dataclass(frozen=True)
class CutFile:
    """All snippets of one file, in file order, and how many places in it could not be parsed."""

    snippets: list[CutSnippet]
    syntax_errors: int


@dataclass(slots=True)
class _Cut:
    """One definition on its way: its pieces, and which of them begin a part."""

    definition: Definition
    pieces: Pieces
    begins: list[int]
    texts: list[str]


def cut_file(path: str, source: bytes, language: Language, tokens: TokenBudget) -> CutFile:
    """Cuts a file into snippets.

    Args:
        path: Where it lies in its repository.
        source: Its bytes; what is not UTF-8, and NUL, is replaced by U+FFFD.
        language: What it is written in.
        tokens: How long a snippet's text may be.

    Returns:
        The snippets; a file with syntax errors gives those of its definitions that are recognisable.
    """
    parsed = parse_file(source, language)
    definitions = [definition for definition in parsed.definitions if definition.snippet]
    definitions.sort(key=lambda definition: definition.start_byte)
    symbols = unique_symbols(definition.symbol for definition in definitions)
    cuts = [_whole(parsed, definition) for definition in definitions]
    _split_long(parsed, cuts, tokens)
    lines = _Lines(parsed.source)
    snippets = [
        _snippet(parsed, cut, number, symbol, lines)
        for symbol, cut in zip(symbols, cuts, strict=True)
        for number in range(1, len(cut.texts) + 1)
    ]
    return CutFile(snippets, parsed.syntax_errors)


def _whole(parsed: ParsedFile, definition: Definition) -> _Cut:
    pieces = (class_pieces if has_members(definition) else whole_function)(parsed, definition)
    return _Cut(definition, pieces, [0], ["\n".join(pieces.texts)])


def _split_long(parsed: ParsedFile, cuts: list[_Cut], tokens: TokenBudget) -> None:
    """Splits those whose text is over the budget. Counts tokens for all of a file at once: calls are dear."""
    unsure = [cut for cut in cuts if len(cut.texts[0].encode()) + _SPECIAL_TOKENS > tokens.max_tokens]
    counts = tokens.count([cut.texts[0] for cut in unsure]) if unsure else []
    long = [cut for cut, count in zip(unsure, counts, strict=True) if count > tokens.max_tokens]
    if not long:
        return
    for cut in long:
        if not has_members(cut.definition):
            cut.pieces = function_pieces(parsed, cut.definition)
    heads = [_short_signature(cut.definition, tokens.max_tokens) for cut in long]
    sizes = iter(tokens.count(["", *heads, *(text for cut in long for text in cut.pieces.texts)]))
    overhead = next(sizes)
    head_sizes = [next(sizes) - overhead for _ in heads]
    piece_sizes = [[next(sizes) - overhead for _ in cut.pieces.texts] for cut in long]
    limit = tokens.max_tokens - overhead
    pending = list(zip(long, heads, head_sizes, piece_sizes, strict=True))
    while pending:
        for cut, head, head_size, size in pending:
            depths = [depth for _, depth in cut.pieces.places]
            cut.begins = pack(size, depths, max(limit, 1), max(limit - head_size, 1))
            cut.texts = _part_texts(parsed, cut, head)
        # Texts side by side may have more tokens than each alone: what was packed is counted once more, and
        # packed less tightly if need be. In the end each piece is a part.
        counts = iter(tokens.count([text for cut, *_ in pending for text in cut.texts]))
        over = [[next(counts) > tokens.max_tokens for _ in cut.texts] for cut, *_ in pending]
        pending = [
            each
            for each, is_over in zip(pending, over, strict=True)
            if any(map(and_, is_over, _have_several(each[0])))
        ]
        limit -= max(tokens.max_tokens // 16, 1)


def _short_signature(definition: Definition, max_tokens: int) -> str:
    """The signature that stands before each further part: at most about a quarter of the budget."""
    signature = definition.signature
    return signature if len(signature) <= max_tokens else signature[: max_tokens - 1] + "…"


def _part_texts(parsed: ParsedFile, cut: _Cut, head: str) -> list[str]:
    bounds = pairwise([*cut.begins, len(cut.pieces.places)])
    texts = [
        render_pieces(parsed, cut.definition, cut.pieces, begin, end, documented=True)
        for begin, end in bounds
    ]
    return [texts[0], *(f"{head}\n{text}" for text in texts[1:])]


def _have_several(cut: _Cut) -> list[bool]:
    """Of each part, whether it has several pieces."""
    return [end - begin > 1 for begin, end in pairwise([*cut.begins, len(cut.pieces.places)])]


class _Lines:
    """Line numbers of a file, from 1. Asked for places near each other, it counts only between them."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._offset, self._line = 0, 1

    def number(self, offset: int) -> int:
        """The line that a byte is on."""
        if offset >= self._offset:
            self._line += self._source.count(b"\n", self._offset, offset)
        else:
            self._line -= self._source.count(b"\n", offset, self._offset)
        self._offset = offset
        return self._line


def _snippet(parsed: ParsedFile, cut: _Cut, number: int, symbol: str, lines: _Lines) -> CutSnippet:
    definition, pieces, source = cut.definition, cut.pieces, parsed.source
    piece_end = cut.begins[number] if number < len(cut.begins) else len(pieces.places)
    start, end = pieces.begins_at(cut.begins[number - 1]), pieces.begins_at(piece_end)
    end = trimmed(source, start, end)
    first, last = lines.number(start), lines.number(end)
    line_start, line_end = source.rfind(b"\n", 0, start) + 1, source.find(b"\n", end)
    if line_end < 0:
        line_end = len(source)
    if line_end - line_start - (end - start) <= MAX_BYTES_BESIDE:
        start, end = line_start, line_end
    documentation = undocumented = None
    if number == 1 and says_enough(definition.documentation):
        documentation = definition.documentation
        undocumented = render_undocumented(parsed, definition, pieces, piece_end)
    text = cut.texts[number - 1]
    return CutSnippet(
        symbol=symbol if number == 1 else f"{symbol}@{number}",
        kind=definition.kind,
        signature=definition.signature,
        code=source[start:end].decode("utf-8").removesuffix("\r"),
        text=text,
        documentation=documentation,
        undocumented_text=undocumented,
        content_hash=hashlib.sha256(text.encode()).digest(),
        start_line=first,
        end_line=last,
    )
