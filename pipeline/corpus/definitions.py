"""Definitions: what a file defines, where it stands, and how it is called.

Here the nodes that a query found become a forest of definitions with qualified names. Nothing here knows any
language: what differs between them is said in the queries.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import tree_sitter

Kind = Literal["function", "method", "class", "module"]
Role = Literal["function", "method", "class", "module", "scope", "type", "rest", "docstring"]

# Deeper nesting than this is generated or hostile; every level would repeat the code of all levels below it.
MAX_NESTING = 16
MAX_NAME_CHARS = 120
MAX_SYMBOL_CHARS = 500
# Postgres indexes a path and a symbol together up to 2,704 bytes; a symbol may take 4 bytes per character.
MAX_PATH_BYTES = 2_600 - 4 * MAX_SYMBOL_CHARS
# An undocumented function inside a function is a snippet of its own if its body has as many lines as this.
SUBSTANTIAL_LINES = 3

# Template arguments before `::`, up to three deep.
_TEMPLATE_ARGUMENTS = re.compile(r"<(?:[^<>]|<(?:[^<>]|<[^<>]*>)*>)*>(?=::)")
_SEPARATORS = re.compile(r"::|\\")
_PART = re.compile(r"@(?=\d+\Z)")


@dataclass(slots=True)
class Found:
    """One node that a query gave a role to, before nesting."""

    start_byte: int
    end_byte: int
    role: Role
    node: tree_sitter.Node
    name: str = ""
    receiver: str = ""
    body: tree_sitter.Node | None = None
    open_byte: int | None = None
    clause: bool = False


@dataclass(slots=True)
class Definition:
    """A function, method, class or module as it stands in its file.

    Attributes:
        symbol: Qualified name, not yet unique in its file.
        kind: What it is.
        nodes: Its node; several if it is written in several clauses.
        body: The node of its body, if it has one and only one.
        open_byte: Where the signature ends, in a definition with a body.
        head_byte: Where it begins, decorators included but leading comments not.
        start_byte: Where it begins, with leading documentation.
        end_byte: Where it ends.
        indent: The white space before it on its first line.
        parent: The definition it is in.
        children: The definitions directly in it.
        docstring: Bytes of the documentation inside it, if there is such.
        lead: Bytes of each comment before it that documents it.
        signature: Its head on one line.
        documentation: The lead of its documentation as prose, or "".
        snippet: Whether it is a snippet of its own.
    """

    symbol: str
    kind: Kind
    nodes: list[tree_sitter.Node]
    body: tree_sitter.Node | None
    open_byte: int | None
    head_byte: int
    start_byte: int
    end_byte: int
    parent: Definition | None
    children: list[Definition] = field(default_factory=list)
    docstring: tuple[int, int] | None = None
    lead: list[tuple[int, int]] = field(default_factory=list)
    indent: str = ""
    signature: str = ""
    documentation: str = ""
    snippet: bool = True

    @property
    def documentation_spans(self) -> list[tuple[int, int]]:
        """The byte ranges that hold its documentation, in file order."""
        return [*self.lead, self.docstring] if self.docstring else self.lead


@dataclass(slots=True)
class _Level:
    """One thing that is open while walking down a file."""

    end_byte: int
    prefix: str
    role: Role
    definition: Definition | None
    nesting: int


def nest(
    found: Iterable[Found],
    extents: dict[int, tuple[int, int]],
    end_byte: int,
    documented: Callable[[int], bool],
) -> list[Definition]:
    """The definitions among what was found, in file order, each with its symbol, parent and children.

    Args:
        found: Nodes with a role, in any order; their ranges nest, as nodes of one tree do.
        extents: Byte range of the outermost wrapper of a wrapped node, by node id.
        end_byte: Where the file ends.
        documented: Whether documentation stands before a byte: what it documents begins something new.
    """
    definitions: list[Definition] = []
    levels = [_Level(end_byte, "", "scope", None, 0)]
    for item in sorted(found, key=lambda item: (item.start_byte, -item.end_byte)):
        while len(levels) > 1 and levels[-1].end_byte <= item.start_byte:
            levels.pop()
        if item.role == "docstring":
            owner = levels[-1].definition
            if owner is not None and owner.docstring is None:
                owner.docstring = (item.start_byte, item.end_byte)
            continue
        if item.role == "rest" and len(levels) > 1 and levels[-1].role == "rest":
            levels.pop()
        around = levels[-1]
        if around.nesting >= MAX_NESTING:
            continue
        symbol = _join(around.prefix, item.receiver, item.name)
        if item.role in {"scope", "type", "rest"}:
            end = around.end_byte if item.role == "rest" else item.end_byte
            levels.append(_Level(end, symbol, item.role, around.definition, around.nesting))
            continue
        kind: Kind = item.role  # pyright: ignore[reportAssignmentType]  (the other roles are dealt with above)
        if kind == "function" and around.role in {"class", "type"}:
            kind = "method"
        definition = _clause_before(item, symbol, around.definition, definitions)
        if definition is None or documented(item.start_byte):
            start, end = extents.get(item.node.id, (item.start_byte, item.end_byte))
            definition = Definition(
                symbol=symbol,
                kind=kind,
                nodes=[item.node],
                body=item.body,
                open_byte=item.open_byte,
                head_byte=start,
                start_byte=start,
                end_byte=end,
                parent=around.definition,
            )
            definitions.append(definition)
            if around.definition is not None:
                around.definition.children.append(definition)
        else:
            definition.nodes.append(item.node)
            definition.body = None
            definition.end_byte = item.end_byte
        levels.append(_Level(item.end_byte, symbol, item.role, definition, around.nesting + 1))
    return definitions


def _clause_before(
    item: Found, symbol: str, parent: Definition | None, definitions: list[Definition]
) -> Definition | None:
    """The definition that `item` is a further clause of."""
    if not item.clause or not definitions:
        return None
    last = definitions[-1]
    same = last.symbol == symbol and last.parent is parent and last.nodes[0].type == item.node.type
    return last if same else None


def _join(prefix: str, receiver: str, name: str) -> str:
    own = ".".join(part for part in (receiver, name) if part)
    room = MAX_SYMBOL_CHARS - len(own) - 1
    prefix = prefix if len(prefix) <= room else prefix[: room - 1] + "…"
    return f"{prefix}.{own}" if prefix and own else prefix or own


def readable_name(text: str) -> str:
    """A name as it stands in a symbol: without quotes and template arguments, with dots between its parts."""
    name = text[: 4 * MAX_NAME_CHARS].strip("\"'`") or text
    if "::" in name or "\\" in name:
        name = _SEPARATORS.sub(".", _TEMPLATE_ARGUMENTS.sub("", name)).strip(".")
    # What ends in "@2" is the second part of something long.
    return _PART.sub("_", "".join(name.split())[:MAX_NAME_CHARS])


def unique_symbols(symbols: Iterable[str]) -> list[str]:
    """The same symbols, each made unique: the second `name` becomes `name#2`, the third `name#3`."""
    counts: dict[str, int] = {}
    taken: set[str] = set()
    unique: list[str] = []
    for symbol in symbols:
        name = symbol
        while name in taken:
            counts[symbol] = counts.get(symbol, 1) + 1
            name = f"{symbol}#{counts[symbol]}"
        taken.add(name)
        unique.append(name)
    return unique
