"""Parses one file: its syntax tree, and the definitions that its language's query finds in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import tree_sitter

from pipeline.corpus.definitions import SUBSTANTIAL_LINES, Definition, Found, Role, nest, readable_name
from pipeline.corpus.documentation import docstring_lead
from pipeline.corpus.languages import Language
from pipeline.corpus.leading import Leads, trimmed

MAX_SIGNATURE_CHARS = 400
# The time a query takes grows with the square of the tokens that are in no tree: 20,000 take half a second.
MAX_LOOSE_TOKENS = 20_000

_ROLES: dict[str, Role] = {
    "function": "function",
    "function.clause": "function",
    "method": "method",
    "class": "class",
    "module": "module",
    "scope": "scope",
    "scope.type": "type",
    "scope.rest": "rest",
    "docstring": "docstring",
}
# What may stand between a signature and a body, in whatever language.
_SIGNATURE_END = re.compile(r"(?:[ {:;=]|,? *\bdo:?)+$")
_MARKS_AT_END = " {:;="

_LINE_OF_CODE = re.compile(rb"\w[^\n]*")


@dataclass(frozen=True)
class ParsedFile:
    """A file and what it defines.

    Attributes:
        source: Its bytes, made valid UTF-8 without a byte order mark; all byte offsets are into these.
        definitions: In file order, those that are no snippets of their own included.
        leads: Its comments and attributes.
        syntax_errors: How many places in it could not be parsed.
        blocks: The nodes whose children are statements, by their beginning; what is around stands first.
        clauses: The ids of the nodes that continue the statement before them.
    """

    source: bytes
    definitions: list[Definition]
    leads: Leads
    syntax_errors: int
    blocks: list[tree_sitter.Node]
    clauses: set[int]


@cache
def _query(language: Language) -> tree_sitter.Query:
    """All that is looked for in every file: in one query, for walking the tree is most of what one costs."""
    return tree_sitter.Query(language.load(), language.query_text)


@cache
def _error_query(language: Language) -> tree_sitter.Query:
    """What could not be parsed. Apart, for few files have any, and what is missing is asked of every node."""
    return tree_sitter.Query(language.load(), "(ERROR) @error (MISSING) @error")


def utf8(source: bytes) -> bytes:
    """The same bytes without a byte order mark, and with what is not UTF-8, and NUL, replaced by U+FFFD."""
    source = source.removeprefix(b"\xef\xbb\xbf")
    try:
        source.decode("utf-8")
    except UnicodeDecodeError:
        source = source.decode("utf-8", "replace").encode()
    return source.replace(b"\0", "\ufffd".encode()) if b"\0" in source else source


def parse_file(source: bytes, language: Language) -> ParsedFile:
    """Parses a file and finds its definitions.

    A file with syntax errors is read as far as the parser makes sense of it: a definition is kept if its name
    and its body are recognised, even with an error inside or around it. Where the parser makes nothing but
    loose tokens of a file, it has no definitions.
    """
    source = utf8(source)
    root = tree_sitter.Parser(language.load()).parse(source).root_node
    query = _query(language)
    if root.is_error and root.child_count > MAX_LOOSE_TOKENS:
        return ParsedFile(source, [], Leads(source, [], []), 1, [], set())
    found: dict[int, tuple[int, Found]] = {}
    comments: list[tuple[int, int]] = []
    attributes: list[tuple[int, int]] = []
    wrappers: dict[int, tree_sitter.Node] = {}
    blocks: dict[int, tree_sitter.Node] = {}
    clauses: set[int] = set()
    for pattern, captures in tree_sitter.QueryCursor(query).matches(root):
        if "block" in captures:
            block = captures["block"][0]
            blocks[block.id] = block
            if "clause" in captures:
                clauses.add(block.id)
        elif "comment" in captures:
            comments.extend((node.start_byte, node.end_byte) for node in captures["comment"])
        elif "attribute" in captures:
            attributes.extend((node.start_byte, node.end_byte) for node in captures["attribute"])
        elif "wrapped" in captures:
            wrappers[captures["wrapped"][0].id] = captures["wrapper"][0]
        else:
            item = _found(captures, query, pattern, source)
            if item is not None and found.get(item.node.id, (pattern + 1,))[0] > pattern:
                found[item.node.id] = (pattern, item)
    leads = Leads(source, comments, attributes)
    extents = {node_id: _extent(node_id, wrappers) for node_id in wrappers}
    definitions = nest(
        (item for _, item in found.values()),
        extents,
        len(source),
        documented=lambda start: bool(leads.documentation(leads.before(start))[0]),
    )
    for definition in definitions:
        _describe(definition, source, leads)
    errors = 0
    if root.has_error:
        errors = max(len(tree_sitter.QueryCursor(_error_query(language)).matches(root)), 1)
    by_place = sorted(blocks.values(), key=lambda node: (node.start_byte, -node.end_byte))
    return ParsedFile(source, definitions, leads, errors, by_place, clauses)


def _found(
    captures: dict[str, list[tree_sitter.Node]], query: tree_sitter.Query, pattern: int, source: bytes
) -> Found | None:
    """What one match found, or None if what should be its name is missing in the source."""
    (role_capture,) = _ROLES.keys() & captures.keys()
    node, role = captures[role_capture][0], _ROLES[role_capture]
    found = Found(node.start_byte, node.end_byte, role, node)
    if role == "docstring":
        return found
    if "name" in captures:
        found.name = _text(captures["name"][0], source)
    else:
        found.name = query.pattern_settings(pattern).get("name") or ""
    if not found.name and role not in {"scope", "type", "rest"}:
        return None
    if "receiver" in captures:
        found.receiver = _text(captures["receiver"][0], source)
    if "body" in captures:
        found.body = captures["body"][0]
        found.open_byte = (captures["open"][0] if "open" in captures else found.body).start_byte
    found.clause = role_capture == "function.clause"
    return found


def _text(node: tree_sitter.Node, source: bytes) -> str:
    return readable_name(source[node.start_byte : node.end_byte].decode("utf-8", "replace"))


def _extent(node_id: int, wrappers: dict[int, tree_sitter.Node]) -> tuple[int, int]:
    """Byte range of the outermost wrapper around a wrapped node."""
    wrapper = wrappers[node_id]
    while wrapper.id in wrappers:
        wrapper = wrappers[wrapper.id]
    return wrapper.start_byte, wrapper.end_byte


def _describe(definition: Definition, source: bytes, leads: Leads) -> None:
    """Gives a definition its documentation, its signature and its full extent."""
    definition.end_byte = trimmed(source, definition.start_byte, definition.end_byte)
    chain = leads.before(definition.start_byte)
    attribute_starts = [start for start, _, is_comment in chain if not is_comment]
    if definition.docstring is not None:
        start, end = definition.docstring
        definition.documentation = docstring_lead(source[start:end].decode("utf-8", "replace"))
    else:
        definition.lead, definition.documentation = leads.documentation(chain)
    definition.head_byte = min([definition.start_byte, *attribute_starts])
    definition.signature = _signature(definition, source, leads)
    definition.start_byte = min([definition.head_byte, *(start for start, _ in definition.lead)])
    before = source[source.rfind(b"\n", 0, definition.start_byte) + 1 : definition.start_byte]
    definition.indent = before.decode() if before.isspace() else ""
    parent = definition.parent
    if parent is not None and parent.kind in {"function", "method"} and definition.kind != "class":
        body = definition.body or definition.nodes[0]
        lines = len(_LINE_OF_CODE.findall(source, body.start_byte, body.end_byte))
        definition.snippet = bool(definition.documentation) or lines >= SUBSTANTIAL_LINES


def _signature(definition: Definition, source: bytes, leads: Leads) -> str:
    """A definition's head on one line, without decorators and comments."""
    start, end = definition.start_byte, definition.end_byte
    if definition.open_byte is not None:
        end = definition.open_byte
    kept: list[bytes] = []
    for place_start, place_end, _ in leads.within(start, end):
        if place_start >= start:
            kept.append(source[start:place_start])
            start = place_end
    kept.append(source[start:end])
    text = " ".join(b" ".join(kept).decode("utf-8", "replace").split())
    bare = text.rstrip(_MARKS_AT_END)
    if bare.endswith("do"):  # the expression is tried at every character of a line
        bare = _SIGNATURE_END.sub("", text)
    text = bare or text
    return text if len(text) <= MAX_SIGNATURE_CHARS else text[: MAX_SIGNATURE_CHARS - 1] + "…"
