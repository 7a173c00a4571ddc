"""Splits what is too long for the encoder: where statements begin, and as near the surface as possible."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

import tree_sitter

from pipeline.corpus.definitions import Definition
from pipeline.corpus.parsing import ParsedFile
from pipeline.corpus.rendering import Pieces, decoded, render_range, text_end, text_start

# The fields in which a block's statements may stand; what is in another one is a condition or a value.
_STATEMENT_FIELDS = {None, "body", "member"}
LAST_RESORT = 1000
# A part is not made smaller than this share of the size aimed at, just to split nearer to the surface.
_MIN_SHARE = 0.5


def split_places(parsed: ParsedFile, definition: Definition) -> list[tuple[int, int]]:
    """Where a function may be split: (byte, number of blocks around it), in file order.

    These are the beginnings of statements. The first in its block had better stay with what introduces it, so
    it counts as `LAST_RESORT` deeper; right after the signature and the docstring there is no such place at
    all. Comments right before a statement stay with it.
    """
    places: dict[int, int] = {}
    nodes, docstring = definition.nodes, definition.docstring[0] if definition.docstring else None
    for node in nodes:
        if node is not nodes[0]:
            places[_place(parsed, node.start_byte, nodes[0].start_byte)] = 0
        ends: list[int] = []
        for block in _blocks(parsed, node):
            while ends and ends[-1] <= block.start_byte:
                ends.pop()
            ends.append(block.end_byte)
            floor, depth = 0, len(ends) + LAST_RESORT
            for start, end in _statements(parsed, block):
                if start == docstring:
                    continue
                if floor or len(ends) > 1:
                    place = _place(parsed, start, floor)
                    places[place] = min(depth, places.get(place, depth))
                floor, depth = end, len(ends)
    return sorted(places.items())


def _blocks(parsed: ParsedFile, node: tree_sitter.Node) -> list[tree_sitter.Node]:
    """The blocks in a node, itself included."""
    start, end = node.start_byte, node.end_byte
    first, after = (bisect_left(parsed.blocks, at, key=lambda block: block.start_byte) for at in (start, end))
    around: set[int] = set()  # of the same extent, or of a longer one with the same beginning
    parent = node.parent
    while parent is not None and parent.start_byte == start:
        around.add(parent.id)
        parent = parent.parent
    return [block for block in parsed.blocks[first:after] if block.id not in around]


def _statements(parsed: ParsedFile, block: tree_sitter.Node) -> list[tuple[int, int]]:
    """The byte range of each statement of a block. A cursor walks it: a block may have very many children."""
    cursor = block.walk()
    statements: list[tuple[int, int]] = []
    more = cursor.goto_first_child()
    while more:
        node = cursor.node
        if node is not None and node.is_named and cursor.field_name in _STATEMENT_FIELDS:
            start, end = node.start_byte, node.end_byte
            if node.id not in parsed.clauses and not parsed.leads.is_one(start, end):
                statements.append((start, end))
        more = cursor.goto_next_sibling()
    return statements


def _place(parsed: ParsedFile, statement: int, floor: int) -> int:
    """Where to split before a statement: before the comments and attributes that lead up to it."""
    chain = parsed.leads.before(statement, floor)
    return text_start(parsed, chain[0][0] if chain else statement)


def whole_function(parsed: ParsedFile, definition: Definition) -> Pieces:
    """A function in one piece."""
    start, end = text_start(parsed, definition.start_byte), text_end(parsed.source, definition.end_byte)
    return Pieces([(start, 0)], end, [render_range(parsed, definition, start, end, documented=True)])


def function_pieces(parsed: ParsedFile, definition: Definition) -> Pieces:
    """A function in its smallest pieces."""
    start, end = text_start(parsed, definition.start_byte), text_end(parsed.source, definition.end_byte)
    places = [(start, 0), *split_places(parsed, definition)]
    bounds = [*(place for place, _ in places), end]
    # These texts are only counted, so it is enough that the documentation is shortened in them.
    last = max((end for _, end in definition.documentation_spans), default=start)
    texts = [
        render_range(parsed, definition, begin, end, documented=True)
        if begin < last
        else decoded(parsed.source[begin:end])
        for begin, end in pairwise(bounds)
    ]
    return Pieces(places, end, texts)


def pack(sizes: Sequence[int], depths: Sequence[int], first_budget: int, budget: int) -> list[int]:
    """Packs pieces into parts of about equal size that keep within the budget.

    Args:
        sizes: Tokens of each piece.
        depths: How deep the beginning of each piece is nested.
        first_budget: Tokens the first part may have.
        budget: Tokens each further part may have, besides the signature it is given.

    Returns:
        The index of the piece that begins each part; the first is 0. A piece that is over the budget on its
        own is a part on its own.
    """
    begins = [0]
    rest = sum(sizes)
    while True:
        begin = begins[-1]
        limit = first_budget if begin == 0 else budget
        if rest <= limit:
            return begins
        # As many parts as are needed anyway, of equal size, rather than full ones and a scrap.
        aim = rest / (1 + -(-(rest - limit) // budget))
        size, best, last = 0, None, begin + 1
        for index in range(begin + 1, len(sizes)):
            size += sizes[index - 1]
            if size > limit:
                break
            last = index
            if size >= aim * _MIN_SHARE:
                rank = (depths[index], abs(size - aim))
                if best is None or rank < best[0]:
                    best = (rank, index)
        chosen = best[1] if best else last
        if chosen >= len(sizes):
            return begins
        begins.append(chosen)
        rest -= sum(sizes[begin:chosen])
