"""Which functions a change of one file is about: those whose code differs, comments and layout aside."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from pipeline.corpus.decoding import decode
from pipeline.corpus.definitions import Definition, unique_symbols
from pipeline.corpus.languages import Language
from pipeline.corpus.parsing import ParsedFile, parse_file
from pipeline.corpus.rendering import is_empty_body, render_range

_TOKEN = re.compile(rb"\w+|[^\w\s]")
# Trailing commas are what formatters add when they break a line.
_LAYOUT = re.compile(rb" ,(?= [)\]}])")


@dataclass(frozen=True)
class Function:
    """A function or method as one version of a file has it.

    Attributes:
        code: Its source without its documentation.
        essence: A hash of its code without comments, documentation, layout and the functions inside it that
            are snippets of their own: equal if a change is none.
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
            _essence(parsed, definition),
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


def _essence(parsed: ParsedFile, definition: Definition) -> bytes:
    left_out = [
        (start, end)
        for start, end, is_comment in parsed.leads.within(definition.start_byte, definition.end_byte)
        if is_comment
    ]
    left_out += definition.documentation_spans
    left_out += [(child.start_byte, child.end_byte) for child in definition.children if child.snippet]
    kept: list[bytes] = []
    position = definition.start_byte
    for start, end in sorted(left_out):
        kept.append(parsed.source[position : max(start, position)])
        position = max(position, end)
    kept.append(parsed.source[position : definition.end_byte])
    tokens = b" ".join(_TOKEN.findall(b" ".join(kept)))
    return hashlib.sha256(_LAYOUT.sub(b"", tokens)).digest()
