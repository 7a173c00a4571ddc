"""What stands before a definition and belongs to it: comments that document it, decorators, attributes."""

from __future__ import annotations

from bisect import bisect_left

from pipeline.corpus.documentation import comment_lead, is_line_comment


class Leads:
    """The comments and attributes of one file, by their place.

    Args:
        source: The file.
        comments: Byte range of every comment.
        attributes: Byte range of every attribute, wherever it stands.
    """

    def __init__(
        self, source: bytes, comments: list[tuple[int, int]], attributes: list[tuple[int, int]]
    ) -> None:
        self._source = source
        self._ranges = {*comments, *attributes}
        # A grammar may count the line break as part of a comment. A place that is both is a comment.
        places = {start: (start, end, False) for start, end in attributes}
        places |= {start: (start, trimmed(source, start, end), True) for start, end in comments}
        self._places = sorted(places.values())
        self._starts = [place[0] for place in self._places]

    def before(self, offset: int, floor: int = 0) -> list[tuple[int, int, bool]]:
        """What leads up to `offset` without a gap, as (start, end, whether it is a comment), in file order.

        A comment counts if it has its line to itself and no blank line follows it. What begins before `floor`
        does not count.
        """
        source = self._source
        chain: list[tuple[int, int, bool]] = []
        index = bisect_left(self._starts, offset) - 1
        while index >= 0:
            start, end, is_comment = self._places[index]
            # The length first: what is far away would be copied to be looked at.
            if start < floor or offset - end > 1000:
                break
            gap = source[end:offset] if end <= offset else b"x"
            if not (gap.isspace() or not gap):
                break
            if is_comment and (gap.count(b"\n") > 1 or not self.alone_before(start)):
                break
            chain.append((start, end, is_comment))
            offset = start
            index -= 1
        chain.reverse()
        return chain

    def within(self, start: int, end: int) -> list[tuple[int, int, bool]]:
        """All comments and attributes that begin in a byte range, in file order."""
        return self._places[bisect_left(self._starts, start) : bisect_left(self._starts, end)]

    def is_one(self, start: int, end: int) -> bool:
        """Whether exactly this is a comment or an attribute."""
        return (start, end) in self._ranges

    def alone_before(self, offset: int) -> bool:
        """Whether nothing but white space stands before `offset` on its line."""
        return self.line_start(offset) is not None

    def line_start(self, offset: int) -> int | None:
        """Where the line of `offset` begins; None if something but white space stands before it there."""
        start = self._source.rfind(b"\n", 0, offset) + 1
        return start if start == offset or self._source[start:offset].isspace() else None

    def documentation(self, chain: list[tuple[int, int, bool]]) -> tuple[list[tuple[int, int]], str]:
        """The comments of a chain that document what follows, and their lead; ([], "") if they do not.

        Of several comments the last that says something counts, line comments in a row being one.
        """
        groups: list[list[tuple[int, int, str]]] = []
        for start, end, is_comment in chain:
            if is_comment:
                text = self._source[start:end].decode("utf-8", "replace")
                if groups and is_line_comment(text) and is_line_comment(groups[-1][-1][2]):
                    groups[-1].append((start, end, text))
                else:
                    groups.append([(start, end, text)])
        for group in reversed(groups):
            if lead := comment_lead([text for _, _, text in group]):
                return [(start, end) for start, end, _ in group], lead
        return [], ""


def trimmed(source: bytes, start: int, end: int) -> int:
    """Where what stands from `start` to `end` ends without white space. Copied only if there is any."""
    return start + len(source[start:end].rstrip()) if source[end - 1 : end].isspace() else end
