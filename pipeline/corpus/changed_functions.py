"""Which functions a change of one file is about: those whose code differs, comments and layout aside."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import tree_sitter

from pipeline.corpus.decoding import decode
from pipeline.corpus.definitions import Definition, unique_symbols
from pipeline.corpus.languages import Language
from pipeline.corpus.parsing import ParsedFile, parse_file
from pipeline.corpus.rendering import is_empty_body, render_range

_TOKEN = re.compile(rb"\w+|[^\w\s]")
# Trailing commas are what formatters add when they break a line.
_LAYOUT = re.compile(rb" ,(?= [)\]}])")
_WRAPPED = re.compile(rb"\\\r?\n")
# What layout says where it has a meaning: bytes that are tokens and in no code.
_BEGIN, _END, _STATEMENT = b"\1", b"\2", b"\3"
# In Scala "f(x)" may stand beside the "=" or be indented below it; after these an "else" or a "case" of
# another line may follow, so that for them it makes a difference.
_BRANCHING = re.compile(r"(?:if|match|try|for|while)_")


@dataclass(frozen=True)
class Function:
    """A function or method as one version of a file has it.

    Attributes:
        code: Its source without its documentation.
        essence: A hash of its code without comments, documentation, layout and the functions inside it that
            are snippets of their own: equal if a change is none. Where indentation decides what is in a
            block, the blocks count, and not the spaces that make them.
    """

    code: str
    essence: bytes


def functions_in(source: bytes, language: Language) -> dict[str, Function]:
    """The functions and methods of a file that do something, by the symbols that their snippets have.

    What has a body with nothing in it is only a signature: an overload, an abstract method.
    """
    parsed = parse_file(decode(source).text.encode(), language)
    snippets = sorted(
        (definition for definition in parsed.definitions if definition.snippet),
        key=lambda definition: definition.start_byte,
    )
    symbols = unique_symbols(definition.symbol for definition in snippets)
    return {
        symbol: Function(
            render_range(parsed, definition, definition.start_byte, definition.end_byte, documented=False),
            _essence(parsed, definition, language),
        )
        for symbol, definition in zip(symbols, snippets, strict=True)
        if definition.kind in ("function", "method") and not _is_signature(parsed, definition)
    }


def _is_signature(parsed: ParsedFile, definition: Definition) -> bool:
    if definition.open_byte is None:
        return False
    return is_empty_body(
        render_range(parsed, definition, definition.open_byte, definition.end_byte, documented=False)
    )


def _essence(parsed: ParsedFile, definition: Definition, language: Language) -> bytes:
    ranges = [
        (start, end)
        for start, end, is_comment in parsed.leads.within(definition.start_byte, definition.end_byte)
        if is_comment
    ]
    ranges += definition.documentation_spans
    ranges += [(child.start_byte, child.end_byte) for child in definition.children if child.snippet]
    left_out = [(start, end, b"") for start, end in _merged(ranges)]
    marks = _marks(parsed, definition, left_out) if language.indented else ()
    kept: list[bytes] = []
    position = definition.start_byte
    for start, end, mark in sorted([*left_out, *marks]):
        kept += [parsed.source[position : max(start, position)], mark]
        position = max(position, end)
    kept.append(parsed.source[position : definition.end_byte])
    tokens = b" ".join(_TOKEN.findall(_WRAPPED.sub(b" ", b" ".join(kept))))
    return hashlib.sha256(_LAYOUT.sub(b"", tokens)).digest()


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same places as ranges of which none begins within another."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _marks(
    parsed: ParsedFile, definition: Definition, left_out: list[tuple[int, int, bytes]]
) -> Iterator[tuple[int, int, bytes]]:
    """What indentation and line breaks mean in a definition, and what they do not.

    Marks where blocks begin and end that no token delimits, and where the statements in them do, each with
    the same place twice; and the parentheses that only let a statement go on in another line, to be left out.
    """

    def counts(start: int, end: int) -> bool:
        before = bisect_left(left_out, (start + 1,)) - 1
        return before < 0 or end > left_out[before][1]

    # The body is the first: a class may begin where its first method does.
    first = bisect_left(parsed.blocks, definition.open_byte or 0, key=lambda block: block.start_byte)
    for block in islice(parsed.blocks, first, None):
        if block.start_byte >= definition.end_byte:
            break
        if not counts(block.start_byte, block.end_byte) or parsed.source.startswith(b"{", block.start_byte):
            continue
        statements = [node for node in block.named_children if counts(node.start_byte, node.end_byte)]
        if not (
            block.type == "indented_block"
            and len(statements) == 1
            and not _BRANCHING.match(statements[0].type)
        ):
            yield block.start_byte, block.start_byte, _BEGIN
            yield from ((node.start_byte, node.start_byte, _STATEMENT) for node in statements)
            end = min(block.end_byte, definition.end_byte)
            yield end, end, _END
        for statement in statements:
            for node in _wrapping(statement):
                yield node.start_byte, node.start_byte + 1, b""
                yield node.end_byte - 1, node.end_byte, b""


def _wrapping(statement: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    """The parentheses around the whole of what a statement returns, assigns or asks for."""
    for node in statement.named_children:
        if node.type == "parenthesized_expression":
            yield node
        elif node.type in ("assignment", "augmented_assignment"):
            yield from _wrapping(node)
