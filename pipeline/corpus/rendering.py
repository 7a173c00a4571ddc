"""The texts of a definition: what is embedded, with its documentation shortened to its lead or left out.

A function's text is its code. A class's is its head and, one a line, the signatures of its members: their
bodies are snippets of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.corpus.definitions import Definition
from pipeline.corpus.documentation import shaped
from pipeline.corpus.parsing import ParsedFile

MAX_MEMBER_CHARS = 200
MEMBER_INDENT = "    "

_TAIL = re.compile(rb"[ \t]*[;,)]*(?=[ \t]*\r?(?:\n|\Z))")
_EMPTY_BODY = re.compile(r"(?:\W|\b(?:pass|end|do)\b)*")


def is_empty_body(body: str) -> bool:
    """Whether nothing is done in a body."""
    return _EMPTY_BODY.fullmatch(body) is not None


@dataclass(frozen=True)
class Pieces:
    """A definition in pieces that it may be split between.

    Attributes:
        places: Byte at which each piece begins, and the number of blocks around it; the first piece begins
            where the definition does.
        end_byte: Where the last piece ends.
        texts: Text of each piece, with the documentation shortened to its lead.
    """

    places: list[tuple[int, int]]
    end_byte: int
    texts: list[str]

    def begins_at(self, index: int) -> int:
        """Byte at which a piece begins, or at which the last one ends."""
        return self.places[index][0] if index < len(self.places) else self.end_byte


def text_end(source: bytes, offset: int) -> int:
    """`offset`, after the punctuation that ends the line there, if nothing else does."""
    tail = _TAIL.match(source, offset)
    return tail.end() if tail else offset


def text_start(parsed: ParsedFile, offset: int) -> int:
    """`offset`, or the beginning of its line if only white space is between."""
    start = parsed.leads.line_start(offset)
    return offset if start is None else start


def render_range(
    parsed: ParsedFile, definition: Definition, start: int, end: int, *, documented: bool
) -> str:
    """The source of a definition from byte `start` to `end`, without the definition's own indentation.

    Of its documentation the lead stays, or if not `documented` nothing.
    """
    source = parsed.source
    kept: list[bytes] = []
    lead = definition.documentation if documented else ""
    for span_start, span_end in definition.documentation_spans:
        if not start <= span_start < end:
            continue
        if lead:
            kept += [source[start:span_start], shaped(decoded(source[span_start:span_end]), lead).encode()]
            start, lead = span_end, ""
        else:
            alone = parsed.leads.alone_before(span_start)
            kept.append(source[start : text_start(parsed, span_start)])
            start = text_end(source, span_end)
            if alone and (line_break := re.compile(rb"[ \t]*\r?\n").match(source, start, end)):
                start = line_break.end()
    kept.append(source[start:end])
    text = decoded(b"".join(kept)).replace("\r\n", "\n")
    if indent := definition.indent:
        text = text.replace("\n" + indent, "\n").removeprefix(indent)
    return text.strip("\n").rstrip()


def decoded(source: bytes) -> str:
    """Source as text. All of a file is valid UTF-8; a node's edge might, in theory, not be."""
    return source.decode("utf-8", "replace")


def render_head(parsed: ParsedFile, definition: Definition, *, documented: bool) -> str:
    """A class up to its body, with the lead of its documentation, wherever that stands."""
    start, end = text_start(parsed, definition.start_byte), definition.open_byte or definition.end_byte
    for place_start, _, is_comment in parsed.leads.within(definition.start_byte, end):
        if (
            is_comment
            and parsed.leads.alone_before(place_start)
            and place_start > definition.nodes[0].start_byte
        ):
            end = place_start  # what a grammar puts before the body documents its first member
            break
    head = render_range(parsed, definition, start, end, documented=documented)
    if documented and definition.docstring is not None and definition.documentation:
        raw = decoded(parsed.source[slice(*definition.docstring)])
        head += f"\n{MEMBER_INDENT}{shaped(raw, definition.documentation)}"
    return head


def render_members(parsed: ParsedFile, definition: Definition) -> list[tuple[int, str]]:
    """Where each member of a class begins, and its signature, or its text on one line if it has none."""
    assert definition.body is not None
    members: list[tuple[int, str]] = []
    children, index = definition.children, 0
    for node in definition.body.named_children:
        start, end = node.start_byte, node.end_byte
        if parsed.leads.is_one(start, end) or (definition.docstring and definition.docstring[0] == start):
            continue
        while index < len(children) and children[index].end_byte <= start:
            index += 1
        if index == len(children) or children[index].head_byte >= end:
            members.append((start, _one_line(parsed.source, start, end)))
            continue
        child = children[index]
        if child.nodes[0].start_byte < start:
            continue  # a further clause of what has been listed
        # Something around definitions, a companion object or a condition: its head, and what it defines.
        head = _one_line(parsed.source, start, max(child.start_byte, start)).strip(" {;")
        if head and child.head_byte > start:
            members.append((start, head))
        while index < len(children) and children[index].head_byte < end:
            members.append((children[index].head_byte, children[index].signature))
            index += 1
        index -= 1  # the last one may have further clauses
    return members


def has_members(definition: Definition) -> bool:
    """Whether it is rendered as a head and members, and not as its code."""
    return definition.kind in {"class", "module"} and definition.body is not None


def class_pieces(parsed: ParsedFile, definition: Definition) -> Pieces:
    """A class's head and members, each a piece."""
    places = [(text_start(parsed, definition.start_byte), 0)]
    texts = [render_head(parsed, definition, documented=True)]
    for offset, text in render_members(parsed, definition):
        places.append((offset, 0))
        texts.append(MEMBER_INDENT + text)
    return Pieces(places, text_end(parsed.source, definition.end_byte), texts)


def render_pieces(
    parsed: ParsedFile, definition: Definition, pieces: Pieces, begin: int, end: int, *, documented: bool
) -> str:
    """The text of pieces `begin` to `end`, the latter not included."""
    if not has_members(definition):
        return render_range(
            parsed, definition, pieces.begins_at(begin), pieces.begins_at(end), documented=documented
        )
    texts = pieces.texts[begin:end]
    if begin == 0 and not documented:
        texts[0] = render_head(parsed, definition, documented=False)
    return "\n".join(texts)


def render_undocumented(parsed: ParsedFile, definition: Definition, pieces: Pieces, end: int) -> str | None:
    """The text of the pieces before `end` without documentation; None if that leaves but the signature."""
    text = render_pieces(parsed, definition, pieces, 0, end, documented=False)
    if has_members(definition):
        return text if end > 1 else None
    if definition.body is None or definition.open_byte is None:
        return text if "\n" in text else None
    body_end = min(pieces.begins_at(end), definition.end_byte)
    body = (
        render_range(parsed, definition, definition.open_byte, body_end, documented=False)
        if definition.docstring
        else decoded(parsed.source[definition.open_byte : body_end])
    )
    return None if is_empty_body(body) else text


def _one_line(source: bytes, start: int, end: int) -> str:
    text = " ".join(decoded(source[start:end]).split())
    return text if len(text) <= MAX_MEMBER_CHARS else text[: MAX_MEMBER_CHARS - 1] + "…"
